"""Print a software bill of materials (CycloneDX 1.6, JSON), from what dpkg and pip wrote down.

    .ci/sbom.py image ROOT NAME ID    an image, whose root directory is ROOT and whose ID is sha256:...
    .ci/sbom.py wheel                 the project, with what requirements.lock pins

The same contents give the same text: there is no time in it, and its serial number follows from the rest.
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Part:
    """One component: `purl` is its package URL, `needs` the names of others of its `kind` (deb, pypi, generic)."""

    kind: str
    name: str
    version: str
    purl: str
    license: str = ""
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


# -- what dpkg says --------------------------------------------------------------------------------------------------


def of_dpkg(root: Path) -> Iterator[Part]:
    """The Debian packages that are installed below `root`; none where there is no dpkg."""
    status = root / "var/lib/dpkg/status"
    system = of_system(root)
    for stanza in (status.read_text(encoding="utf-8") if status.exists() else "").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            yield _deb(fields, system)


def _deb(fields: dict[str, str], system: dict[str, str]) -> Part:
    name, version = fields["Package"], fields["Version"]
    # Debian tells of vulnerabilities by source package.
    source = fields.get("Source", name).partition(" ")[0]
    distribution = f"{system.get('ID', 'debian')}-{system.get('VERSION_ID', '')}".rstrip("-")
    qualifiers = f"arch={fields['Architecture']}&distro={distribution}&upstream={quote(source)}"
    purl = f"pkg:deb/{system.get('ID', 'debian')}/{quote(name, safe='')}@{quote(version, safe='')}?{qualifiers}"
    asked = ",".join(fields.get(key, "") for key in ("Pre-Depends", "Depends"))
    return Part("deb", name, version, purl, needs=_names(asked), provides=_names(fields.get("Provides", "")))


def _names(relations: str) -> tuple[str, ...]:
    """The names of a Depends or Provides field; of alternatives all."""
    return tuple(re.split(r"[ (:]", one.strip())[0] for one in re.split(r"[,|]", relations) if one.strip())


def of_system(root: Path) -> dict[str, str]:
    """The fields of os-release; empty where there is none."""
    path = root / "etc/os-release"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {key: value.strip('"') for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


# -- what pip says ---------------------------------------------------------------------------------------------------


def of_pip(root: Path) -> Iterator[Part]:
    """The Python packages below `root`, and the Python itself where it is no Debian package's."""
    folders = [folder for folder, _, _ in os.walk(root) if folder.endswith(("/site-packages", "/dist-packages"))]
    for found in distributions(path=sorted(folders)):
        yield _pypi(found)
    if not (root / "usr/bin/python3").exists():
        made_by = "\n".join(path.read_text(encoding="utf-8") for path in root.glob("opt/*/pyvenv.cfg"))
        for version in sorted({*re.findall(r"^version = (\S+)", made_by, re.MULTILINE)}):
            yield Part("generic", "python", version, f"pkg:generic/python@{version}", "PSF-2.0")


def _pypi(found: Distribution) -> Part:
    fields: Any = found.metadata
    asked = [one for one in found.requires or [] if "extra ==" not in one]
    needs = tuple(_normal(re.split(r"[^\w.-]", one)[0]) for one in asked)
    return python_part(fields["Name"], fields["Version"], fields["License-Expression"] or "", needs)


def python_part(name: str, version: str, expression: str = "", needs: tuple[str, ...] = ()) -> Part:
    """A Python package; `expression` is its licence as SPDX has it."""
    name = _normal(name)
    return Part("pypi", name, version, f"pkg:pypi/{name}@{quote(version, safe='')}", expression, needs)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# -- the document ----------------------------------------------------------------------------------------------------


def document(about: dict[str, Any], parts: list[Part], *others: dict[str, Any]) -> dict[str, Any]:
    """The bill of `about` (a component, whose bom-ref is "this"), which has these parts and other components."""
    parts = sorted(set(parts), key=lambda part: part.purl)
    graph = {part.purl: sorted(_needed(part, parts)) for part in parts}
    wanted = {purl for several in graph.values() for purl in several}
    graph["this"] = sorted(graph.keys() - wanted) or sorted(graph)
    tool = {"type": "application", "name": "sbom.py", "group": "dicom-listener"}
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [tool]},
            "component": {"bom-ref": "this", **about},
        },
        "components": [*others, *(_component(part) for part in parts)],
        "dependencies": [{"ref": ref, "dependsOn": several} for ref, several in sorted(graph.items())],
    }
    return {**found, "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, json.dumps(found, sort_keys=True))}"}


def _needed(part: Part, parts: list[Part]) -> set[str]:
    """What of these the part needs; of alternatives all that are there."""
    return {
        one.purl
        for one in parts
        if one.kind == part.kind and one is not part and {one.name, *one.provides} & {*part.needs}
    }


def _component(part: Part) -> dict[str, Any]:
    kind = "platform" if part.kind == "generic" else "library"
    found = {"bom-ref": part.purl, "type": kind, "name": part.name, "version": part.version, "purl": part.purl}
    return found | ({"licenses": [{"expression": part.license}]} if part.license else {})


# -- of what ---------------------------------------------------------------------------------------------------------


def of_image(root: Path, name: str, identity: str) -> dict[str, Any]:
    """The bill of an image; the component's hash is the image's ID."""
    digest = {"alg": "SHA-256", "content": identity.removeprefix("sha256:")}
    about = {"type": "container", "name": name, "version": version_of_project(), "hashes": [digest]}
    system = of_system(root)
    below = {"type": "operating-system", "name": system["ID"], "version": system.get("VERSION_ID", "")}
    return document(about, [*of_dpkg(root), *of_pip(root)], {"bom-ref": "system", **below})


def of_wheel() -> dict[str, Any]:
    """The bill of the wheel: what it needs, in the versions that were tested."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = python_part(project["name"], version_of_project(), project["license"])
    pinned = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (PROJECT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    component = {key: value for key, value in _component(about).items() if key != "bom-ref"}
    return document({**component, "type": "application"}, [python_part(name, version) for name, version in pinned])


def version_of_project() -> str:
    """`__version__` as it is written."""
    for line in (PROJECT / "listener/__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return str(ast.literal_eval(line.partition("=")[2].strip()))
    raise SystemExit("sbom: listener/__init__.py has no __version__")


def main(arguments: list[str]) -> int:
    """Print the bill of what the arguments name."""
    match arguments:
        case ["image", root, name, identity]:
            found = of_image(Path(root), name, identity)
        case ["wheel"]:
            found = of_wheel()
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

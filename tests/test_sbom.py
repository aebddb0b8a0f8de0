"""Bills of materials, from what dpkg and pip wrote down."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from listener import __version__
from tests.conftest import PROJECT
from tests.sbom import faults, generator

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.41-12)
Version: 2.41-12+deb13u1
Provides: libc

Package: dcmtk
Status: install ok installed
Architecture: amd64
Version: 3.6.9-5
Pre-Depends: libc (>= 2.38)
Depends: libdcmtk19 (= 3.6.9-5) | libdcmtk20, adduser
Description: DICOM toolkit
 libdcmtk19 is in this text too

Package: libdcmtk19
Status: install ok installed
Architecture: amd64
Source: dcmtk
Version: 3.6.9-5

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of an image: Debian's packages, a Python of its own, two Python packages."""
    for name, text in {
        "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
        "var/lib/dpkg/status": STATUS,
        "opt/listener/pyvenv.cfg": "home = /usr/local/bin\nversion = 3.13.5\n",
        **_package(
            "Some_Tool", "1.2", "License-Expression: MIT", "Requires-Dist: helper >=2", 'Requires-Dist: x; extra == "y"'
        ),
        **_package("helper", "2.1+local"),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _package(name: str, version: str, *more: str) -> dict[str, str]:
    folder = f"opt/listener/lib/python3.13/site-packages/{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": "\n".join(("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *more)) + "\n"
    }


def bill(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = generator().of_image(root, "listener", "sha256:" + "a" * 64)
    return found


LIBC = "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13&upstream=glibc"
DCMTK = "pkg:deb/debian/dcmtk@3.6.9-5?arch=amd64&distro=debian-13&upstream=dcmtk"
LIBDCMTK = "pkg:deb/debian/libdcmtk19@3.6.9-5?arch=amd64&distro=debian-13&upstream=dcmtk"
PYTHON = "pkg:generic/python@3.13.5"
TOOL, HELPER = "pkg:pypi/some-tool@1.2", "pkg:pypi/helper@2.1%2Blocal"


def test_every_package_has_its_url(root: Path) -> None:
    """Debian's with the source package, by which Debian tells of vulnerabilities."""
    found = {one["purl"]: one for one in bill(root)["components"] if "purl" in one}
    assert found.keys() == {LIBC, DCMTK, LIBDCMTK, PYTHON, TOOL, HELPER}
    assert found[TOOL]["licenses"] == [{"expression": "MIT"}]
    assert "licenses" not in found[HELPER]


def test_it_is_told_what_needs_what(root: Path) -> None:
    graph = {one["ref"]: one["dependsOn"] for one in bill(root)["dependencies"]}
    assert graph[DCMTK] == [LIBC, LIBDCMTK]
    assert graph[TOOL] == [HELPER]
    assert graph["this"] == [DCMTK, PYTHON, TOOL]


def test_the_system_and_the_image_itself_are_named(root: Path) -> None:
    found = bill(root)
    assert {"bom-ref": "system", "type": "operating-system", "name": "debian", "version": "13"} in found["components"]
    about = found["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == ("container", "listener", __version__)
    assert about["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_the_python_of_debian_is_told_once(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3").touch()
    assert PYTHON not in {one.get("purl") for one in bill(root)["components"]}


def test_the_same_contents_give_the_same_text(root: Path) -> None:
    first = bill(root)
    assert first == bill(root)
    (root / "etc/os-release").write_text("ID=debian\nVERSION_ID=14\n")
    assert first["serialNumber"] != bill(root)["serialNumber"]


def test_the_wheel_has_what_the_project_needs() -> None:
    done = subprocess.run(
        [sys.executable, ".ci/sbom.py", "wheel"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    about = found["metadata"]["component"]
    assert (about["purl"], about["licenses"]) == (f"pkg:pypi/dicom-listener@{__version__}", [{"expression": "MIT"}])
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = {one.partition(" ")[0] for one in project["dependencies"]}
    assert {one["name"] for one in found["components"]} >= needed
    assert not faults(found)


def test_it_is_what_cyclonedx_says(root: Path) -> None:
    found = bill(root)
    assert not faults(found)
    del found["components"][1]["name"]
    assert "name" in faults(found), "a fault would be seen"


def test_wrong_arguments_are_answered_with_the_usage() -> None:
    with pytest.raises(SystemExit, match="wheel"):
        generator().main(["image"])

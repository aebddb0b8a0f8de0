"""The listener's image: what is in it, and that it takes, serves, drains and loses nothing as the least of users."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from listener import __version__
from listener.quickstart.synthetic import make_series
from tests import sbom
from tests.accounting import account, sent
from tests.authority import Authority
from tests.conftest import PROJECT
from tests.containers.podman import HARDENED, IMAGES, LISTENER, STORESCP, UID, inspect, podman, started, tool, why_not
from tests.service_process import Places
from tests.waiting import until

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]


@pytest.fixture(scope="module", autouse=True)
def _containers() -> None:
    missing = why_not()
    if missing:
        pytest.skip(missing)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume that belongs to the image's user."""
    path = tmp_path / "volume"
    path.mkdir()
    os.chown(path, UID, UID)
    yield path
    shutil.rmtree(path)


def places(volume: Path) -> Places:
    return Places(volume, (volume / "incoming",), volume / "data", volume / "log", volume / "state")


def drop(volume: Path, files: int) -> list[Path]:
    """Instances as storescp would have written them: by the same user, closed after writing."""
    made = volume.parent / "made"
    make_series(made, instances=files)
    incoming = volume / "incoming"
    incoming.mkdir(exist_ok=True)
    os.chown(incoming, UID, UID)
    dropped = []
    for number, path in enumerate(sorted(one for one in made.rglob("*") if one.is_file())):
        target = incoming / f"{number:05}-{path.name}"
        shutil.copyfile(path, target)
        os.chown(target, UID, UID)
        dropped.append(target)
    return sorted(made.rglob("MR.*"))


def located(volume: Path) -> None:
    """Documents name paths of the container: as seen from here."""
    for document in (volume / "log").rglob("*.json"):
        document.write_text(document.read_text().replace('"/dicom/data/', f'"{volume}/data/'))


def test_what_the_image_says_of_itself() -> None:
    config = inspect(LISTENER)["Config"]
    assert config["User"] == f"{UID}:{UID}", "numeric, so that runAsNonRoot can be seen to hold"
    assert config["Entrypoint"] == ["/opt/listener/bin/listener"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert not config.get("Volumes")
    told = {image: inspect(image)["Config"]["Labels"] for image in (LISTENER, STORESCP)}
    for labels in told.values():
        for key in ("title", "description", "authors", "licenses", "base.name"):
            assert labels[f"org.opencontainers.image.{key}"], key
    assert told[LISTENER]["org.opencontainers.image.title"] == "dicom-listener"
    assert told[LISTENER]["org.opencontainers.image.version"] == __version__
    assert told[LISTENER]["org.opencontainers.image.base.name"] == "docker.io/library/python:3.13-slim"
    assert inspect(LISTENER)["Healthcheck"]["Test"][0] == "CMD"
    assert inspect(STORESCP)["Config"]["User"] == f"{UID}:{UID}"
    assert "TCP_NODELAY=1" in inspect(STORESCP)["Config"]["Env"]


_CONTENTS = """
import importlib.util, json, pathlib, shutil
home = pathlib.Path('/opt/listener')
print(json.dumps({
    'pip': importlib.util.find_spec('pip') is not None,
    'compilers': [name for name in ('cc', 'gcc', 'g++', 'make') if shutil.which(name)],
    'tests': len([*home.rglob('test_*.py')]),
    'caches': len([*home.rglob('__pycache__')]),
    'source': pathlib.Path('/src').exists(),
}))
"""

_UNCOMPILED = """
import json, os, sys
import listener.service.run, listener.service.worker, pydicom
caches = {name: getattr(module, '__cached__', None) for name, module in sys.modules.items()}
print(json.dumps([name for name, path in caches.items() if path and not os.path.exists(path)]))
"""


def python(code: str) -> Any:
    """What a program prints as JSON, run by the image's Python."""
    own = ("--rm", "--no-healthcheck", "--network", "none", "--entrypoint", "python")
    return json.loads(podman("run", *own, *HARDENED, LISTENER, "-c", code).stdout)


def test_nothing_needless_is_in_it() -> None:
    assert python(_CONTENTS) == {"pip": False, "compilers": [], "tests": 0, "caches": 0, "source": False}


def test_its_manual_and_completions_are_there() -> None:
    wanted = ["man/man1/listener-run.1", "bash-completion/completions/listener"]
    there = f"[name for name in {wanted} if os.path.isfile('/opt/listener/share/' + name)]"
    assert python(f"import json, os; print(json.dumps({there}))") == wanted


_PACKAGES = """
import importlib.metadata as m, json, subprocess
deb = subprocess.run(['dpkg-query', '-W', '-f', '${Package}\\n'], capture_output=True, text=True).stdout.split()
print(json.dumps([deb, [one.metadata['Name'].lower().replace('_', '-') for one in m.distributions()]]))
"""


def test_the_bills_of_materials_name_all_that_is_in_the_images() -> None:
    for part, image in (("listener", LISTENER), ("storescp", STORESCP)):
        bill = json.loads((IMAGES / f"{part}.cdx.json").read_text())
        (digest,) = bill["metadata"]["component"]["hashes"]
        assert digest["content"] == inspect(image)["Id"].removeprefix("sha256:")
        assert not sbom.faults(bill)
        named = {kind: {one["name"] for one in bill["components"] if one.get("purl", "").startswith(f"pkg:{kind}/")}
                 for kind in ("deb", "pypi")}  # fmt: skip
        if image == LISTENER:
            packages, distributions = python(_PACKAGES)
            assert named["pypi"] >= {*distributions} >= {"dicom-listener", "pydicom"}
        else:
            own = ("--rm", "--network", "none", "--entrypoint", "dpkg-query")
            packages = podman("run", *own, *HARDENED, STORESCP, "-W", "-f", "${Package}\n").stdout.split()
            assert "dcmtk" in packages
        assert named["deb"] == {*packages}


def test_byte_code_is_compiled_once() -> None:
    """Every module that the service imports is there as byte code, the standard library's too."""
    assert python(_UNCOMPILED) == []


def test_a_file_is_taken_and_counted(volume: Path) -> None:
    with started(volume) as container:
        container.until_ready()
        instances = drop(volume, 1)
        until(lambda: 'listener_files_processed_total{outcome="published"} 1.0' in container.get("/metrics"), 20)
        events = [json.loads(line) for line in container.logs().splitlines() if line.startswith("{")]
        assert any(event.get("event") == "published" for event in events)
        assert container.run_in("id", "-u").strip() == str(UID)
        assert container.stop() == 0
    located(volume)
    account(places(volume), sent(instances))


def test_the_health_check_is_the_image_s_own(volume: Path, tmp_path: Path) -> None:
    check = inspect(LISTENER)["Healthcheck"]["Test"][1:]
    with started(volume, more=("-e", "LISTENER_HTTP=127.0.0.1:9555")) as container:
        until(lambda: podman("exec", container.identity, *check, check=False).returncode == 0, 30)
    with started(volume, more=("-e", "LISTENER_HTTP=off")) as container:
        assert podman("exec", container.identity, *check, check=False).returncode != 0
    secrets = Authority(tmp_path / "authority").certify("listener")
    for path in secrets.iterdir():
        os.chown(path, UID, UID)
    https = [("-e", f"LISTENER_HTTP_{name}=/run/tls/tls.{end}") for name, end in (("CERT", "crt"), ("KEY", "key"))]
    with started(volume, more=(*https[0], *https[1], "-v", f"{secrets}:/run/tls:ro")) as container:
        until(lambda: podman("exec", container.identity, *check, check=False).returncode == 0, 30)


def test_a_stop_with_work_in_flight_loses_nothing(volume: Path) -> None:
    with started(volume) as container:
        container.until_ready()
        instances = drop(volume, 1500)
        assert container.stop() == 0
        assert '"event":"stopped"' in container.logs()
    with started(volume) as container:
        container.until_ready()
        until(lambda: not any((volume / "incoming").iterdir()), 60, what="what was left is done")
        assert container.stop() == 0
    located(volume)
    account(places(volume), sent(instances))


def test_a_forgotten_volume_is_told_in_one_line() -> None:
    told = podman("run", "--rm", "--no-healthcheck", "--network", "none", *HARDENED, LISTENER, check=False)
    assert told.returncode == 2
    assert "--incoming: cannot make '/dicom/incoming' (Read-only file system); mount a volume there" in told.stderr
    assert told.stderr.count("\n") <= 4, told.stderr


def test_a_volume_of_another_user_is_told_in_one_line(volume: Path) -> None:
    os.chown(volume, 0, 0)
    command = ("run", "--rm", "--no-healthcheck", "--network", "none", *HARDENED, "-v", f"{volume}:/dicom", LISTENER)
    told = podman(*command, check=False)
    assert told.returncode == 2
    assert f"'/dicom' belongs to uid 0, this process is uid {UID}" in told.stderr


def test_a_wrong_layout_is_told_in_one_line(volume: Path) -> None:
    (volume / "incoming").write_text("a file where a directory should be")
    command = ("run", "--rm", "--no-healthcheck", "--network", "none", *HARDENED, "-v", f"{volume}:/dicom", LISTENER)
    told = podman(*command, check=False)
    assert told.returncode == 2
    assert "cannot make '/dicom/incoming' ('/dicom/incoming' is not a directory); give a directory" in told.stderr
    assert told.stderr.count("\n") == 1


def flags(service: dict[str, Any]) -> list[str]:
    """What compose.yaml says of how a service is run, for podman; no address and no volume of its own."""
    said: dict[str, Callable[[Any], list[str]]] = {
        "user": lambda value: ["--user", value],
        "read_only": lambda value: ["--read-only", "--read-only-tmpfs=false"] if value else [],
        "cap_drop": lambda value: [f"--cap-drop={each}" for each in value],
        "security_opt": lambda value: [f"--security-opt={each.removesuffix(':true')}" for each in value],
        "init": lambda value: ["--init"] if value else [],
        "mem_limit": lambda value: [],  # Memory is not limited where the control groups are another's.
    }
    elsewhere = {"image", "build", "restart", "environment", "volumes", "ports", "stop_grace_period", "command", "pid"}
    assert service.keys() <= said.keys() | elsewhere | {"depends_on"}
    return [flag for key, value in service.items() if key in said for flag in said[key](value)]


def test_compose_s_two_containers_receive_together(volume: Path) -> None:
    """As compose.yaml runs them: they share processes, and C-STORE goes through."""
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    make_series(volume.parent / "made", instances=5)
    with started(volume, more=tuple(flags(services["listener"]))) as container:
        container.until_ready()
        shared = f"container:{container.identity}"
        assert services["storescp"]["pid"] == "service:listener"
        beside = (*flags(services["storescp"]), "--pid", shared, "--network", shared)
        command = ("run", "--detach", "--no-healthcheck", *beside, "-v", f"{volume}:/dicom", STORESCP)
        receiver = podman(*command, *services["storescp"]["command"]).stdout.strip()
        try:
            made = ("-v", f"{volume.parent}/made:/made:ro", "--entrypoint", "storescu", STORESCP)
            send = (
                "run",
                "--rm",
                *HARDENED,
                "--network",
                shared,
                *made,
                "-v",
                "+sd",
                "+r",
                "localhost",
                "11112",
                "/made",
            )
            until(lambda: "Success" in (done := podman(*send, check=False)).stdout + done.stderr, 30)
            until(lambda: len(list((volume / "data").rglob("*.dcm"))) == 5, 30, what="all five are published")
            found = container.run_in("listener", "check")
            assert "storescp writes into '/dicom/incoming' with options that fit" in found
            podman("stop", "--time", "200", receiver)
            assert int(podman("wait", receiver).stdout) != 128 + signal.SIGKILL, "not process 1, it heeds SIGTERM"
            assert container.stop() == 0
        finally:
            podman("rm", "--force", "--time", "1", receiver)


_STATUS = """
import sys, urllib.error, urllib.request as u
asked = u.Request('http://127.0.0.1:9464/', headers={'Authorization': 'Bearer ' + sys.argv[1]} if sys.argv[1:] else {})
try: print(u.urlopen(asked, timeout=120).status)
except urllib.error.HTTPError as error: print(error.code)
"""


def test_secure_compose_takes_who_shows_a_certificate_or_a_token(volume: Path, tmp_path: Path) -> None:
    """compose.secure.yaml over compose.yaml: its mounts, variables and command, with secrets of uid 10001."""
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    over = yaml.safe_load((PROJECT / "docs/compose.secure.yaml").read_text())["services"]
    secrets, token = tmp_path / "secrets", token_hex(32)
    secrets.mkdir()
    shutil.copytree(Authority(tmp_path / "authority").certify("storescp"), secrets / "storescp")
    (secrets / "listener").mkdir()
    (secrets / "listener/tokens").write_text(f"anna:{token}\n")
    for path in secrets.glob("*/*"):
        os.chown(path, UID, UID)
        path.chmod(0o400)
    mounts = {name: ("-v", over[name]["volumes"][0].replace("./secrets", str(secrets))) for name in over}
    variables = [part for name, value in over["listener"]["environment"].items() for part in ("-e", f"{name}={value}")]
    make_series(volume.parent / "made", instances=2)
    with started(volume, more=(*flags(services["listener"]), *mounts["listener"], *variables)) as container:
        container.until_ready()
        assert container.run_in("python", "-c", _STATUS).strip() == "401"
        assert container.run_in("python", "-c", _STATUS, token).strip() == "200"
        shared = f"container:{container.identity}"
        beside = (*flags(services["storescp"]), "--pid", shared, "--network", shared, *mounts["storescp"])
        command = ("run", "--detach", "--no-healthcheck", *beside, "-v", f"{volume}:/dicom", STORESCP)
        receiver = podman(*command, *over["storescp"]["command"]).stdout.strip()
        made = ("-v", f"{volume.parent}/made:/made:ro", "--entrypoint", "storescu", *mounts["storescp"], STORESCP)
        send = ("run", "--rm", *HARDENED, "--network", shared, *made, "-v", "+sd", "+r", "localhost", "11112", "/made")
        tls = ("+tls", "/run/tls/tls.key", "/run/tls/tls.crt", "+cf", "/run/tls/ca.crt")
        try:
            until(lambda: podman(*send, *tls, check=False).returncode == 0, 30, what="they are sent by TLS")
            until(lambda: len(list((volume / "data").rglob("*.dcm"))) == 2, 30, what="both are published")
            assert podman(*send, check=False).returncode != 0, "not in the clear"
            assert container.stop() == 0
        finally:
            podman("rm", "--force", "--time", "1", receiver)


def test_two_builds_give_one_digest(tmp_path: Path) -> None:
    """Each is made from nothing: no layer is taken over."""
    subprocess.run([PROJECT / ".ci/images", "--twice"], check=True, timeout=800, cwd=PROJECT)
    digests = []
    for number, image in enumerate(("localhost/listener:once", "localhost/listener:twice")):
        # Docker's own format also names the host that built it; what a registry is given as OCI does not.
        told = tmp_path / f"digest-{number}"
        tool("buildah", "push", "--format", "oci", "--digestfile", str(told), image, f"oci:{tmp_path}/{number}")
        digests.append(told.read_text())
        podman("rmi", "--force", image, check=False)
    assert digests[0] == digests[1]

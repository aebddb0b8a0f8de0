"""Containers run hardened by podman, with storage and settings of our own (.ci/containers)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.waiting import PATIENCE, until

IMAGES = PROJECT / "build/images"
LISTENER, STORESCP = "localhost/listener:test", "localhost/storescp:test"
UID = 10001

#: What nobody's container needs more of: no network but its pod's, no writable path but its volumes, no privilege.
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges")


def why_not() -> str:
    """What is missing for running containers here; "" when nothing is."""
    if "LISTENER_TEST_CONTAINERS" not in os.environ:
        return "containers are run by `make image-test`"
    if os.geteuid() != 0:
        return "only root can run these containers"
    for program in ("podman", "buildah", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not installed (.ci/need containers)"
    if not (IMAGES / "listener.tar").exists():
        return "there is no build/images/listener.tar (make images)"
    for part in ("listener", "storescp"):
        # Another checkout may have built under the same name.
        podman("load", "--quiet", "--input", str(IMAGES / f"{part}.tar"))
    done = podman("run", "--rm", "--no-healthcheck", "--network", "none", LISTENER, "--version", check=False)
    if done.returncode:
        return f"containers do not run on this machine: {done.stderr.strip()[-300:]}"
    return ""


@cache
def _settings() -> tuple[str, tuple[str, ...]]:
    """The settings file and the options for podman and buildah that the scripts have, which alone name them."""
    script = '. .ci/containers; printf "%s\\n" "$CONTAINERS_CONF" "${storage[@]}"'
    done = subprocess.run(["bash", "-ec", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    file, *storage = done.stdout.splitlines()
    return file, tuple(storage)


def tool(program: str, *arguments: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run podman or buildah on our own storage; it may take PATIENCE times `seconds`. AssertionError if it fails."""
    file, storage = _settings()
    done = subprocess.run(
        [program, *storage, *arguments],
        env={**os.environ, "CONTAINERS_CONF": file},
        capture_output=True,
        text=True,
        timeout=PATIENCE * seconds,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{program} {' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def podman(*arguments: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return tool("podman", *arguments, check=check, seconds=seconds)


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", image).stdout)[0]
    return found


class Container:
    """A container that was started; made by started()."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def run_in(self, *command: str) -> str:
        return podman("exec", self.identity, *command).stdout

    def get(self, path: str) -> str:
        """What its port says: asked from within, as it has no network but its own loopback."""
        code = (
            f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464{path}', timeout=60).read().decode())"
        )
        return self.run_in("python", "-c", code)

    def logs(self) -> str:
        done = podman("logs", self.identity)
        return done.stdout + done.stderr

    def is_ready(self) -> bool:
        return podman("exec", self.identity, "python", "-c", _READY, check=False).returncode == 0

    def until_ready(self) -> None:
        try:
            until(self.is_ready, 30, what="the container is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def stop(self) -> int:
        """As an orchestrator would; the exit status."""
        podman("stop", "--time", "200", self.identity)
        return int(podman("wait", self.identity).stdout)


_READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/readyz', timeout=120)"


@contextmanager
def started(
    volume: Path,
    *arguments: str,
    image: str = LISTENER,
    network: str = "none",
    more: tuple[str, ...] = (),
    only_read: bool = False,
) -> Iterator[Container]:
    """A hardened container with `volume` as its only writable path, or read only; removed when the block is left."""
    mounted = f"{volume}:/dicom{':ro' if only_read else ''}"
    # podman's own health checks want a systemd timer.
    command = ("run", "--detach", "--no-healthcheck", "--network", network, *HARDENED, "-v", mounted, *more)
    container = Container(podman(*command, image, *arguments).stdout.strip())
    try:
        yield container
    finally:
        podman("rm", "--force", "--time", "5", container.identity)

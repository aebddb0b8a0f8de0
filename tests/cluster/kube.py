"""A namespace of a real cluster, by kubectl and helm."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import PROJECT
from tests.waiting import PATIENCE, until

CHART = PROJECT / "helm/listener"
IMAGES = PROJECT / "build/images"

#: What every installation of the tests has: the images that were loaded, and little to ask of a small node.
VALUES: dict[str, Any] = {
    "listener": {
        "image": {"repository": "localhost/listener", "tag": "test", "pullPolicy": "Never"},
        "options": {"workers": 2, "min-free": "32MiB"},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    },
    "storescp": {
        "image": {"repository": "localhost/storescp", "tag": "test", "pullPolicy": "Never"},
        "lingerSeconds": 2,
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
    },
    "persistence": {"size": "100Mi"},
}


class Failed(AssertionError):
    """A command of the cluster's did not succeed; all that it said."""


def run(command: Iterable[str], *, given: bytes | None = None, seconds: float = 120) -> bytes:
    """A command's standard output; it may take PATIENCE times `seconds`."""
    arguments = list(command)
    done = subprocess.run(arguments, input=given, capture_output=True, timeout=PATIENCE * seconds, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise Failed(f"status {done.returncode}: {' '.join(arguments)[:400]}\n{said[-4000:]}")
    return done.stdout


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as helm merges them."""
    found = dict(base)
    for key, value in more.items():
        below = found.get(key)
        found[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace; `storage` is the class of its claims ("" for the cluster's default)."""

    name: str
    storage: str
    scratch: Path

    def kubectl(self, *arguments: str, given: bytes | None = None, seconds: float = 120) -> bytes:
        return run(["kubectl", "-n", self.name, *arguments], given=given, seconds=seconds)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects).encode())

    def secret(self, name: str, folder: Path) -> None:
        """A Secret of the folder's files; one that is there is replaced."""
        made = self.kubectl("create", "secret", "generic", name, f"--from-file={folder}", "--dry-run=client", "-o=json")
        self.kubectl("apply", "-f", "-", given=made)

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def helm(self, *arguments: str, seconds: float = 240) -> str:
        return run(["helm", "-n", self.name, *arguments], seconds=seconds).decode()

    def deploy(self, release: str, values: Mapping[str, Any] | None = None, *, wait: bool = True) -> str:
        """Install or upgrade a release of the chart."""
        path = self.scratch / f"{release}.yaml"
        every = merged(merged(VALUES, {"persistence": {"storageClass": self.storage}}), values or {})
        path.write_text(yaml.safe_dump(every))
        waiting = ("--wait", "--timeout", "600s") if wait else ()
        return self.helm("upgrade", "--install", release, str(CHART), "-f", str(path), *waiting)

    def run_in(self, pod: str, *command: str, container: str = "listener", seconds: float = 60) -> bytes:
        return self.kubectl("exec", pod, "-c", container, "--", *command, seconds=seconds)

    def logs(self, pod: str, container: str) -> str:
        return self.kubectl("logs", pod, "-c", container).decode(errors="replace")

    # -- the listener in a pod

    def page(self, pod: str, path: str = "/metrics") -> str:
        """What a pod's port says, whatever its status."""
        code = (
            "import sys, urllib.request as u, urllib.error as e\n"
            f"try: r = u.urlopen('http://127.0.0.1:9464{path}', timeout=120)\n"
            "except e.HTTPError as error: r = error\n"
            "sys.stdout.write(r.read().decode())"
        )
        return self.run_in(pod, "python", "-c", code).decode()

    def metric(self, pod: str, name: str, labels: str = "") -> float:
        """The sum of the series of `listener_<name>` whose labels hold the text."""
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.page(pod).splitlines()
            if line.partition(" ")[0].partition("{")[0] == f"listener_{name}" and labels in line
        )

    def is_ready(self, pod: str) -> bool:
        conditions = self.get("pod", pod)["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def until_idle(self, pod: str) -> None:
        """Until two rescans that began after now have left nothing pending (gauges are set once a second)."""
        rescans = self.metric(pod, "rescan_duration_seconds_count") + 2
        until(lambda: self.metric(pod, "rescan_duration_seconds_count") >= rescans, 60, what=f"{pod} rescans")
        beat = self.metric(pod, "heartbeat_timestamp_seconds")

        def idle() -> bool:
            assert self.metric(pod, "heartbeat_timestamp_seconds") > beat
            pending = self.metric(pod, "pending_files")
            assert pending == 0, pending
            return True

        until(idle, 60, what=f"{pod} has nothing pending")

    def fetch(self, pod: str, target: Path, *, volume: str = "/dicom", container: str = "listener") -> None:
        """The directories of a collection, as they are."""
        target.mkdir(parents=True)
        packed = self.run_in(pod, "tar", "-C", volume, "-cf", "-", ".", container=container, seconds=120)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(target, filter="tar")
        for document in (target / "log").rglob("*.json"):
            text = document.read_text()
            document.write_text(text.replace(f'"{volume}/data/', f'"{target}/data/'))


def load(archive: Path) -> None:
    """Put an image archive into the nodes."""
    run([*os.environ["CLUSTER_LOAD"].split(), str(archive)], seconds=300)

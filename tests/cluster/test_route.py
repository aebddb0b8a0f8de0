"""The chart with `listener route`: studies go to workers that are pods; one is drained and switched off while they
come, and what a worker makes of them goes back through the receiver inside.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from tests.cluster import senders
from tests.cluster.kube import Namespace
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("cluster")]

RELEASE, POD = "routing", "routing-0"
WORKERS, HOSPITAL, PORT = ("one", "two"), "hospital", 11112

#: Each has an AE title of its own; what storescu sends as STORESCU into the inside comes from the first.
ROUTES = """
[workers.one]
address = "one:11112"
aet = "ONE"
returns-as = ["STORESCU"]
[workers.two]
address = "two:11112"
aet = "TWO"
[destinations.hospital]
address = "hospital:11112"
aet = "HOSPITAL"
[routes.all]
root = "incoming"
workers = ["one", "two"]
results = ["hospital"]
[inside]
roots = ["inside"]
"""

VALUES: dict[str, Any] = {
    "fullnameOverride": RELEASE,
    "networkPolicy": {"enabled": True},
    # A sender that is slow for a while has not ended its series.
    "listener": {"options": {"series-quiet": 10}},
    "route": {
        "enabled": True,
        "routes": ROUTES,
        # Nobody answers most studies: they count as work until their series have ended.
        "options": {"busy": 1, "echo": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    },
}

_MOUNTS = [{"name": "scratch", "mountPath": "/scratch"}]
_WAIT = "import time; time.sleep(86400)"


def machine(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod with a storescp that serves one association at a time, and its Service; `look` is there to read from."""
    common = {"imagePullPolicy": "Never", "securityContext": senders.SECURITY, "volumeMounts": _MOUNTS}
    receiver: dict[str, Any] = {
        **common,
        "name": "storescp",
        "image": "localhost/storescp:test",
        "command": ["storescp", "-pm", "+xa", "+B", "-od", "/scratch", str(PORT)],
        "env": [{"name": "TCP_NODELAY", "value": "1"}],
    }
    look = {**common, "name": "look", "image": "localhost/listener:test", "command": ["python", "-c", _WAIT]}
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 20001, "runAsGroup": 20001, "fsGroup": 20001},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [receiver, look],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
    ports = {"selector": {"app": name}, "ports": [{"port": PORT}]}
    return pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": ports}


def begin(namespace: Namespace, name: str) -> None:
    namespace.apply(*machine(name))
    namespace.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=500s")


def has(namespace: Namespace, name: str) -> dict[str, Dataset]:
    """What a machine has to which nothing comes now, by SOP Instance UID."""
    packed = namespace.run_in(name, "tar", "-C", "/scratch", "-cf", "-", ".", container="look")
    found: dict[str, Dataset] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file:
                found[Path(member.name).name.removeprefix("MR.")] = dcmread(io.BytesIO(file.read()))
    return found


def route(namespace: Namespace, *words: str) -> str:
    """What a command of `listener route` says within the pod; it fails with another status than 0."""
    return namespace.run_in(POD, "listener", "route", *words, container="route", seconds=120).decode()


def lines(namespace: Namespace, event: str) -> list[str]:
    """The lines of an event."""
    return [line for line in namespace.logs(POD, "route").splitlines() if f'"event":"{event}"' in line]


def delivered(namespace: Namespace) -> dict[str, str]:
    """The newest targets of instances that were delivered, by SOP Instance UID."""
    found = map(json.loads, lines(namespace, "delivered"))
    return {line["SOPInstanceUID"]: line["target"] for line in found}


def until_delivered(namespace: Namespace, wanted: AbstractSet[str]) -> dict[str, str]:
    """Until all of these were delivered; the newest target of each."""

    def there() -> dict[str, str]:
        found = delivered(namespace)
        assert not wanted - found.keys(), f"{len(wanted - found.keys())} of {len(wanted)} are not delivered"
        return found

    return until(there, 120)


def is_up(namespace: Namespace, name: str) -> bool:
    """Whether the service has not told that a target is down, or has told since that it is up."""
    told = [line for event in ("down", "up") for line in lines(namespace, event) if f'"target":"{name}"' in line]
    return not told or '"event":"up"' in max(told, key=lambda line: str(json.loads(line)["time"]))


def nothing_is_live(namespace: Namespace) -> bool:
    """Whether no worker has a study that counts: the next ones then go to each in turn, and not to the idle one."""
    live = {one["name"]: one["live"] for one in json.loads(route(namespace, "status", "--json"))["targets"]}
    assert not any(live[name] for name in WORKERS), live
    return True


@pytest.fixture(scope="module")
def routed(namespace: Namespace) -> Iterator[Namespace]:
    """The chart with route, two workers and a hospital; all of it goes afterwards."""
    for name in (*WORKERS, HOSPITAL):
        begin(namespace, name)
    namespace.deploy(RELEASE, VALUES)
    yield namespace
    namespace.helm("uninstall", RELEASE, "--wait")
    namespace.kubectl(
        "delete",
        "--ignore-not-found",
        "--wait=false",
        f"pvc/dicom-{POD}",
        *(f"service/{one}" for one in (*WORKERS, HOSPITAL)),
    )
    namespace.kubectl("delete", "--ignore-not-found", "--wait=false", *(f"pod/{one}" for one in (*WORKERS, HOSPITAL)))


def sent(seed: str, files: int, scratch: Path) -> dict[str, Dataset]:
    return {uid: dcmread(path) for uid, path in senders.expected(seed, files, scratch).items()}


def test_every_container_runs_and_every_target_answers(routed: Namespace) -> None:
    status = routed.get("pod", POD)["status"]
    found = {one["name"]: one["restartCount"] for kind in ("initC", "c") for one in status[f"{kind}ontainerStatuses"]}
    assert {"listener", "storescp", "route", "inside"} <= found.keys()
    assert not any(found.values()), found
    told = route(routed, "check", "--routes", "/etc/route/routes.toml")
    assert all(name in told for name in (*WORKERS, HOSPITAL)), told


def test_a_worker_is_drained_under_load_and_switched_off(routed: Namespace, tmp_path: Path) -> None:
    # So many that they still come when the drain begins.
    seeds, files = [f"routed{number}" for number in range(4)], 100
    wanted: dict[str, Dataset] = {}
    for seed in seeds:
        senders.start(routed, seed, files, RELEASE)
        wanted |= sent(seed, files, tmp_path)
    until(lambda: {*delivered(routed).values()} == {*WORKERS}, 120, what="both workers have something to do")
    route(routed, "drain", "one", "--move", "--wait", "--timeout", "500")
    routed.kubectl("delete", "pod", "one")
    assert {json.loads(line)["reason"] for line in lines(routed, "moved")} == {"drain"}
    senders.start(routed, "after", 3, RELEASE)
    wanted |= sent("after", 3, tmp_path)
    senders.until_acknowledged(routed, seeds, files)
    senders.until_acknowledged(routed, ["after"], 3)
    targets = until_delivered(routed, wanted.keys())
    assert {targets[uid] for uid in wanted} == {"two"}
    assert has(routed, "two") == wanted, "each study is whole at the other worker"
    senders.remove(routed, [*seeds, "after"])


def test_one_that_is_drained_without_a_move_keeps_its_studies_whole(routed: Namespace, tmp_path: Path) -> None:
    begin(routed, "one")
    route(routed, "resume", "one")
    until(lambda: is_up(routed, "one"), 60, what="the worker that comes back is seen")
    until(lambda: nothing_is_live(routed), 60, what="the studies of before have ended")
    seeds, files = [f"kept{number}" for number in range(4)], 30
    wanted = {seed: sent(seed, files, tmp_path) for seed in seeds}
    for seed in seeds:
        senders.start(routed, seed, files, RELEASE)
    new = set().union(*wanted.values())

    def both_have_some() -> bool:
        return {target for uid, target in delivered(routed).items() if uid in new} == {*WORKERS}

    until(both_have_some, 120)
    route(routed, "drain", "two", "--wait", "--timeout", "500")
    there = {"two": has(routed, "two")}
    routed.kubectl("delete", "pod", "two")
    kept = {seed: there["two"].keys() & wanted[seed].keys() for seed in seeds}
    assert {len(of) for of in kept.values()} == {0, files}, "those that it had are whole when it may be switched off"
    senders.start(routed, "late", 3, RELEASE)
    senders.until_acknowledged(routed, [*seeds, "late"], 3)
    wanted["late"] = sent("late", 3, tmp_path)
    until_delivered(routed, set().union(*wanted.values()))
    there["one"] = has(routed, "one")
    for seed, instances in wanted.items():
        name = "two" if kept.get(seed) else "one"
        assert {uid: there[name][uid] for uid in instances} == instances
        assert not instances.keys() & there["one" if name == "two" else "two"].keys()
    senders.remove(routed, [*seeds, "late"])


def test_what_a_worker_makes_of_a_study_goes_back(routed: Namespace, tmp_path: Path) -> None:
    """The worker sends its three originals back, and two more instances of the study, which are its results."""
    senders.start(routed, "late", 5, f"{RELEASE}-inside", 11113, name="inside")
    senders.until_acknowledged(routed, ["inside"], 5)
    results = sent("late", 5, tmp_path / "results").keys() - sent("late", 3, tmp_path).keys()
    assert len(results) == 2
    until_delivered(routed, results)
    assert {line["SOPInstanceUID"] for line in map(json.loads, lines(routed, "returned"))} == results
    assert has(routed, HOSPITAL).keys() == results
    senders.remove(routed, ["inside"])

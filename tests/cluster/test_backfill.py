"""A backfill as the chart makes it: an Indexed Job of parts and a Job that finishes. Pods are deleted and the node is
drained meanwhile; a part that fails by its configuration ends the Job, one with a set-aside file its own index alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.kube import Namespace, run
from tests.cluster.senders import SECURITY
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("cluster")]

PARTS, PATIENTS, EACH = 6, 30, 20

#: Of the parts' pods, among all that the release has.
OURS = "app.kubernetes.io/component=backfill"

_MAKE = f"""
from pathlib import Path
from listener.quickstart.synthetic import Look, make_series
for number in range({PATIENTS}):
    make_series(Path(f'/archive/{{number}}'), instances={EACH}, look=Look(seed=str(number)))
Path('/archive/odd').mkdir()
Path('/archive/odd/text').write_text('no DICOM' * 40)
"""


def claim(name: str, storage: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    if storage:
        spec["storageClassName"] = storage
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(name: str, command: list[str], claims: Mapping[str, str]) -> dict[str, Any]:
    """A pod that runs one command with claims at paths."""
    container = {
        "name": name,
        "image": "localhost/listener:test",
        "imagePullPolicy": "Never",
        "securityContext": SECURITY,
        "command": command,
        "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in claims.items()],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": 20001, "runAsGroup": 20001, "fsGroup": 20001},
        "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims],
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def archive(namespace: Namespace) -> str:
    """A claim with an archive: instances of some patients, and one file that is none."""
    namespace.apply(claim("archive", namespace.storage), claim("tree", namespace.storage))
    namespace.apply(pod("fill", ["python", "-c", _MAKE], {"archive": "/archive"}))
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/fill", "--timeout=500s")
    namespace.kubectl("delete", "pod", "fill")
    return "archive"


@contextmanager
def backfill(namespace: Namespace, name: str, shared: str, **more: Any) -> Iterator[None]:
    """A release that is a backfill alone; its objects go afterwards."""
    wanted = {
        "enabled": True,
        "name": name,
        "completions": PARTS,
        "parallelism": 2,
        "backoffLimitPerIndex": 1,
        "sourceClaim": "archive",
        "sharedClaim": shared,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        **more,
    }
    wanted["options"] = {"workers": 1, "min-free": "1MiB", **more.get("options", {})}
    namespace.deploy("bringing", {"replicas": 0, "fullnameOverride": "bringing", "backfill": wanted}, wait=False)
    try:
        yield
    finally:
        namespace.helm("uninstall", "bringing", "--wait")


def job(namespace: Namespace, name: str) -> dict[str, Any]:
    found: dict[str, Any] = namespace.get("job", f"bringing-{name}")["status"]
    return found


def ended(namespace: Namespace, name: str, kind: str, seconds: float = 240) -> dict[str, Any]:
    """The status of a Job that has ended so (Complete, Failed)."""

    def status() -> dict[str, Any]:
        found = job(namespace, name)
        assert any(one["type"] == kind and one["status"] == "True" for one in found.get("conditions", [])), found
        return found

    return until(status, seconds, what=f"the Job {name} is {kind}")


def pods(namespace: Namespace, phase: str) -> list[str]:
    """The pods of parts (not that of the finishing Job) in a phase."""
    found = namespace.get("pods", "-l", OURS, f"--field-selector=status.phase={phase}")["items"]
    return [one["metadata"]["name"] for one in found if "job-completion-index" in json.dumps(one["metadata"])]


def said(namespace: Namespace, name: str) -> str:
    return namespace.kubectl("logs", f"job/bringing-{name}", "-c", "finish").decode()


def test_a_backfill_outlives_pods_and_a_node_that_is_drained(namespace: Namespace, archive: str) -> None:
    (node,) = [one["metadata"]["name"] for one in namespace.get("nodes")["items"]][:1]
    # Slow enough that a part is seen at work: the phase of a pod is told about once a second.
    slow = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "512Mi"}}
    with backfill(namespace, "first", "tree", tolerateSetAside=True, resources=slow):
        (victim, *_) = until(lambda: pods(namespace, "Running"), 120, what="a part runs")
        namespace.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
        until(lambda: set(pods(namespace, "Running")) - {victim}, 120, what="parts go on")
        drain = ("kubectl", "drain", node, f"--pod-selector={OURS}", "--ignore-daemonsets", "--delete-emptydir-data")
        try:
            run([*drain, "--force", "--timeout=500s"])
            # One that the scheduler had bound a moment before works on to its end.
            until(lambda: not pods(namespace, "Running"), 120, what="no part runs on a node that is drained")
        finally:
            run(["kubectl", "uncordon", node])
        status = ended(namespace, "first", "Complete")
        assert status["completedIndexes"] == f"0-{PARTS - 1}"
        assert not status.get("failedIndexes")
        ended(namespace, "first-finish", "Complete")
        text = said(namespace, "first-finish")
        assert f"{PARTS} parts: {PARTS} ended" in text
        # The archive is read-only, so that what a killed part had in hand is still there, and is a duplicate then.
        told = re.findall(rf"{PATIENTS * EACH + 1} files listed, 100 % done: (.*), 1 set aside", text)
        assert told, text
        kinds = {kind: int(number) for number, kind in map(str.split, told[-1].split(", "))}
        assert kinds.keys() <= {"published", "duplicate"}
        assert sum(kinds.values()) == PATIENTS * EACH
        assert f"{PATIENTS} series in the ledger" in text


def test_a_set_aside_file_fails_its_own_part_alone(namespace: Namespace, archive: str) -> None:
    namespace.apply(claim("second", namespace.storage))
    with backfill(namespace, "second", "second"):
        status = ended(namespace, "second", "Failed")
        assert [one["reason"] for one in status["conditions"] if one["type"] == "Failed"] == ["FailedIndexes"]
        failed = status["failedIndexes"]
        assert failed.isdigit(), "one part has the file"
        assert status["succeeded"] == PARTS - 1
        assert status["failed"] == 1, "it is not tried again: the file would be set aside again"
        ended(namespace, "second-finish", "Complete")
        assert "1 set aside" in said(namespace, "second-finish"), "all parts have ended, so it is finished"


def test_a_wrong_configuration_ends_the_job(namespace: Namespace, archive: str) -> None:
    with backfill(namespace, "third", "second", options={"root-template": "%_foo|3_PatientID"}):
        status = ended(namespace, "third", "Failed")
        (why,) = [one for one in status["conditions"] if one["type"] == "Failed"]
        assert why["reason"] == "PodFailurePolicy"
        assert "exit code 2" in why["message"]
        assert not status.get("succeeded")

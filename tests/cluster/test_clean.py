"""The stage deidentify and the collection of what is clean, as the chart makes them: on claims of their own, with a key
of a Secret, through pods that go; and files that are taken all the same where the key is not there, or is none.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from listener.deidentify.inputs import new_key
from listener.deidentify.keys import Keys
from tests.accounting import files_below, left_over, misdescribed, read_set_aside, read_tree
from tests.cluster import senders
from tests.cluster.kube import Failed, Namespace
from tests.deidentify.planting import found_in
from tests.service_process import Places
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("cluster")]

RELEASE, POD, FILES = "cleaning", "cleaning-0", 4

#: Attributes of what the senders make that must not be found in what is clean.
NAMES = ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "InstitutionName", "StudyDescription")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")

#: What is fetched of the pod: the claims' contents.
VOLUMES = ("clean", "raw")

_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def values(secret: str, **more: Any) -> dict[str, Any]:
    return {
        "enabled": True,
        "key": {"secretName": secret},
        "resources": _SMALL,
        "collection": {"options": {"workers": 1, "min-free": "32MiB"}, "resources": _SMALL},
        **more,
    }


@pytest.fixture
def key(namespace: Namespace, tmp_path: Path) -> Iterator[bytes]:
    """The bytes of a key that a Secret has."""
    folder = tmp_path / "key"
    folder.mkdir()
    new_key(str(folder / "deidentify.key"))
    namespace.secret("deidentify", folder)
    yield (folder / "deidentify.key").read_bytes()
    namespace.kubectl("delete", "secret", "deidentify")


def stands(namespace: Namespace) -> tuple[int, int, int] | None:
    """Deliveries of series to the stage: done, pending, given up; None while the pod is not there."""
    try:
        said = namespace.run_in(POD, "listener", "deidentify", "status", "--json", container="deidentify")
    except Failed:
        return None
    told = json.loads(said)
    return told["delivered"], told["pending"], told["failed"]


def taken(namespace: Namespace) -> int:
    """How many batches are done in the collection of what is clean."""
    try:
        said = namespace.run_in(POD, "listener", "batches", "--only", "done", "--json", container="clean")
    except Failed:
        return 0
    return len(said.splitlines())


def test_what_comes_is_clean_in_a_collection_of_its_own(namespace: Namespace, key: bytes, tmp_path: Path) -> None:
    clean = values("deidentify", persistence={"size": "100Mi", "storageClass": namespace.storage})
    # Longer than a pod that goes keeps a sender from its next instance.
    options = {"options": {"series-quiet": 15}}
    namespace.deploy(
        RELEASE, {"fullnameOverride": RELEASE, "networkPolicy": {"enabled": True}, "listener": options, "clean": clean}
    )
    seeds = ["cleaned", "cut", "last"]
    expected = {seed: senders.expected(seed, FILES, tmp_path) for seed in seeds}
    senders.start(namespace, "cleaned", FILES, RELEASE)
    senders.until_acknowledged(namespace, ["cleaned"], FILES)
    until(lambda: stands(namespace) == (1, 0, 0), 60, what="the first series is cleaned")
    until(lambda: taken(namespace) == 1, 30, what="the other collection has it")
    # The pod ends while a series comes, and is killed when the next one has come.
    namespace.kubectl("delete", "pod", POD, "--wait=false")
    senders.start(namespace, "cut", FILES, RELEASE)
    senders.until_acknowledged(namespace, ["cut"], FILES)
    senders.start(namespace, "last", FILES, RELEASE)
    senders.until_acknowledged(namespace, ["last"], FILES)
    namespace.kubectl("delete", "pod", POD, "--grace-period=0", "--force")
    until(lambda: stands(namespace) == (3, 0, 0), 120, what="all series are cleaned")
    until(lambda: taken(namespace) == 3, 30, what="the other collection has all of them")

    check_evidence(namespace, Keys(key).fingerprint)
    namespace.fetch(POD, tmp_path / "clean", volume="/clean", container="clean")
    namespace.fetch(POD, tmp_path / "raw")
    check_clean(tmp_path / "clean", {Keys(key).uid(uid) for of in expected.values() for uid in of})
    check_unseen(tmp_path, [path for of in expected.values() for path in of.values()], key)
    check_apart(namespace)
    namespace.helm("uninstall", RELEASE, "--wait")
    senders.remove(namespace, seeds)
    namespace.kubectl("delete", "--wait=false", f"pvc/dicom-{POD}", f"pvc/clean-{POD}")


def check_evidence(namespace: Namespace, fingerprint: str) -> None:
    """What the vault counts."""
    said = namespace.run_in(POD, "listener", "deidentify", "evidence", "--json", container="deidentify")
    told = json.loads(said)
    assert (told["units"], told["passed"], told["held"], told["key"]) == (3, 3 * FILES, {}, fingerprint)


def check_clean(base: Path, uids: set[str]) -> None:
    """Each instance is there once, described, says that it was de-identified, and is of one patient."""
    clean = Places(base, (), base / "data", base / "log", base / "state")
    tree = read_tree(clean)
    assert not [*tree.strange, *misdescribed(clean, tree), *left_over(clean), *files_below(base / "batches")]
    assert not read_set_aside(clean)
    assert sorted(one.SOPInstanceUID for one in tree.instances) == sorted(uids)
    found = [dcmread(one.path) for one in tree.instances]
    assert {one.PatientIdentityRemoved for one in found} == {"YES"}
    assert len({one.PatientID for one in found}) == 1, "the vault goes on from pod to pod"
    assert len({one.StudyInstanceUID for one in found}) == 3


def check_unseen(base: Path, sent: list[Path], key: bytes) -> None:
    """Nothing of the patient is on the volume of what is clean, and the key is on neither."""
    sets = [dcmread(path) for path in sent]
    needles = {str(one[name].value).encode() for one in sets for name in (*NAMES, *UIDS)}
    # A link is the record of an incoming directory, and leads to nothing here.
    clean, raw = (
        {str(path).encode(): path.read_bytes() for path in files_below(base / name, own=True) if path.is_file()}
        for name in VOLUMES
    )
    told = b"\n".join(raw.values())
    assert found_in(told, needles) == list(needles), "they can be found"
    assert [path for path, what in clean.items() if found_in(path + what, needles)] == []
    secrets = [key, key.hex().encode(), b64encode(key)]
    assert [path for path, what in {**clean, **raw}.items() if found_in(what, secrets)] == []


def check_apart(namespace: Namespace) -> None:
    """No container can do what is another one's."""
    for container, path in (("clean", "/dicom/data"), ("clean", "/run/deidentify"), ("listener", "/clean")):
        with pytest.raises(Failed, match="No such file"):
            namespace.run_in(POD, "ls", path, container=container)
    with pytest.raises(Failed, match="Read-only file system"):
        namespace.run_in(POD, "touch", "/dicom/data/x", container="deidentify")


def test_without_a_key_files_are_taken_and_the_stage_says_what_is_missing(namespace: Namespace, tmp_path: Path) -> None:
    given = {"fullnameOverride": "keyless", "persistence": {"enabled": False}, "clean": values("nowhere")}
    namespace.deploy("keyless", given)  # It waits until the pod is ready.

    def says(text: str) -> bool:
        return text in namespace.logs("keyless-0", "deidentify")

    until(lambda: says("the key cannot be used: "), 60, what="the log tells what is missing")
    senders.start(namespace, "keyless", FILES, "keyless")
    senders.until_acknowledged(namespace, ["keyless"], FILES)
    # Kubernetes looks for the Secret about once a minute.
    key = tmp_path / "key" / "deidentify.key"
    key.parent.mkdir()
    key.write_bytes(b"too short")
    namespace.secret("nowhere", key.parent)
    wrong = "the key cannot be used: it is not 32 bytes; 'listener deidentify new-key FILE' makes one"
    until(lambda: says(wrong), 40, what="the log tells what is wrong")
    key.unlink()
    new_key(str(key))
    namespace.secret("nowhere", key.parent)
    until(lambda: says('"started"'), 40, what="with a key it starts")
    statuses = namespace.get("pod", "keyless-0")["status"]["initContainerStatuses"]
    assert {one["name"]: (one["ready"], one["restartCount"]) for one in statuses}["deidentify"] == (True, 0)
    namespace.helm("uninstall", "keyless", "--wait")
    senders.remove(namespace, ["keyless"])
    namespace.kubectl("delete", "secret", "nowhere")

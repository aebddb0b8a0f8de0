"""A namespace that enforces the restricted Pod Security level, with claims, in whatever cluster KUBECONFIG names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.cluster.kube import IMAGES, Namespace, load, run

NAME = "listener-test"

#: Claims that the tests need at most, and the size of the volume that is filled.
VOLUMES = 11
SMALL = 160 * 2**20


def _why_not() -> str:
    """What is missing for these tests; "" when nothing is."""
    for name in ("KUBECONFIG", "CLUSTER_LOAD"):
        if not os.environ.get(name):
            return f"there is no cluster: {name} is not set (`make cluster-test` starts one where it can)"
    for program in ("kubectl", "helm"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH (make cluster-test)"
    for part in ("listener", "storescp"):
        if not (IMAGES / f"{part}.tar").exists():
            return f"there is no build/images/{part}.tar (make cluster-images)"
    return ""


@pytest.fixture(scope="session")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The namespace, with images loaded; everything in it goes afterwards."""
    missing = _why_not()
    if missing:
        pytest.skip(missing)
    for part in ("listener", "storescp"):
        load(IMAGES / f"{part}.tar")
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": levels}}
    run(["kubectl", "apply", "-f", "-"], given=yaml.safe_dump(made).encode())
    with ExitStack() as after:
        after.callback(run, ["kubectl", "delete", "namespace", NAME, "--wait=true", "--timeout=500s"])
        yield Namespace(NAME, _storage(tmp_path_factory, after), tmp_path_factory.mktemp("cluster"))


def _storage(scratch: pytest.TempPathFactory, after: ExitStack) -> str:
    """The class for claims: CLUSTER_STORAGE_CLASS, the cluster's default, or local volumes that are made here."""
    named = os.environ.get("CLUSTER_STORAGE_CLASS")
    if named:
        return named
    for one in json.loads(run(["kubectl", "get", "storageclass", "-o", "json"]))["items"]:
        if one["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true":
            return str(one["metadata"]["name"])
    node = json.loads(run(["kubectl", "get", "nodes", "-o", "json"]))["items"][0]["metadata"]["name"]
    folder = scratch.mktemp("volumes")
    folder.parent.chmod(0o755)
    objects = [_class(NAME), _class(f"{NAME}-small")]
    for number in range(VOLUMES):
        (folder / str(number)).mkdir()
        objects.append(_volume(f"{NAME}-{number}", NAME, folder / str(number), node))
    small = _small_file_system(folder / "small", after)
    if small:
        objects.append(_volume(f"{NAME}-small", f"{NAME}-small", small, node))
    run(["kubectl", "apply", "-f", "-"], given=yaml.safe_dump_all(objects).encode())
    after.callback(_forget, [f"{one['kind']}/{one['metadata']['name']}" for one in objects])  # type: ignore[index]
    return NAME


def _forget(names: list[str]) -> None:
    run(["kubectl", "delete", "--ignore-not-found", "--wait=false", *names])


def _class(name: str) -> dict[str, object]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        # A claim may ask for more; nobody is there to give it.
        "allowVolumeExpansion": True,
    }


def _volume(name: str, storage: str, path: Path, node: str) -> dict[str, object]:
    at = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Mi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage,
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [at]}]}},
        },
    }


def _small_file_system(folder: Path, after: ExitStack) -> Path | None:
    """A file system that can be filled without harm; None where it cannot be mounted."""
    image = folder.with_suffix(".img")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(SMALL)
    try:
        run(["mkfs.ext4", "-q", "-F", str(image)])
        run(["mount", "-o", "loop", str(image), str(folder)])
    except (AssertionError, OSError):
        return None
    after.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)
    return folder

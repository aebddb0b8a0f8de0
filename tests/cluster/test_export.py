"""The stage export in a pod: an image with the extra, credentials of a Secret, a store in another pod."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import senders
from tests.cluster.kube import IMAGES, Failed, Namespace, load
from tests.conftest import PROJECT
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("cluster")]

FILES = 5

#: Waits until somebody has put versitygw there, and runs it.
_STORE = """
mkdir -p /scratch/store/research
until [ -x /scratch/versitygw ]; do sleep 0.5; done
exec /scratch/versitygw --port :7070 --quiet posix /scratch/store
"""


@pytest.fixture(scope="module")
def store(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A versitygw with an empty bucket in a pod, and a Secret with what it lets in."""
    program = shutil.which("versitygw") or shutil.which(PROJECT / ".venv/bin/versitygw")
    if not program:
        pytest.skip("versitygw is not there (.ci/need versitygw)")
    if not (IMAGES / "export.tar").exists():
        pytest.skip("there is no build/images/export.tar (make cluster-images)")
    load(IMAGES / "export.tar")
    keys = tmp_path_factory.mktemp("keys")
    (keys / "AWS_ACCESS_KEY_ID").write_text("test")
    (keys / "AWS_SECRET_ACCESS_KEY").write_text("a secret of tests")
    namespace.secret("bucket", keys)
    pod, service = senders.server("store", "", 7070)
    (container,) = pod["spec"]["containers"]
    container["command"] = ["sh", "-c", _STORE]
    container["env"] = [
        {"name": "ROOT_ACCESS_KEY", "value": "test"},
        {"name": "ROOT_SECRET_KEY", "value": "a secret of tests"},
    ]
    container["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    pod["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    namespace.apply(pod, service)
    until(lambda: namespace.get("pod", "store")["status"]["phase"] == "Running", 120, what="the store's pod runs")
    put = "cat > /scratch/part && chmod +x /scratch/part && mv /scratch/part /scratch/versitygw"
    namespace.kubectl("exec", "-i", "store", "--", "sh", "-c", put, given=Path(program).read_bytes(), seconds=180)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=120s", seconds=150)
    yield "http://store:7070"
    namespace.kubectl("delete", "pod/store", "service/store", "secret/bucket")


def values(store: str) -> dict[str, Any]:
    image = {"repository": "localhost/listener-export", "tag": "test", "pullPolicy": "Never"}
    return {
        "fullnameOverride": "leaving",
        "persistence": {"enabled": False},
        "networkPolicy": {"enabled": True},
        "listener": {"options": {"series-quiet": 2}},
        "export": {
            "enabled": True,
            "image": image,
            # What the senders make says nothing of its being de-identified.
            "options": {"to": "s3://research/ct", "endpoint": store, "allow-identified": True, "part-every": 2},
            "credentials": {"secretName": "bucket"},
            "extraEnv": [{"name": "AWS_REGION", "value": "us-east-1"}],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        },
    }


def objects(namespace: Namespace) -> list[str]:
    """Keys below the prefix, as the store has them."""
    found = namespace.kubectl("exec", "store", "--", "sh", "-c", "cd /scratch/store/research && find . -type f")
    return sorted(line.removeprefix("./ct/") for line in found.decode().splitlines() if line.startswith("./ct/"))


def test_what_comes_through_the_service_is_in_the_bucket(namespace: Namespace, store: str) -> None:
    namespace.deploy("leaving", values(store))
    senders.start(namespace, "left", FILES, "leaving")
    senders.until_acknowledged(namespace, ["left"], FILES)

    def exported() -> list[dict[str, Any]]:
        lines = namespace.logs("leaving-0", "export").splitlines()
        return [one for line in lines if line.startswith("{") and (one := json.loads(line))["event"] == "exported"]

    events = until(exported, 120, what="the series is exported")
    assert [one["instances"] for one in events] == [FILES]
    until(lambda: [key for key in objects(namespace) if key.startswith("parquet/")], 60, what="the table is there")
    found = objects(namespace)
    assert len([key for key in found if key.startswith("data/")]) == FILES
    assert len([key for key in found if key.startswith("manifests/")]) == 1
    assert namespace.run_in("leaving-0", "listener", "export", "audit", "--deep", container="export") == b""
    with pytest.raises(Failed, match="Read-only file system"):
        namespace.run_in("leaving-0", "touch", "/dicom/data/x", container="export")
    told = json.loads(namespace.run_in("leaving-0", "listener", "export", "status", "--json", container="export"))
    assert (told["delivered"], told["pending"], told["failed"]) == (1, 0, 0)
    namespace.helm("uninstall", "leaving", "--wait")
    senders.remove(namespace, ["left"])

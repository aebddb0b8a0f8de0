"""The stage serve in the listener's pod: another pod asks its Service, and nothing but its index is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import senders
from tests.cluster.kube import IMAGES, Failed, Namespace, load
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("cluster")]

FILES = 3

VALUES: dict[str, Any] = {
    "fullnameOverride": "looking",
    "persistence": {"enabled": False},
    "networkPolicy": {"enabled": True},
    "listener": {"options": {"series-quiet": 2}},
    "serve": {
        "enabled": True,
        "image": {"repository": "localhost/listener-serve", "tag": "test", "pullPolicy": "Never"},
        "options": {"no-token": True},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    },
}

#: Asks for all instances, and for the only frame of each; prints their UIDs with the frames' lengths.
_ASK = """
import json, urllib.request as u
def get(path, accept):
    asked = u.Request("http://looking-dicomweb:8043/dicom-web" + path, headers={"Accept": accept})
    with u.urlopen(asked, timeout=30) as answer: return answer.read()
found = {}
for one in json.loads(get("/instances", "application/dicom+json")):
    uids = [one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
    path = "/studies/{}/series/{}/instances/{}/frames/1".format(*uids)
    found[uids[-1]] = len(get(path, "application/octet-stream"))
print(json.dumps(found))
"""

_WAIT = """
import socket, threading
listening = socket.create_server(("", 8080))
threading.Event().wait()
"""


def test_another_pod_looks_at_what_came(namespace: Namespace) -> None:
    if not (IMAGES / "serve.tar").exists():
        pytest.skip("there is no build/images/serve.tar (make cluster-images)")
    load(IMAGES / "serve.tar")
    pod, service = senders.server("asker", _WAIT, 8080)
    namespace.apply(pod, service)
    namespace.deploy("looking", VALUES)
    senders.start(namespace, "looked", FILES, "looking")
    senders.until_acknowledged(namespace, ["looked"], FILES)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/asker", "--timeout=120s", seconds=150)

    def seen() -> dict[str, int] | None:
        try:
            found: dict[str, int] = json.loads(namespace.run_in("asker", "python", "-c", _ASK, container="asker"))
        except Failed:
            return None
        return found if len(found) == FILES else None

    frames = until(seen, 120, what="another pod sees all instances") or {}
    assert len(set(frames.values())) == 1
    assert min(frames.values()) > 0
    with pytest.raises(Failed, match="Read-only file system"):
        namespace.run_in("looking-0", "touch", "/dicom/data/x", container="serve")
    namespace.helm("uninstall", "looking", "--wait")
    namespace.kubectl("delete", "pod/asker", "service/asker")
    senders.remove(namespace, ["looked"])

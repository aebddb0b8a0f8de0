"""The stage notify as the chart makes it: it tells brokers outside of the pod, which ask for a password, and forgets
nothing when the pod goes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import pydicom
import pytest

from tests.cluster import senders
from tests.cluster.kube import IMAGES, Failed, Namespace, load
from tests.notify.servers import Subscriber, messages, nats_server, redis_server, subscriber
from tests.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("cluster")]

POD, FILES = "chris-0", 3

#: What both brokers ask for.
PASSWORD = token_hex(8)


def here(namespace: Namespace) -> str:
    """An address of this machine that pods can reach; where a node is another machine the test is skipped."""
    addresses = namespace.get("nodes")["items"][0]["status"]["addresses"]
    (address,) = [one["address"] for one in addresses if one["type"] == "InternalIP"]
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            pytest.skip("the cluster's node is another machine, whose pods do not reach brokers on this one")
    return str(address)


@contextmanager
def brokers(namespace: Namespace, folder: Path) -> Iterator[tuple[str, Subscriber]]:
    """A Redis and a NATS with passwords, which two Secrets hold: the URL of Redis here, and who hears NATS."""
    address = here(namespace)
    redis_asks = ("--requirepass", PASSWORD, "--bind", "127.0.0.1", address)
    nats_asks = ("-a", "0.0.0.0", "--user", "stage", "--pass", PASSWORD)  # noqa: S104 - it takes one address only
    with redis_server(0, *redis_asks) as (redis, _), nats_server(0, *nats_asks) as (nats, _):
        url, port = redis.replace("redis://127.0.0.1", f"redis://:{PASSWORD}@{address}"), nats.rpartition(":")[2]
        for name, text in {"celery": url, "nats": f"nats://stage:{PASSWORD}@{address}:{port}"}.items():
            (folder / name).mkdir()
            (folder / name / name).write_text(text)
            namespace.secret(f"chris-{name}", folder / name)
        with subscriber(f"nats://stage:{PASSWORD}@127.0.0.1:{port}") as ear:
            yield url, ear


def connected(namespace: Namespace) -> bool:
    """Whether both targets are, as the stage's own status says."""
    try:
        said = namespace.run_in(POD, "listener", "notify", "status", "--json", container="notify")
    except Failed:  # The pod is not there, or not ready to run anything.
        return False
    targets = json.loads(said)["targets"]
    return all(target.get("connected") and target["state"] == "active" for target in targets.values())


def send(namespace: Namespace, seed: str, scratch: Path) -> str:
    """A sender's series is acknowledged; its SeriesInstanceUID."""
    senders.start(namespace, seed, FILES, "chris")
    senders.until_acknowledged(namespace, [seed], FILES)
    senders.remove(namespace, [seed])
    one = next(iter(senders.expected(seed, FILES, scratch).values()))
    return str(pydicom.dcmread(one).SeriesInstanceUID)


def told(url: str) -> dict[str, int]:
    """Instances by series, as the messages in the broker have them."""
    found = messages(url)
    assert len({message["kwargs"]["SeriesInstanceUID"] for message in found}) == len(found), "each once"
    return {message["kwargs"]["SeriesInstanceUID"]: message["kwargs"]["ndicom"] for message in found}


def test_brokers_are_told_of_each_series_though_the_pod_goes(namespace: Namespace, tmp_path: Path) -> None:
    if not (IMAGES / "chris.tar").exists():
        pytest.skip("there is no build/images/chris.tar (make cluster-images)")
    load(IMAGES / "chris.tar")
    with brokers(namespace, tmp_path) as (url, ear):
        ports = [{"protocol": "TCP", "port": port} for port in (ear.port, urlsplit(url).port)]
        values = {
            "fullnameOverride": "chris",
            # Longer than a busy node, or a pod that goes, keeps a sender from its next instance.
            "listener": {"options": {"layout": "oxidicom", "series-quiet": 15}},
            "notify": {
                "enabled": True,
                "image": {"repository": "localhost/listener-chris", "tag": "test", "pullPolicy": "Never"},
                **{name: {"secretName": f"chris-{name}"} for name in ("celery", "nats")},
            },
            "networkPolicy": {"enabled": True, "egress": [{"ports": ports}]},
        }
        namespace.deploy("chris", values)
        until(lambda: connected(namespace), 90, what="both targets are connected")
        first = send(namespace, "first", tmp_path)
        until(lambda: told(url) == {first: FILES}, 60, what="the first is in the broker")
        with pytest.raises(Failed, match="Read-only file system"):
            namespace.run_in(POD, "touch", "/dicom/data/x", container="notify")
        namespace.kubectl("delete", "pod", POD, "--wait=false")
        second = send(namespace, "second", tmp_path)
        until(lambda: told(url) == {first: FILES, second: FILES}, 120, what="the second is in the broker")
        for series in (first, second):
            until(lambda series=series: ear.of(series)[-2:] == [("number", FILES), ("done",)], 60)  # type: ignore[misc]
        until(lambda: connected(namespace), 90, what="both targets are connected again")
        assert PASSWORD not in namespace.logs(POD, "notify")
        namespace.helm("uninstall", "chris", "--wait")

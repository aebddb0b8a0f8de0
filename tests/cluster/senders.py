"""Senders that are pods: they make their own synthetic instances, and try each until it is acknowledged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from listener.quickstart.synthetic import Look, make_series
from tests.cluster.kube import Namespace
from tests.waiting import until

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_MOUNTS = [{"name": "scratch", "mountPath": "/scratch"}]

_MAKE = """
from pathlib import Path
from listener.quickstart.synthetic import Look, make_series
make_series(Path('/scratch/instances'), instances={files}, look=Look(seed='{seed}'))
"""

#: An instance counts as sent when storescp said Success for it, and not before. A pod that goes may never answer.
_SEND = """
find /scratch/instances -type f | sort | while read -r file; do
    until storescu -v -to 3 -ta 10 -td 20 {host} {port} "$file" 2>&1 | grep -q 'Store Response (Success)'; do
        echo again
        sleep 0.2
    done
    echo acknowledged
done
echo done
"""


def start(namespace: Namespace, seed: str, files: int, host: str, port: int = 11112, *, name: str = "") -> None:
    """Start a sender of that many instances; its pod is `sender-<name>`, or that of the seed."""
    container = {"securityContext": SECURITY, "volumeMounts": _MOUNTS, "imagePullPolicy": "Never"}
    make: dict[str, Any] = {
        **container,
        "name": "make",
        "image": "localhost/listener:test",
        "command": ["python", "-c", _MAKE.format(files=files, seed=seed)],
    }
    send: dict[str, Any] = {
        **container,
        "name": "send",
        "image": "localhost/storescp:test",
        "env": [{"name": "TCP_NODELAY", "value": "1"}],
        "command": ["sh", "-c", _SEND.format(host=host, port=port)],
    }
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"sender-{name or seed}"},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsUser": 20001, "runAsGroup": 20001, "fsGroup": 20001},
                "volumes": [{"name": "scratch", "emptyDir": {}}],
                "initContainers": [make],
                "containers": [send],
            },
        }
    )


def server(name: str, code: str, port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod whose container of the same name runs Python, and the Service that leads to it."""
    container = {
        "name": name,
        "image": "localhost/listener:test",
        "imagePullPolicy": "Never",
        "securityContext": SECURITY,
        "command": ["python", "-c", code],
        "readinessProbe": {"tcpSocket": {"port": port}},
    }
    spec = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "containers": [container]}
    about = {"name": name, "labels": {"app": name}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}
    ports = {"selector": {"app": name}, "ports": [{"port": port}]}
    return pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": ports}


def acknowledged(namespace: Namespace, seed: str) -> int:
    """How many instances this sender has been told Success for."""
    phase = namespace.get("pod", f"sender-{seed}")["status"]["phase"]
    return 0 if phase == "Pending" else namespace.logs(f"sender-{seed}", "send").count("acknowledged")


def until_acknowledged(namespace: Namespace, seeds: list[str], files: int, seconds: float = 120) -> None:
    """Until each of the senders has been told Success for so many."""

    def there() -> bool:
        found = {seed: acknowledged(namespace, seed) for seed in seeds}
        assert all(count >= files for count in found.values()), found
        return True

    until(there, seconds, what=f"{files} instances acknowledged to each sender")


def remove(namespace: Namespace, seeds: list[str]) -> None:
    for seed in seeds:
        namespace.kubectl("delete", "pod", f"sender-{seed}", "--wait=false")


def expected(seed: str, files: int, scratch: Path) -> dict[str, Path]:
    """What that sender sends, by SOP Instance UID: the same seed makes the same bytes here."""
    folder = scratch / "sent" / seed
    if not folder.exists():
        make_series(folder, instances=files, look=Look(seed=seed))
    return {path.name.removeprefix("MR."): path for path in folder.rglob("MR.*")}

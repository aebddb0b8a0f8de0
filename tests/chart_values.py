"""Sets of values with which the chart is rendered."""

from __future__ import annotations

from typing import Any

MONITORED = {
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "networkPolicy": {"enabled": True},
}


#: Sets of values that administrators have, by name.
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        **MONITORED,
        "replicas": 3,
        "fullnameOverride": "intake",
        "imagePullSecrets": ["registry"],
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "intake",
        "nodeSelector": {"disk": "local"},
        "tolerations": [{"key": "intake", "operator": "Exists"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"site": "north"},
        "listener": {
            "options": {"layout": "px", "workers": 4, "min-free": "20GiB", "series-quiet": [60, "CT=5"], "phi": True},
            "image": {"digest": "sha256:" + "0" * 64},
            "extraEnv": [{"name": "TZ", "value": "Europe/Zurich"}],
            "extraVolumeMounts": [{"name": "secret", "mountPath": "/secret", "readOnly": True}],
        },
        "extraVolumes": [{"name": "secret", "secret": {"secretName": "hook"}}],
        "service": {"type": "LoadBalancer", "port": 104, "loadBalancerSourceRanges": ["192.0.2.0/24"]},
        "networkPolicy": {
            "enabled": True,
            "dicomFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
    },
    "plain container": {"listener": {"nativeSidecar": False}, "service": {"type": "NodePort", "nodePort": 31112}},
    "trial": {"persistence": {"enabled": False}, "tests": {"enabled": False}, "storescp": {"lingerSeconds": 0}},
    "claims of others": {
        "persistence": {
            "existingClaim": "intake",
            "data": {"existingClaim": "archive"},
            "log": {"existingClaim": "logs"},
        },
        "serviceMonitor": {"enabled": True},
    },
}

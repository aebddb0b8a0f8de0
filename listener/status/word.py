"""PURE. The word of a running service: what only it knows, made once a second from the very numbers that /metrics
shows, so that the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from listener.errors import SET_ASIDE_REASONS
from listener.planning.names import instant
from listener.records import OUTCOMES
from listener.status.document import SCHEMA, set_aside
from listener.status.history import History, Sample
from listener.telemetry.catalogue import PENDING_STATES, VOLUMES, Numbers


def sample(numbers: Numbers) -> Sample:
    """The totals that rates and lag are made of."""
    return Sample(
        files=sum(numbers.counters["files_processed_total"].values()),
        bytes=numbers.counters["incoming_bytes_total"][()],
        lags=tuple(numbers.histograms["ingest_latency_seconds"][()].counts),
        backlog=int(sum(numbers.gauges["pending_files"].values())),
    )


def word(numbers: Numbers, history: History, service: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    """The word at `now_ns` (since the epoch); `service` is its version, started, state and checks."""
    return {
        **service,
        "schema": SCHEMA,
        "time_ns": now_ns,
        "files": {kind: numbers.counters["files_processed_total"][(kind,)] for kind in OUTCOMES},
        "rates": history.rates(),
        "lag": history.lag(),
        "backlog": _backlog(numbers, now_ns),
        "workers": {"all": int(numbers.gauges["workers"][()]), "busy": int(numbers.gauges["workers_busy"][()])},
        "set_aside": set_aside({reason: _lying(numbers, reason) for reason in SET_ASIDE_REASONS}),
        "volumes": {volume: _volume(numbers, volume) for volume in VOLUMES},
    }


def _backlog(numbers: Numbers, now_ns: int) -> dict[str, Any]:
    pending = {state: int(numbers.gauges["pending_files"][(state,)]) for state in PENDING_STATES}
    oldest = numbers.gauges["oldest_pending_timestamp_seconds"][()]
    return {
        "files": sum(pending.values()),
        **pending,
        "bytes": int(numbers.gauges["pending_bytes"][()]),
        "oldest": instant(int(oldest * 1e9)) if oldest else None,
        "oldest_seconds": round(max(0.0, now_ns / 1e9 - oldest), 3) if oldest else None,
    }


def _lying(numbers: Numbers, reason: str) -> tuple[int, int]:
    return int(numbers.gauges["set_aside_files"][(reason,)]), int(numbers.gauges["set_aside_bytes"][(reason,)])


def _volume(numbers: Numbers, volume: str) -> dict[str, int]:
    def gauge(name: str) -> int:
        return int(numbers.gauges[f"filesystem_{name}"][(volume,)])

    return {
        "size": gauge("size_bytes"),
        "available": gauge("avail_bytes"),
        "files": gauge("files"),
        "files_free": gauge("files_free"),
    }

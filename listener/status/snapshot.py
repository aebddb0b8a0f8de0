"""`<state>/live`: the snapshot of the running service, written once a second, read by `listener status`.
`<state>/history`: the points of the charts, written once a minute, read by the next service.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import orjson

from listener.planning.names import instant
from listener.reasons import SET_ASIDE_REASONS
from listener.records import OUTCOMES
from listener.status.document import SCHEMA, set_aside
from listener.status.history import History, Sample
from listener.telemetry.metric_rows import PENDING_STATES, VOLUMES, Numbers


def sample(numbers: Numbers) -> Sample:
    """Return the totals of which rates and lag are made."""
    return Sample(
        files=sum(numbers.counters["files_processed_total"].values()),
        bytes=numbers.counters["incoming_bytes_total"][()],
        lags=tuple(numbers.histograms["ingest_latency_seconds"][()].counts),
        backlog=int(sum(numbers.gauges["pending_files"].values())),
        lost_workers=sum(
            number for (reason,), number in numbers.counters["worker_restarts_total"].items() if reason != "recycled"
        ),
        lost_events=numbers.counters["fs_event_queue_overflows_total"][()],
    )


def snapshot_of(numbers: Numbers, history: History, service: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    """Return the snapshot at `now_ns` (since the epoch); `service` is its version, host, incoming, started, state and
    checks.
    """
    return {
        **service,
        "schema": SCHEMA,
        "time_ns": now_ns,
        "files": {kind: numbers.counters["files_processed_total"][(kind,)] for kind in OUTCOMES},
        "rates": history.rates(),
        "lag": history.lag(),
        "backlog": _backlog(numbers, now_ns),
        "lost": history.lost(),
        "workers": {"all": int(numbers.gauges["workers"][()]), "busy": int(numbers.gauges["workers_busy"][()])},
        "set_aside": set_aside({reason: _set_aside_totals(numbers, reason) for reason in SET_ASIDE_REASONS}),
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


def _set_aside_totals(numbers: Numbers, reason: str) -> tuple[int, int]:
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


#: Snapshots are padded to a multiple of so many bytes.
_BLOCK = 8192

_READ_ATTEMPTS = 50


#: Names of the files in a state directory.
LIVE, HISTORY = "live", "history"


def path_of(state_dir: str, name: str = LIVE) -> str:
    """Return the path of a file of ours in a state directory."""
    return os.path.join(state_dir, name)


class SnapshotFile:
    """Writes snapshots (or what else `name` is for) in place. Methods raise OSError."""

    def __init__(self, state_dir: str, name: str = LIVE) -> None:
        self._path = path_of(state_dir, name)
        self._descriptor = -1

    def write(self, live: Mapping[str, Any]) -> None:
        """Replace the snapshot; create the file again if it was removed."""
        if self._descriptor < 0 or not os.fstat(self._descriptor).st_nlink:
            self.close()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.pwrite(self._descriptor, pack(live), 0)

    def close(self) -> None:
        """Close the file; the last snapshot stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def pack(live: Mapping[str, Any]) -> bytes:
    """Return checksum and JSON on a line, padded with blanks to a multiple of _BLOCK."""
    body = orjson.dumps(live)
    line = b"%08x %s\n" % (crc32(body), body)
    return line.ljust(-(-len(line) // _BLOCK) * _BLOCK)


def unpack(data: bytes) -> dict[str, Any] | None:
    """Return the snapshot in `data`; None if the checksum does not match."""
    checksum, _, rest = data.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % crc32(rest):
        return None
    snapshot: dict[str, Any] = orjson.loads(rest)
    return snapshot


def read(state_dir: str, name: str = LIVE) -> dict[str, Any] | None:
    """Return the last snapshot of the service of a state directory; None if none ever ran, or it is damaged.

    Raises OSError if the file cannot be read.
    """
    for _ in range(_READ_ATTEMPTS):
        try:
            with open(path_of(state_dir, name), "rb") as file:
                snapshot = unpack(file.read())
        except FileNotFoundError:
            return None
        if snapshot is not None:
            return snapshot
        time.sleep(0.002)  # It is being written, which takes some microseconds.
    return None

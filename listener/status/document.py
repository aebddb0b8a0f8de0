"""PURE. The status document: the one dict that `listener status --json` prints, `/api/v1/status` answers and the page
shows, so that they agree by construction. Free of patient data.

Its sources are the snapshot of a running service (snapshot.py), what the directories show without one, and the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listener.planning.names import instant
from listener.status.attention import findings

SCHEMA = 1

#: Seconds after its last snapshot from which a service counts as lost: it does not run, or its loop hangs.
LOST_AFTER = 10.0

#: Series in flight (the newest) and series that ended (the last) that are shown at most.
IN_FLIGHT, ENDED = 200, 50

#: States of batches, and those with an error.
BATCHES = ("new", "queue", "processing", "done", "empty", "with_error")

#: State of a service, and its text. It runs in the first three.
STATES = {
    "ready": "ready",
    "not-ready": "not ready",
    "draining": "stopping",
    "stopped": "stopped",
    "lost": "no word from it",
    "absent": "has not run here",
}
RUNNING = ("ready", "not-ready", "draining")

#: What `held_up` shows while every file has a place it can go to.
NOTHING_HELD_UP: Mapping[str, Any] = {"files": 0, "places": 0, "shown": []}

Snapshot = Mapping[str, Any]


class DirectoryTotals(NamedTuple):
    """What the directories show without a service: files and bytes in set-aside by reason; for each volume its size and
    available (bytes), files and files_free (inodes), and its id.
    """

    set_aside: Mapping[str, tuple[int, int]]
    volumes: Mapping[str, Mapping[str, int | str]]


class LedgerView(NamedTuple):
    """What the ledger shows; `error` is why it cannot be read ("": it can); `missing`: there is none yet. Rows are
    dicts as in the document. `counts` maps open, complete, incomplete to a number of series, `studies` to a number of
    studies, `batches` their states and with_error to a number of batches; `hooks` each consumer to its numbers of
    deliveries, `stages` those that are stages to their snapshots.
    """

    error: str = ""
    missing: bool = False
    counts: Mapping[str, int] = {}
    studies: Mapping[str, int] = {}
    batches: Mapping[str, int] = {}
    in_flight: Sequence[Mapping[str, Any]] = ()
    ended: Sequence[Mapping[str, Any]] = ()
    hooks: Mapping[str, Mapping[str, Any]] = {}
    stages: Mapping[str, Snapshot] = {}


def document(
    live: Snapshot | None, directories: DirectoryTotals | None, ledger: LedgerView, now_ns: int
) -> dict[str, Any]:
    """Return the status document at `now_ns` (since the epoch)."""
    state = state_of(live, now_ns)
    runs = state in RUNNING
    running = live if live is not None and runs else {}
    found = {
        "schema": SCHEMA,
        "time": instant(now_ns),
        "attention": [],
        "service": _service(live, state),
        "files": running.get("files"),
        "rates": running.get("rates"),
        "lag": running.get("lag"),
        "backlog": running.get("backlog"),
        "held_up": running.get("held_up"),
        "workers": running.get("workers"),
        "lost": running.get("lost"),
        "set_aside": running.get("set_aside") or (set_aside(directories.set_aside) if directories else None),
        "volumes": running.get("volumes") or (dict(directories.volumes) if directories else {}),
        "ledger": {"readable": not ledger.error, "missing": ledger.missing, "error": ledger.error},
        "series": {name: ledger.counts.get(name, 0) for name in ("open", "complete", "incomplete")},
        "studies": {name: ledger.studies.get(name, 0) for name in ("open", "incomplete", "acknowledged")},
        "batches": {name: ledger.batches.get(name, 0) for name in BATCHES},
        "in_flight": list(ledger.in_flight),
        "completed": list(ledger.ended),
        "hooks": dict(ledger.hooks),
        "stages": {name: _stage(name, live, now_ns) for name, live in ledger.stages.items()},
    }
    return found | {"attention": [finding._asdict() for finding in findings(found)]}


def state_of(snapshot: Snapshot | None, now_ns: int) -> str:
    """Return the state (of STATES) at `now_ns` of the service, or the stage, of this snapshot."""
    if snapshot is None:
        return "absent"
    # A clock that was set back makes the age negative; the next snapshot, a second later, mends that.
    late = abs(now_ns - int(snapshot["time_ns"])) > LOST_AFTER * 1e9
    return "lost" if snapshot["state"] != "stopped" and late else str(snapshot["state"])


def _stage(name: str, live: Snapshot, now_ns: int) -> dict[str, Any]:
    """Return how a stage stands, and what it notes of the consumer `name`; one of an older version does not say when it
    wrote.
    """
    state = state_of({"time_ns": 0, **live}, now_ns)
    stage = {"state": state, "seen": live.get("time"), "version": str(live.get("version", ""))}
    note = str(live.get("notes", {}).get(name, ""))
    return stage | ({"note": note} if note else {})


def is_running(snapshot: Snapshot | None, now_ns: int) -> bool:
    """Return whether the service of this snapshot runs at `now_ns`."""
    return state_of(snapshot, now_ns) in RUNNING


def _service(snapshot: Snapshot | None, state: str) -> dict[str, Any]:
    if snapshot is None:
        return {"state": state, "version": "", "host": "", "incoming": [], "started": None, "seen": None, "checks": {}}
    return {
        "state": state,
        "version": snapshot["version"],
        "host": snapshot.get("host", ""),  # an older service does not say
        "incoming": snapshot.get("incoming", []),
        "started": snapshot["started"],
        "seen": instant(int(snapshot["time_ns"])),
        "checks": snapshot["checks"] if state in RUNNING else {},
    }


def set_aside(totals: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return totals of set-aside, and files and bytes for each reason that has files."""
    reasons = {reason: {"files": files, "bytes": size} for reason, (files, size) in totals.items() if files}
    return {
        "files": sum(counts["files"] for counts in reasons.values()),
        "bytes": sum(counts["bytes"] for counts in reasons.values()),
        "reasons": reasons,
    }

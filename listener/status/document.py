"""PURE. The status document: the one dict that `listener status --json` prints, `/api/v1/status` answers and the page
shows, so that they agree by construction. Free of patient data.

`live` is the word of a running service (see live.py), `looked` what can be seen without one, `accounts` what the ledger
says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listener.planning.names import instant

SCHEMA = 1

#: A service whose last word is older than this does not run, or its loop hangs; in seconds.
PATIENCE = 10.0

#: Series in flight that are shown at most (the newest), and series that ended.
IN_FLIGHT, ENDED = 200, 50

#: How a service is, and in words. It runs in the first three.
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

Live = Mapping[str, Any]


class Looked(NamedTuple):
    """What the directories show by themselves: files and bytes by reason of set-aside; of each volume size, available
    (bytes), files and files_free (inodes).
    """

    set_aside: Mapping[str, tuple[int, int]]
    volumes: Mapping[str, Mapping[str, int]]


class Accounts(NamedTuple):
    """What the ledger says; `error` why it cannot be read, "" when it can; `missing`: there is none yet. Rows are dicts
    as the document shows them.

    `counts` maps open, complete, incomplete to a number of series; `hooks` each consumer to what became of its
    deliveries.
    """

    error: str = ""
    missing: bool = False
    counts: Mapping[str, int] = {}
    in_flight: Sequence[Mapping[str, Any]] = ()
    ended: Sequence[Mapping[str, Any]] = ()
    hooks: Mapping[str, Mapping[str, Any]] = {}


def document(live: Live | None, looked: Looked | None, accounts: Accounts, now_ns: int) -> dict[str, Any]:
    """How it stands at `now_ns` (nanoseconds since the epoch)."""
    state = _state(live, now_ns)
    runs = state in RUNNING
    word = live if live is not None and runs else {}
    return {
        "schema": SCHEMA,
        "time": instant(now_ns),
        "service": _service(live, state),
        "files": word.get("files"),
        "rates": word.get("rates"),
        "lag": word.get("lag"),
        "backlog": word.get("backlog"),
        "held_up": word.get("held_up"),
        "workers": word.get("workers"),
        "set_aside": word.get("set_aside") or (set_aside(looked.set_aside) if looked else None),
        "volumes": word.get("volumes") or (dict(looked.volumes) if looked else {}),
        "ledger": {"readable": not accounts.error, "missing": accounts.missing, "error": accounts.error},
        "series": {name: accounts.counts.get(name, 0) for name in ("open", "complete", "incomplete")},
        "in_flight": list(accounts.in_flight),
        "completed": list(accounts.ended),
        "hooks": dict(accounts.hooks),
    }


def _state(live: Live | None, now_ns: int) -> str:
    if live is None:
        return "absent"
    # A clock that was set back makes the age negative; the service's next word, a second later, mends both.
    late = abs(now_ns - int(live["time_ns"])) > PATIENCE * 1e9
    return "lost" if live["state"] != "stopped" and late else str(live["state"])


def runs(live: Live | None, now_ns: int) -> bool:
    """Whether the service whose last word this is runs at `now_ns`."""
    return _state(live, now_ns) in RUNNING


def _service(live: Live | None, state: str) -> dict[str, Any]:
    if live is None:
        return {"state": state, "version": "", "started": None, "seen": None, "checks": {}}
    return {
        "state": state,
        "version": live["version"],
        "started": live["started"],
        "seen": instant(int(live["time_ns"])),
        "checks": live["checks"] if state in RUNNING else {},
    }


def set_aside(lying: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Totals, and the reasons under which something lies."""
    reasons = {reason: {"files": files, "bytes": size} for reason, (files, size) in lying.items() if files}
    return {
        "files": sum(one["files"] for one in reasons.values()),
        "bytes": sum(one["bytes"] for one in reasons.values()),
        "reasons": reasons,
    }

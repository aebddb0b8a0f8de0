"""PURE. /healthz and /readyz: a verdict and a body with every condition and its remedy.

Liveness is only whether a restart would help: the loop turns, and the observer's thread runs. Readiness is whether new
files can be kept; a service that is not ready goes on working, but should get no new associations.
Texts name conditions, numbers and directories by role, never a path or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Seconds without a turn after which the loop counts as stuck.
HEARTBEAT_LIMIT = 60.0

#: Conditions that are shown and change no verdict: intake goes on without them.
ADVISORY = frozenset({"ledger", "locks"})

#: Condition -> (does it hold, what to know or do).
Checks = dict[str, tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """State of the service, replaced as a whole at each turn of the loop.

    `heartbeat` is the last turn on the clock of `now` (monotonic, so that a jump of the wall clock restarts nothing).
    `polling`: only rescans find files. `writable` maps each directory's role (incoming, data, log, state) to whether it
    can be written. `refusal` is the system reason for which work is held back (one of reasons.SYSTEM_REASONS), else "".
    `backlog_limit` is --ready-backlog. `ledger` is "" or why the ledger cannot be written; the service stays ready, as
    files are kept. `locks` is "" or the locks that single files wait for while others go on. `missing`: roles of the
    directories that are not those of the start.
    """

    heartbeat: float
    watcher_alive: bool = False
    polling: bool = False
    watching: bool = False
    scanned: bool = False
    writable: Mapping[str, bool] = field(default_factory=dict)
    space_ok: bool = False
    refusal: str = ""
    backlog: int = 0
    backlog_limit: int = 100_000
    draining: bool = False
    ledger: str = ""
    locks: str = ""
    missing: tuple[str, ...] = ()


def liveness(conditions: Conditions, now: float) -> tuple[bool, dict[str, Any]]:
    """Return whether the process should go on, and the body. Disk and backlog do not count."""
    return verdict({"loop": loop_turns(conditions.heartbeat, now), "watcher": _watcher(conditions)}, "alive", "stuck")


def readiness(conditions: Conditions, now: float) -> tuple[bool, dict[str, Any]]:
    """Return whether new files can be kept, and the body."""
    checks: Checks = {
        "loop": loop_turns(conditions.heartbeat, now),
        "watching": _watching(conditions),
        "scanned": _check(
            conditions.scanned,
            "the first rescan of incoming is done, and the workers are warm",
            "the first rescan of incoming is not done, or a worker has not begun: wait, or look at"
            " listener_last_rescan_timestamp_seconds and the log",
        ),
        **{f"writable-{role}": _writable(role, fine) for role, fine in conditions.writable.items()},
        "volumes": _check(
            not conditions.missing,
            "the directories are those of the start",
            f"not the directories of the start ({_listed(conditions)}), their volumes are gone or they were replaced: "
            "mount them again, or restart if this is meant; no work is taken without data, log and state",
        ),
        "space": _check(
            conditions.space_ok,
            "free space is above --min-free",
            "free space is below --min-free: make room on the volume or lower the floor; sources are kept meanwhile",
        ),
        "system": _check(
            not conditions.refusal,
            "the system refuses nothing",
            f"the system refuses work ({conditions.refusal}): see the log; files wait and are tried again",
        ),
        "backlog": _backlog(conditions),
        "ledger": _check(not conditions.ledger, "the ledger can be written", conditions.ledger),
        "locks": _check(
            not conditions.locks,
            "no file waits for a lock",
            f"{conditions.locks}: files that need it wait, others go on; end or continue the process that holds it",
        ),
        "draining": _check(not conditions.draining, "taking work", "the service is stopping: wait for its successor"),
    }
    return verdict(checks, "ready", "not-ready")


def standby_liveness(heartbeat: float, now: float) -> tuple[bool, dict[str, Any]]:
    """Return whether a service that waits for another one's end should go on, and the body."""
    return verdict({"loop": loop_turns(heartbeat, now)}, "alive", "stuck")


def standby_readiness(heartbeat: float, now: float, fault: str) -> dict[str, Any]:
    """Return the body of /readyz of a service that waits; `fault`: "" or why incoming cannot be locked."""
    text = "another listener owns incoming: this one takes over when that one has ended"
    if fault:
        text = f"incoming cannot be locked ({fault}): see that it is there, and that its file system answers"
    return verdict({"loop": loop_turns(heartbeat, now), "owner": (False, text)}, "ready", "standby")[1]


def in_one_line(body: Mapping[str, Any]) -> str:
    """Return a body in one line: "ready", or "not-ready: space: free space is below ..."."""
    wrong = [f"{name}: {check['text']}" for name, check in body["checks"].items() if not check["ok"]]
    return ": ".join([body["status"], "; ".join(wrong)]) if wrong else str(body["status"])


def verdict(checks: Checks, good: str, bad: str) -> tuple[bool, dict[str, Any]]:
    """Return whether all conditions but ADVISORY ones hold, and the body: `good` or `bad`, and each condition."""
    ok = all(fine for name, (fine, _) in checks.items() if name not in ADVISORY)
    listed = {name: {"ok": fine, "text": text} for name, (fine, text) in checks.items()}
    return ok, {"status": good if ok else bad, "checks": listed}


def _check(fine: bool, good: str, bad: str) -> tuple[bool, str]:
    return fine, good if fine else bad


def loop_turns(heartbeat: float, now: float) -> tuple[bool, str]:
    """Return whether a loop that last turned at `heartbeat` still does, and what to know or do."""
    # A heartbeat later than `now` was written after `now` was read.
    age = max(0.0, now - heartbeat)
    return _check(
        age < HEARTBEAT_LIMIT,
        f"the loop came round {age:.1f} s ago",
        f"the loop has not come round for {age:.0f} s (limit {HEARTBEAT_LIMIT:.0f} s): restart; look for a hung mount",
    )


def _watcher(conditions: Conditions) -> tuple[bool, str]:
    if conditions.polling:
        return True, "polling: rescans find the files"
    return _check(
        conditions.watcher_alive,
        "the observer lives",
        "the observer is dead: restart; where inotify instances are exhausted raise their limit or use --poll",
    )


def _watching(conditions: Conditions) -> tuple[bool, str]:
    if conditions.polling:
        return True, "polling: rescans find the files"
    return _check(
        conditions.watching,
        "incoming is watched",
        "incoming is not watched: see that it exists, raise the inotify limits or use --poll; rescans go on meanwhile",
    )


def _writable(role: str, fine: bool) -> tuple[bool, str]:
    return _check(
        fine,
        f"the {role} directory can be written",
        f"the {role} directory cannot be written: see its owner, its mode and whether its volume is mounted read-only",
    )


def _listed(conditions: Conditions) -> str:
    return ", ".join(conditions.missing)


def _backlog(conditions: Conditions) -> tuple[bool, str]:
    backlog, limit = conditions.backlog, conditions.backlog_limit
    return _check(
        backlog <= limit,
        f"backlog {backlog} of {limit} files",
        f"backlog {backlog} is above {limit} files: wait, add workers, or raise --ready-backlog",
    )

"""PURE. What /healthz and /readyz say: a verdict and a body that names every condition and what to do about it.

Liveness asks only whether a restart would help: the loop comes round, and the observer lives. Readiness asks whether
new files can be kept; a service that is not ready goes on working, but should get no new associations.
Texts name conditions, numbers and directories by role, never a path or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The loop is taken for stuck when it has not come round for this many seconds.
HEARTBEAT_LIMIT = 60.0

#: Conditions that are told and change no verdict: intake goes on without them.
ADVISORY = frozenset({"ledger", "locks"})

#: Condition -> (does it hold, what to know or do).
Checks = dict[str, tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the loop knows of itself and its surroundings, replaced as a whole at each turn.

    `heartbeat` is when the loop last came round, in seconds of the clock that `now` is read from (a monotonic one, so
    that a jump of the wall clock restarts nobody). `polling`: sweeps alone find the files. `writable` maps each
    directory's role (incoming, data, log, state) to whether it can be written. `refusal` is the system reason for
    which work is held back at the moment, one of errors.SYSTEM_REASONS, else "". `backlog_limit` is --ready-backlog.
    `ledger` is "" or why the ledger cannot be written, which does not make the service unready: files are kept. `locks`
    tells of locks that single files wait for while others go on, "" when there is none. `missing` names the roles of
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
    """Whether the process is worth keeping, and the body that says why. Never disk, never backlog."""
    return _verdict({"loop": _loop(conditions, now), "watcher": _watcher(conditions)}, "alive", "stuck")


def readiness(conditions: Conditions, now: float) -> tuple[bool, dict[str, Any]]:
    """Whether new files can be kept, and the body that says why not."""
    checks: Checks = {
        "loop": _loop(conditions, now),
        "watching": _watching(conditions),
        "scanned": _told(
            conditions.scanned,
            "the first sweep of incoming is done, and the workers are warm",
            "the first sweep of incoming is not done, or a worker has not begun: wait, or look at"
            " listener_last_rescan_timestamp_seconds and the log",
        ),
        **{f"writable-{role}": _writable(role, fine) for role, fine in conditions.writable.items()},
        "volumes": _told(
            not conditions.missing,
            "the directories are those of the start",
            f"not the directories of the start, their volumes are gone or they were replaced: {_listed(conditions)}; "
            "mount them again, or restart if this is meant; no work is taken without data, log and state",
        ),
        "space": _told(
            conditions.space_ok,
            "free space is above --min-free",
            "free space is below --min-free: make room on the volume or lower the floor; sources are kept meanwhile",
        ),
        "system": _told(
            not conditions.refusal,
            "the system refuses nothing",
            f"the system refuses work ({conditions.refusal}): see the log; files wait and are tried again",
        ),
        "backlog": _backlog(conditions),
        "ledger": _told(not conditions.ledger, "the ledger can be written", conditions.ledger),
        "locks": _told(
            not conditions.locks,
            "no file waits for a lock",
            f"{conditions.locks}: files that need it wait, others go on; end or continue the process that holds it",
        ),
        "draining": _told(not conditions.draining, "taking work", "the service is stopping: wait for its successor"),
    }
    return _verdict(checks, "ready", "not-ready")


def in_one_line(body: Mapping[str, Any]) -> str:
    """The verdict, and what is wrong: "ready", or "not-ready: space: free space is below ...".

    For logs and for whoever has room for one line only.
    """
    wrong = [f"{name}: {check['text']}" for name, check in body["checks"].items() if not check["ok"]]
    return ": ".join([body["status"], "; ".join(wrong)]) if wrong else str(body["status"])


def _verdict(checks: Checks, good: str, bad: str) -> tuple[bool, dict[str, Any]]:
    ok = all(fine for name, (fine, _) in checks.items() if name not in ADVISORY)
    listed = {name: {"ok": fine, "text": text} for name, (fine, text) in checks.items()}
    return ok, {"status": good if ok else bad, "checks": listed}


def _told(fine: bool, good: str, bad: str) -> tuple[bool, str]:
    return fine, good if fine else bad


def _loop(conditions: Conditions, now: float) -> tuple[bool, str]:
    # A heartbeat just behind `now` is one that was written after `now` was read.
    age = max(0.0, now - conditions.heartbeat)
    return _told(
        age < HEARTBEAT_LIMIT,
        f"the loop came round {age:.1f} s ago",
        f"the loop has not come round for {age:.0f} s (limit {HEARTBEAT_LIMIT:.0f} s): restart; look for a hung mount",
    )


def _watcher(conditions: Conditions) -> tuple[bool, str]:
    if conditions.polling:
        return True, "polling: sweeps find the files"
    return _told(
        conditions.watcher_alive,
        "the observer lives",
        "the observer is dead: restart; where inotify instances are exhausted raise their limit or use --poll",
    )


def _watching(conditions: Conditions) -> tuple[bool, str]:
    if conditions.polling:
        return True, "polling: sweeps find the files"
    return _told(
        conditions.watching,
        "incoming is watched",
        "incoming is not watched: see that it exists, raise the inotify limits or use --poll; sweeps go on meanwhile",
    )


def _writable(role: str, fine: bool) -> tuple[bool, str]:
    return _told(
        fine,
        f"the {role} directory can be written",
        f"the {role} directory cannot be written: see its owner, its mode and whether its volume is mounted read-only",
    )


def _listed(conditions: Conditions) -> str:
    return ", ".join(conditions.missing)


def _backlog(conditions: Conditions) -> tuple[bool, str]:
    backlog, limit = conditions.backlog, conditions.backlog_limit
    return _told(
        backlog <= limit,
        f"backlog {backlog} of {limit} files",
        f"backlog {backlog} is above {limit} files: wait, add workers, or raise --ready-backlog",
    )

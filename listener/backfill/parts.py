"""PURE. The parts of a backfill together: what is done, what is left, which parts are missing, how fast it goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from listener.status.formatting import count, rate, several, share, size, span

SCHEMA = 1

#: The ends of listed files, as an account names them, and `left`.
KINDS = ("published", "duplicate", "set_aside", "vanished", "left")

#: States of a part. `left`: it has ended and left files; `silent`: it has not ended and says nothing.
STATES = ("ended", "left", "running", "silent", "missing")

#: Seconds without a word after which a part that has not ended counts as silent.
SILENT_AFTER = 15.0

#: Parts that are named at most where people read.
_MOST = 20

_SHARE = re.compile(r"(?P<before>.*-)?(?P<part>\d+)-of-(?P<parts>\d+)(?P<by>-by-name)?")


class Part(NamedTuple):
    """What is known of one part: its account, and what it said last while it ran (None: nothing)."""

    name: str
    account: Mapping[str, Any] | None
    live: Mapping[str, Any] | None


def state_of(part: Part, now_ns: int) -> str:
    """Return one of STATES."""
    if part.account:
        return "left" if part.account["left"] or part.account.get("unread") else "ended"
    if part.live and abs(now_ns - int(part.live["time_ns"])) < SILENT_AFTER * 1e9:
        return "running"
    return "silent"


def missing(names: Iterable[str], lists: Iterable[str] = ()) -> list[str]:
    """Return the names of parts that were never begun: those between others, and those of `lists`."""
    there = set(names)
    groups: dict[tuple[str, int, int, str], None] = {}
    for name in there:
        match = _SHARE.fullmatch(name)
        if match:
            width = len(match["part"])
            groups[match["before"] or "", width, int(match["parts"]), match["by"] or ""] = None
    wanted = [
        f"{before}{part:0{width}d}-of-{parts}{by}"
        for before, width, parts, by in groups
        for part in range(parts)
    ]  # fmt: skip
    return sorted({*wanted, *lists} - there)


def document(parts: Sequence[Part], lists: Iterable[str], now_ns: int) -> dict[str, Any]:
    """Return all of it as one document, which `--json` prints. `vanished_elsewhere`, how many of the vanished files
    another part has seen to, is for the caller to fill in.
    """
    shown = [_shown(part, now_ns) for part in parts]
    absent = missing((part.name for part in parts), lists)
    states = Counter(one["state"] for one in shown) | Counter({"missing": len(absent)})
    totals = {kind: sum(one[kind] for one in shown) for kind in ("listed", *KINDS, "bytes")}
    done = totals["listed"] - totals["left"]
    begun = min((seconds_of(one["begun"]) for one in shown if one["begun"]), default=0.0)
    ended = max((seconds_of(one["ended"]) for one in shown if one["ended"]), default=0.0)
    runs = bool(states["running"])
    seconds = max(0.0, (now_ns / 1e9 if runs else ended) - begun) if begun else 0.0
    pace = done / seconds if seconds else 0.0
    # What nobody has listed yet is taken for as much as the others have.
    unknown = len(absent) * totals["listed"] / len(shown) if shown else 0.0
    return {
        "schema": SCHEMA,
        **totals,
        "vanished_elsewhere": 0,
        "states": {state: states[state] for state in STATES},
        "missing": absent,
        "seconds": round(seconds, 1),
        "rate": round(pace, 1),
        "seconds_left": round((totals["left"] + unknown) / pace, 1) if runs and pace else None,
        "parts": shown,
    }


def seconds_of(instant: str) -> float:
    """Return the moment of an account in seconds since the epoch."""
    return datetime.fromisoformat(instant).timestamp()


def is_complete(found: Mapping[str, Any]) -> bool:
    """Return whether every part has ended and nothing is left."""
    return bool(found["parts"]) and found["states"]["ended"] == len(found["parts"]) and not found["missing"]


def _shown(part: Part, now_ns: int) -> dict[str, Any]:
    said: Mapping[str, Any] = part.account or part.live or {}
    return {
        "part": part.name,
        "state": state_of(part, now_ns),
        "listed": said.get("listed", 0),
        **{kind: said.get(kind, 0) for kind in KINDS},
        "bytes": said.get("bytes", 0),
        "begun": said.get("begun", ""),
        "ended": said.get("ended") or "",
        "host": said.get("host", ""),
    }


def summary(found: Mapping[str, Any]) -> str:
    """Return the lines that stand above the table."""
    states, done = found["states"], found["listed"] - found["left"]
    told = [f"{states[state]} {state}" for state in STATES if states[state]]
    lines = [f"{several(sum(states.values()), 'part')}: {', '.join(told) or 'none'}"]
    ends = ", ".join(f"{count(found[kind])} {kind.replace('_', ' ')}" for kind in KINDS if found[kind])
    lines.append(f"{count(found['listed'])} files listed, {share(done, found['listed'])} done: {ends or 'nothing'}")
    pace = f"{size(found['bytes'])} published, {rate(found['rate'])} files/s in {span(found['seconds'])}"
    left = f", {span(found['seconds_left'])} left" if found["seconds_left"] is not None else ""
    lines.append(pace + left)
    if found["vanished"] and not states["running"]:
        elsewhere = found["vanished_elsewhere"]
        nowhere = found["vanished"] - elsewhere
        lines.append(
            f"of those that vanished {count(elsewhere)} came through another part, {count(nowhere)} are nowhere"
        )
    return "\n".join(lines)


def unfinished(found: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the parts to be shown, those with files in set-aside too, and how many more there are."""
    rows = [one for one in found["parts"] if one["state"] != "ended" or one["set_aside"]]
    return rows[:_MOST], max(0, len(rows) - _MOST)


def named(names: Sequence[str]) -> str:
    """Return some names in one line, and how many more there are."""
    more = f" and {count(len(names) - _MOST)} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more

"""PURE. Files that wait alone, because what refused them concerns only their own place (a patient's directory that is
a broken link, a lock that another process holds).

Each is tried again at growing intervals, and a last time when --give-up is over; if that fails too the worker sets it
aside as `unplaceable`. Memory and tries are bounded: beyond MOST files the next try of one more is its last, and all
together are tried at most RATE times a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from listener.records import Deferral

#: Files that are held up at once, and their tries a second, at most.
MOST = 25_000
RATE = 20.0

#: Interval in which one place is logged again, in seconds; at most _MOST_LINES are logged in _LINES_EVERY seconds.
_LOGGED_AGAIN = 300.0
_MOST_LINES = 10
_LINES_EVERY = 60.0

#: Places that status shows at most.
SHOWN = 20


class Place(NamedTuple):
    """What was refused where; the fields are those of Deferral."""

    reason: str
    step: str
    error: str
    place: str
    series: str


class Turn(NamedTuple):
    """The next try of a file on the monotonic clock, whether that is its last, and whether to log the refusal."""

    due: float
    last: bool
    news: bool


@dataclass(slots=True)
class _Waiting:
    since: float
    tries: int
    place: Place


@dataclass(slots=True)
class _Group:
    since: float
    files: int = 0
    logged: float = float("-inf")


class HeldUp:
    """The files that are held up, by Arrival.key. `give_up` in seconds; `pause` returns the seconds to wait after a
    number of tries.
    """

    def __init__(self, give_up: float, pause: Callable[[int], float]) -> None:
        self._give_up = give_up
        self._pause = pause
        self._files: dict[str, _Waiting] = {}
        self._groups: dict[Place, _Group] = {}
        self._lines = 0
        self._lines_until = float("-inf")

    def __len__(self) -> int:
        return len(self._files)

    def refuse(self, key: str, new_key: str, deferral: Deferral, now: float, longest: float = 30.0) -> Turn:
        """Hold up the file `key`, whose key is `new_key` from now on (it may have been claimed), and return its next
        try: within `longest` seconds, unless very many are held up.
        """
        place = Place(deferral.reason, deferral.step, deferral.error, deferral.place, deferral.series)
        group = self._groups.setdefault(place, _Group(now))
        group.files += 1  # Before _take_out, which deletes an empty group: it may be this one.
        before = self._take_out(key)
        since, tries = (before.since, before.tries + 1) if before else (now, 1)
        self._files[new_key] = _Waiting(since, tries, place)
        due = now + max(min(self._pause(tries), longest), len(self._files) / RATE)
        end = since + self._give_up
        if now < end < due:
            due = end
        return Turn(due, due >= end or len(self._files) > MOST, self._is_news(group, now))

    def _is_news(self, group: _Group, now: float) -> bool:
        if now >= self._lines_until:
            self._lines, self._lines_until = 0, now + _LINES_EVERY
        if now - group.logged < _LOGGED_AGAIN or self._lines >= _MOST_LINES:
            return False
        self._lines += 1
        group.logged = now
        return True

    def move(self, key: str, new_key: str) -> None:
        """Change the key of a file, if it is held up; it keeps the time of its first refusal."""
        if key in self._files:
            self._files[new_key] = self._files.pop(key)

    def forget(self, key: str) -> bool:
        """Forget a finished file; return True if it was the last that was held up."""
        return self._take_out(key) is not None and not self._files

    def _take_out(self, key: str) -> _Waiting | None:
        waiting = self._files.pop(key, None)
        if waiting:
            group = self._groups[waiting.place]
            group.files -= 1
            if not group.files:
                del self._groups[waiting.place]
        return waiting

    def holds(self, key: str) -> bool:
        """Return whether the file is held up."""
        return key in self._files

    def series(self) -> frozenset[str]:
        """Return the Series Instance UIDs of the files, as far as they are known."""
        return frozenset(place.series for place in self._groups if place.series)

    def counts(self) -> Counter[str]:
        """Return the number of files by reason."""
        counts: Counter[str] = Counter()
        for place, group in self._groups.items():
            counts[place.reason] += group.files
        return counts

    def shown(self, now: float) -> dict[str, Any]:
        """Return the part of the status document: files, places, and the SHOWN places with most files."""
        most = sorted(self._groups.items(), key=lambda pair: -pair[1].files)[:SHOWN]
        places = [
            {
                "reason": place.reason,
                "stage": place.step,
                "error": place.error,
                "place": place.place,
                "SeriesInstanceUID": place.series,
                "files": group.files,
                "seconds": round(now - group.since, 3),
            }
            for place, group in most
        ]
        return {"files": len(self._files), "places": len(self._groups), "shown": places}


def shown_together(several: Iterable[HeldUp], now: float) -> dict[str, Any]:
    """Return the part of the status document for several ways in: as shown() has it, of all of them."""
    parts = [one.shown(now) for one in several]
    places = sorted((place for part in parts for place in part["shown"]), key=lambda place: -place["files"])
    return {
        "files": sum(part["files"] for part in parts),
        "places": sum(part["places"] for part in parts),
        "shown": places[:SHOWN],
    }

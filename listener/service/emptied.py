"""Directories that storescp made for a study and that nothing lies in any more: removed after a day without traffic.

Never sooner, and never the newest: storescp makes the directory of a study (-su, -ss, -sp) with its first file, and
refuses whatever else comes of the study that it received last when it is gone. One that a person made, which a storescp
may be told to write to, is never removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from math import inf

#: Without traffic for so long, in seconds; how often is looked; and how far the clocks may drift apart meanwhile.
_DAY = 86_400.0
_EVERY = 3_600.0
_DRIFT = 60.0

#: More wait for the next look.
_MOST = 10_000

#: How storescp names them: a prefix and the Study Instance UID (-su), or a prefix or the patient's name and the time,
#: YYYYMMDD_HHMMSSmmm (-ss, -sp). Source: storescp(1), --sort-on-study-uid, --sort-conc-studies, --sort-on-patientname.
_NAME = re.compile(r"_(?:[0-9]+(?:\.[0-9]+)+|[0-9]{8}_[0-9]{9})")


class Emptied:
    """Empty directories that sweeps come by. Times in seconds on the monotonic clock, `now_ns` on the wall clock."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._next = 0.0
        self._offset: float | None = None
        self._jumped = -inf

    def due(self, now: float) -> bool:
        """Whether a pass is to tell of what it finds empty."""
        return now >= self._next

    def found(self, path: str) -> None:
        """A directory below incoming is empty."""
        if len(self._found) < _MOST and _kind(path.rpartition("/")[2]) is not None:
            self._found.append(path)

    def remove(self, now: float, now_ns: int) -> int:
        """The pass is complete: remove what nothing happened in for a day; how many that were."""
        self._next = now + _EVERY
        found, self._found = self._found, []
        self._watch_the_clock(now, now_ns)
        if now - self._jumped < _DAY:  # Times of directories may be those of the clock before.
            return 0
        removed = 0
        keep = {newest for parent in {os.path.dirname(path) for path in found} for newest in _newest(parent)}
        for path in found:
            if path in keep:
                continue
            with contextlib.suppress(OSError):  # Something came; or it is another one's.
                status = os.stat(path)
                if now_ns - max(status.st_mtime_ns, status.st_ctime_ns) >= _DAY * 1e9:
                    os.rmdir(path)
                    removed += 1
        return removed

    def _watch_the_clock(self, now: float, now_ns: int) -> None:
        """Note when the wall clock was set: a directory that was made a moment ago then looks a day old."""
        offset = now_ns / 1e9 - now
        if self._offset is not None and abs(offset - self._offset) > _DRIFT:
            self._jumped = now
        self._offset = offset


def _kind(name: str) -> str | None:
    """What directories of one storescp have in common: the prefix before a UID, or that a time ends them; None for a
    name that storescp gives to none.
    """
    found = _NAME.search(name)
    if not found or found.end() != len(name):
        return None
    return "" if "_" in found[0][1:] else name[: found.start() + 1]


def _newest(parent: str) -> list[str]:
    """The directory of each kind in which something happened last."""
    last: dict[str, tuple[int, str]] = {}
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            kind = _kind(entry.name)
            if kind is not None and entry.is_dir(follow_symlinks=False):
                last[kind] = max(last.get(kind, (0, "")), (entry.stat().st_mtime_ns, entry.path))
    return [path for _, path in last.values()]

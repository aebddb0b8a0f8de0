"""NDJSON events on standard output: one line a file, and what happens to the service itself.

Free of patient data unless --phi, with which a line is a superset of rx-repack's `--log-ndjson`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from typing import Any

import orjson

from listener.diagnostics import has_room, log
from listener.planning.names import instant, printable
from listener.records import Outcome

#: Bytes that wait at most for a reader that does not read: some 10,000 lines.
_MAX_PENDING = 4 * 2**20

_PAGE = 4096

#: Seconds that the last event (`stopped`) waits for a reader.
_LAST_SECONDS = 2.0


def event_of(outcome: Outcome, phi: bool) -> dict[str, Any]:
    """Return the event of one file. `lag` and `seconds` are in seconds."""
    event: dict[str, Any] = {
        "time": instant(outcome.finished_ns),
        "event": outcome.kind,
        "src": printable(outcome.path if phi else os.path.basename(outcome.path)),
        "SOPInstanceUID": outcome.SOPInstanceUID,
        "SeriesInstanceUID": outcome.SeriesInstanceUID,
        "StudyInstanceUID": outcome.StudyInstanceUID,
        "size": outcome.size,
        "lag": max(0, outcome.finished_ns - outcome.arrived_ns) / 1e9,
        "seconds": outcome.seconds,
    }
    if phi:
        event["dst"] = printable(outcome.dst)
        event["PatientID"] = outcome.PatientID
    if outcome.reason:
        event["reason"] = outcome.reason
        # Whom to ask for the file again.
        event |= {key: text for key, text in (("Modality", outcome.Modality), ("sender", outcome.sender)) if text}
    if outcome.error:
        event["error"] = outcome.error
    if outcome.warning:
        event["warning"] = outcome.warning
    if outcome.superseded:
        event["superseded"] = True
    if outcome.missing:
        event["missing"] = [missing._asdict() for missing in outcome.missing]
    return event


class Events:
    """Writes events. A reader that went away stops the events, one that does not read makes them wait, but never
    intake, unless `waits` is set, as for a command in a pipe.

    What waits is bounded. Events beyond that are dropped and counted in an event `events-lost` in their place.
    """

    def __init__(self, phi: bool, descriptor: int | None = 1, *, waits: bool = False, which: str = "all") -> None:
        self.phi = phi
        #: What is written: "all"; "series": of files only those that were set aside; "off": nothing.
        self.which = which
        self._descriptor = descriptor
        self._pending = bytearray()
        self._lost = 0
        # A regular file is always ready; pipes, sockets and terminals are polled.
        self._at_once = waits or descriptor is None or _is_file(descriptor)

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Write one line a file, all in one write."""
        if self._descriptor is not None and self.which != "off":
            told = [one for one in outcomes if self.which == "all" or one.kind == "set-aside"]
            self._write([_line(event_of(outcome, self.phi)) for outcome in told])

    def service(self, name: str, now_ns: int, **more: Any) -> None:
        """Write an event of the service itself."""
        if self.which == "off":
            return
        patience = _LAST_SECONDS if name == "stopped" else 0.0
        self.flush(patience)
        self._write([_line({"time": instant(now_ns), "event": name, **more})])
        self.flush(patience)

    def services(self, events: Iterable[tuple[str, int, dict[str, Any]]]) -> None:
        """Write several events of a stage, all in one write: name, time (since the epoch) and values of each."""
        if self.which != "off":
            self._write([_line({"time": instant(at_ns), "event": name, **more}) for name, at_ns, more in events])

    def flush(self, seconds: float = 0.0) -> None:
        """Write what waits, as far as the reader takes it within `seconds`."""
        end = time.monotonic() + seconds
        while self._descriptor is not None and self._pending:
            if not self._at_once and not has_room(self._descriptor, end - time.monotonic()):
                return
            try:
                # A pipe that has room takes a page without blocking.
                piece = self._pending if self._at_once else self._pending[:_PAGE]
                del self._pending[: os.write(self._descriptor, piece)]
            except BrokenPipeError:
                self._descriptor = None
            except OSError:  # A full disk under a regular file: written later.
                return

    def _write(self, lines: list[bytes]) -> None:
        if self._descriptor is None:
            return
        self.flush()
        if self._lost and len(self._pending) < _MAX_PENDING // 2:
            self._pending += _line({"time": instant(time.time_ns()), "event": "events-lost", "count": self._lost})
            self._lost = 0
        if self._lost or len(self._pending) >= _MAX_PENDING:
            if not self._lost:
                log.error("standard output is not read, or has no room; events are left out and counted")
            self._lost += len(lines)
            return
        self._pending += b"".join(lines)
        self.flush()


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # Standard output was closed from the start.
        return True


def _line(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)

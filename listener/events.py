"""NDJSON events on standard output: one line a file, and what happens to the service itself.

Free of patient data unless --phi, with which a line is a superset of rx-repack's `--log-ndjson`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import orjson

from listener.names import instant, printable
from listener.records import Outcome


def of_outcome(outcome: Outcome, phi: bool) -> dict[str, Any]:
    """The event of one file, as a dict. `lag` and `seconds` are in seconds."""
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
    if outcome.error:
        event["error"] = outcome.error
    if outcome.warning:
        event["warning"] = outcome.warning
    if outcome.superseded:
        event["superseded"] = True
    if outcome.missing:
        event["missing"] = [one._asdict() for one in outcome.missing]
    return event


class Events:
    """Writes events; a reader that went away stops the events, never the intake."""

    def __init__(self, phi: bool, descriptor: int | None = 1) -> None:
        self._phi = phi
        self._descriptor = descriptor
        self._torn = False

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """One line a file, in one write."""
        if self._descriptor is not None:
            self._write(b"".join([_line(of_outcome(outcome, self._phi)) for outcome in outcomes]))

    def service(self, name: str, now_ns: int, **more: Any) -> None:
        """An event of the service itself."""
        self._write(_line({"time": instant(now_ns), "event": name, **more}))

    def _write(self, data: bytes) -> None:
        whole = b"\n" + data if self._torn else data
        view = memoryview(whole)
        try:
            while view and self._descriptor is not None:
                view = view[os.write(self._descriptor, view) :]
            self._torn = False
        except BrokenPipeError:
            self._descriptor = None
        except OSError:
            # A full disk under a redirected output: lines are lost, and one that was cut is ended when there is room.
            self._torn |= len(view) < len(whole)


def _line(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)

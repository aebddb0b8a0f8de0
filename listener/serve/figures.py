"""What is told of requests: metrics, and events that say who read what."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from listener.serve.index import Lookup
from listener.telemetry.events import Events
from listener.telemetry.metrics import Exposition

#: Seconds between two events of the same client, study and resource.
_MINUTE = 60.0

#: Different reads that are counted apart in a minute; the others are counted together.
_MOST_READS = 10_000


class Told(NamedTuple):
    """What is counted of an answer: kind of resource ("other" for none), status, bytes, frames, seconds, the client's
    name, and the study.
    """

    kind: str
    status: int
    bytes: int
    frames: int
    seconds: float
    client: str
    StudyInstanceUID: str


class Figures:
    """Counts answers and look-ups of all processes of a service; for one thread."""

    def __init__(self, metrics: Exposition, events: Events) -> None:
        self._metrics, self._events = metrics, events
        self._reads: dict[tuple[str, str, str], list[int]] = {}
        self._read_at = time.monotonic()

    def told(self, told: Told) -> None:
        """Count an answer."""
        self._metrics.add("serve_requests_total", 1, told.kind, f"{told.status // 100}xx")
        self._metrics.observe("serve_request_duration_seconds", told.seconds, told.kind)
        self._metrics.add("serve_bytes_total", told.bytes, told.kind)
        self._metrics.add("serve_frames_total", told.frames)
        if told.StudyInstanceUID:
            key = (told.client, told.StudyInstanceUID, told.kind)
            if key not in self._reads and len(self._reads) >= _MOST_READS:
                key = ("others", "", told.kind)
            counts = self._reads.setdefault(key, [0, 0, 0])
            counts[0] += 1
            counts[1] += told.bytes
            counts[2] += told.status >= 400

    def looked(self, lookup: Lookup) -> None:
        """Count a look-up of a series in the index."""
        self._metrics.add("serve_index_lookups_total", 1, lookup.result)
        if lookup.result in ("made", "failed"):
            self._metrics.observe("serve_index_duration_seconds", lookup.seconds)

    def tell_reads(self, *, at_once: bool = False) -> None:
        """Write an event for each client, study and resource, once a minute or `at_once`: who read what."""
        if not at_once and time.monotonic() - self._read_at < _MINUTE:
            return
        reads, self._reads, self._read_at = self._reads, {}, time.monotonic()
        for (client, study, kind), (requests, size, failures) in reads.items():
            about: dict[str, Any] = {"client": client, "StudyInstanceUID": study, "resource": kind}
            counts = {"requests": requests, "bytes": size, "failures": failures}
            self._tell("read", **about, **counts)

    def _tell(self, event: str, **more: Any) -> None:
        self._events.service(event, time.time_ns(), **more)

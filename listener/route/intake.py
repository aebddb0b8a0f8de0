"""What comes: along which routes an instance goes, and what is queued for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk.files import opened
from listener.ledger.feed import FeedRow
from listener.reasons import FileFault
from listener.route.queue import File, NewSend, Queue
from listener.route.returning import Returns
from listener.route.routes_file import Route, Routes, is_inside, matching
from listener.route.schema import COPY, PRIORITIES, WORKER
from listener.route.studies import Studies


class Arrival(NamedTuple):
    """A file that came: what the feed told, and its ids in route.sqlite. `again`: it came (once more), and
    is not only found; `changed`: it is another one than before.
    """

    row: FeedRow
    instance_id: int
    series_id: int
    again: bool
    changed: bool


def values_of(path: str, keywords: frozenset[str]) -> Mapping[str, str]:
    """Return the texts of these attributes in a file; none if it cannot be read."""
    try:
        with opened(path) as descriptor:
            return read_header(descriptor, os.fstat(descriptor).st_size, Wanted.of(keywords), Limits()).values
    except (OSError, FileFault):
        return {}


class Intake:
    """Queues what comes. Called within queue.writing().

    `routes` is replaced when the file changes. `tell` is called with the name and the values of each event.
    `touched` are targets for which something was queued; to be cleared.
    """

    def __init__(
        self, queue: Queue, studies: Studies, data_dir: str, returns: Returns, tell: Callable[..., None]
    ) -> None:
        self._queue, self._studies, self._data_dir = queue, studies, data_dir
        self._returns, self._tell = returns, tell
        self.routes = Routes({}, {})
        self.touched: set[str] = set()
        self._unclaimed: set[tuple[int, str, str]] = set()

    def take(self, row: FeedRow, now: float, *, again: bool = True) -> None:
        """Queue an instance; without `again` only if it never came before (it was found, not told)."""
        if not row.StudyInstanceUID:
            row = self._completed(row)
        inside = is_inside(self.routes, row.root)
        uids = (row.SeriesInstanceUID, row.StudyInstanceUID)
        series_id, began = self._queue.series_id(*uids, opens=not inside)
        if not again and self._queue.is_known(row, series_id):
            return
        file = File.at(os.path.join(self._data_dir, row.path))
        instance_id, _, changed = self._queue.instance(row, series_id, file)
        if began:
            self._studies.series_changed(row.StudyInstanceUID, self.routes.routes, now)
        arrival = Arrival(row, instance_id, series_id, again, changed)
        if inside:
            for told in self._returns.take(row, instance_id, int(now * 1e9)):
                self._tell(told.event, **told.fields)
        elif not self._returns.is_ours(row.SOPInstanceUID):
            self._route(arrival, now)

    def _completed(self, row: FeedRow) -> FeedRow:
        """Return the row with UIDs from the file: the ledger did not know its series."""
        values = values_of(os.path.join(self._data_dir, row.path), frozenset(("SeriesInstanceUID", "StudyInstanceUID")))
        return row._replace(
            SeriesInstanceUID=values.get("SeriesInstanceUID", ""), StudyInstanceUID=values.get("StudyInstanceUID", "")
        )

    def _route(self, arrival: Arrival, now: float) -> None:
        row = arrival.row
        routes = self.matching(arrival)
        for route in routes:
            self._queue_for(route, arrival, now)
        if not routes and self._queue.unclaimed(arrival.instance_id, row, int(now * 1e9)):
            told = (arrival.series_id, row.sender, row.root)
            if told not in self._unclaimed:
                self._unclaimed.add(told)
                uids = {"StudyInstanceUID": row.StudyInstanceUID, "SeriesInstanceUID": row.SeriesInstanceUID}
                self._tell("unclaimed", **uids, sender=row.sender, root=row.root.rstrip("/").rpartition("/")[2])

    def routes_of(self, row: FeedRow) -> list[Route]:
        """Return the routes of a file in the ledger."""
        series_id, _ = self._queue.series_id(row.SeriesInstanceUID, row.StudyInstanceUID)
        return self.matching(Arrival(row, 0, series_id, again=False, changed=False))

    def matching(self, arrival: Arrival) -> list[Route]:
        """Return the routes of an arrival."""
        row = arrival.row
        return matching(self.routes, row.root, row.sender, lambda keyword: self._value(arrival, keyword))

    def _value(self, arrival: Arrival, keyword: str) -> str:
        """Return by which value of a keyword a series is judged: that of the first of its instances that was asked."""
        value = self._queue.judged(arrival.series_id, keyword)
        if value is None:
            path = os.path.join(self._data_dir, arrival.row.path)
            value = values_of(path, frozenset((keyword,))).get(keyword, "")
            self._queue.judge(arrival.series_id, keyword, value)
        return value

    def _queue_for(self, route: Route, arrival: Arrival, now: float) -> None:
        row, now_ns, priority = arrival.row, int(now * 1e9), PRIORITIES[route.priority]
        study_id, worker = self._studies.take(route, row.StudyInstanceUID, (row.sender, row.root), now)
        again, changed = arrival.again, arrival.changed
        if route.workers:
            send = NewSend(arrival.instance_id, study_id, WORKER, worker, priority)
            count = self._queue.add(send, now_ns, again=again, changed=changed)
            self._studies.queued(study_id, count, now)
            self.touched.add(worker)
        for name in route.copies:
            send = NewSend(arrival.instance_id, study_id, COPY, name, priority)
            self._queue.add(send, now_ns, again=again, changed=changed)
            self.touched.add(name)

    def claim(self, limit: int, after: int, now: float) -> int:
        """Route unclaimed arrivals that have a route now; return the id behind which to go on, 0 at the end."""
        rows = self._queue.unclaimed_rows(limit, after)
        for instance_id, series_id, row in rows:
            arrival = Arrival(row, instance_id, series_id, again=True, changed=False)
            routes = self.matching(arrival)
            for route in routes:
                self._queue_for(route, arrival, now)
            if routes:
                self._queue.claim(instance_id, row.sender, row.root)
        return rows[-1][0] if len(rows) == limit else 0

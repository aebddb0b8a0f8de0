"""What is made ahead, by one process of a service: the catalogue, of every series; and documents, of those that are
complete. The newest first, at the lowest priority.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow
from listener.moments import LAST
from listener.serve import space
from listener.serve.index import DEADLINE, Index
from listener.serve.workers import Worker, WorkerFailed

#: Seconds between two looks for new series, and between two counts of the index's bytes.
_LOOK, _COUNT = 1.0, 3600.0

#: Series that the catalogue takes at a time, and nanoseconds by which an arrival may be recorded late.
_PER_STEP, _MARGIN_NS = 200, 60 * 10**9

#: The part of the space up to which documents are made ahead.
_AHEAD = 0.9


class Ahead:
    """Fills an index. `limit` is its space in bytes (0: any number); `documents`: those are made ahead, too."""

    def __init__(self, index: Index, limit: int, *, documents: bool) -> None:
        self._index, self._limit, self._documents = index, limit, documents
        self._worker = Worker(19, DEADLINE)
        self._since_ns = 0
        self._failed: dict[int, int] = {}
        self._open: dict[int, SeriesRow] = {}
        self._undescribed: dict[int, SeriesRow] = {}
        self._made: dict[int, int] = {}
        self._count_at = 0.0
        #: Bytes of the index; when the oldest series that the catalogue lacks came, in
        #: nanoseconds since the epoch (0: it lacks none); complete series without a document.
        self.bytes = 0
        self.oldest_ns = 0
        self.undescribed = 0
        #: Series that could not be described.
        self.failed = 0

    async def run(self) -> None:
        """Fill the index for ever."""
        while True:
            try:
                await self.step()
            except LedgerFault as fault:
                log.warning("the catalogue waits: %s", fault)
            await asyncio.sleep(_LOOK)

    async def step(self) -> None:
        """Do what is due: the catalogue, then documents until there is something new. Raises LedgerFault."""
        rows = await asyncio.to_thread(self._arrivals)
        await self._describe(rows)
        if time.monotonic() >= self._count_at or (self._limit and self.bytes > self._limit):
            self.bytes = await asyncio.to_thread(space.tidy, self._index.places.folder, self._limit)
            self._count_at = time.monotonic() + _COUNT
        if self._documents:
            await self._make_documents(rows)
        self.undescribed = len(self._undescribed)

    async def _make_documents(self, rows: Sequence[SeriesRow]) -> None:
        """Make documents of complete series for a second at most: there may be newer ones."""
        complete = {row.id: row for row in rows if row.state == "complete"}
        self._made = {key: last_ns for key, last_ns in self._made.items() if key in complete}
        new = {key: row for key, row in complete.items() if self._made.get(key) != row.last_ns}
        self._undescribed = {**self._undescribed, **dict(reversed(new.items()))}
        until = time.monotonic() + _LOOK
        while self._undescribed and time.monotonic() < until and not self._is_full():
            row = next(reversed(self._undescribed.values()))
            self.failed += not await self._index.ahead(row, self._worker)
            self._made[row.id] = row.last_ns
            del self._undescribed[row.id]

    def grew(self, size: int) -> None:
        """Count what the index takes more."""
        self.bytes += size

    @property
    def is_done(self) -> bool:
        """Return whether nothing is left to be made, or no space for it."""
        return self._index.waiting == 0 and (not self._undescribed or self._is_full())

    def _is_full(self) -> bool:
        return bool(self._limit) and self.bytes > self._limit * _AHEAD

    async def _describe(self, rows: Sequence[SeriesRow]) -> None:
        """Describe what the catalogue lacks of some series."""
        wanted = await asyncio.to_thread(self._index.catalogue.missing, rows)
        lacking = [row for row in rows if row.id in wanted and self._failed.get(row.id) != row.last_ns]
        self._index.waiting = len(lacking)
        self.oldest_ns = min((row.last_ns for row in lacking), default=0)
        described: list[tuple[SeriesRow, dict[str, Any]]] = []
        for row in lacking:
            found = await self._first(row)
            if found is None:
                self._failed[row.id] = row.last_ns
                self.failed += 1
            else:
                described.append((row, found))
            if len(described) >= _PER_STEP:
                await asyncio.to_thread(self._index.catalogue.put, described)
                self._index.waiting -= len(described)
                described = []
        if described:
            await asyncio.to_thread(self._index.catalogue.put, described)
        self._index.waiting, self.oldest_ns = 0, 0
        self._since_ns = max([self._since_ns, *(row.last_ns - _MARGIN_NS for row in rows)])

    async def _first(self, row: SeriesRow) -> dict[str, Any] | None:
        paths = await asyncio.to_thread(self._first_paths, row)
        try:
            found: dict[str, Any] | None = await self._worker.run(
                kind="first", data=self._index.places.data, paths=paths
            )
        except WorkerFailed:
            return None
        return found

    def _first_paths(self, row: SeriesRow) -> list[str]:
        with reading(self._index.places.state) as reader:
            return reader.paths_of(row)[:3]

    def _arrivals(self) -> list[SeriesRow]:
        """Return the series that got something or ended since the last look, the newest first."""
        with reading(self._index.places.state) as reader:
            rows = {row.id: row for row in _listed(reader, "", self._since_ns)}
            open_now = {row.id: row for row in _listed(reader, "open", 0)}
            for row in (row for key, row in self._open.items() if key not in open_now):
                ended = reader.series(row.SeriesInstanceUID, row.StudyInstanceUID)
                if ended:
                    rows[ended.id] = ended
        self._open = open_now
        found = [row for row in rows.values() if row.instances and not row.pruned_ns]
        return sorted(found, key=lambda row: (row.last_ns, row.id), reverse=True)

    async def stop(self) -> None:
        """End the worker."""
        await self._worker.stop()


def _listed(reader: Reader, state: str, since_ns: int) -> Iterator[SeriesRow]:
    after = (LAST, LAST)
    while page := reader.listed(state, after, since_ns=since_ns):
        yield from page
        after = (page[-1].last_ns, page[-1].id)

"""The index: of each series a document and a table, made by workers when asked for; and the catalogue, filled ahead.

All of it is derived, and made anew where it is missing. Runs in the event loop's thread, and asks the ledger in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow
from listener.moments import LAST
from listener.planning.names import short_hash
from listener.serve.catalogue import Catalogue
from listener.serve.faults import Busy, NotFound
from listener.serve.tables import Table, TableDamaged
from listener.serve.workers import Worker, WorkerFailed

#: Seconds for which a series is not looked up again, and between two looks for new ones.
_FRESH, _LOOK = 0.5, 1.0

#: Series that are kept open.
_OPEN = 256

#: Series that the catalogue takes at a time, and nanoseconds by which an arrival may be recorded late.
_PER_STEP, _MARGIN_NS = 200, 60 * 10**9


class Places(NamedTuple):
    """Directories of the collection and of the index, and the address in its documents."""

    data: str
    state: str
    folder: str
    base: str


class Opened(NamedTuple):
    """A series of the index: `key` changes with its content."""

    key: str
    document: str
    table: Table


class Index:
    """See the module. `done` is called with "series" or "catalogue", and seconds, after each job."""

    def __init__(self, places: Places, done: Callable[[str, float, bool], None], *, only_complete: bool) -> None:
        self.places = places
        self._done = done
        self._only_complete = only_complete
        self.catalogue = Catalogue(
            os.path.join(places.folder, "catalogue.sqlite"), places.state, only_complete=only_complete
        )
        self._asked, self._ahead = Worker(0, 120.0), Worker(19, 120.0)
        self._opened: OrderedDict[tuple[str, str], tuple[float, Opened]] = OrderedDict()
        self._making: dict[str, asyncio.Task[Opened]] = {}
        self._since_ns = 0
        self._failed: dict[int, int] = {}
        #: Series that the catalogue lacks: None before it was looked.
        self.waiting: int | None = None

    async def series(self, study: str, uid: str) -> Opened:
        """Return a series as it is now. Raises NotFound, Busy, LedgerFault."""
        known = self._opened.get((study, uid))
        if known and time.monotonic() - known[0] < _FRESH:
            return known[1]
        row, instances = await asyncio.to_thread(self._look_up, study, uid)
        key = short_hash(f"{row.generation}/{row.instances}/{row.last_ns}/{len(instances)}/{self.places.base}", 16)
        opened = known[1] if known and known[1].key == key else await self._open(row, key, instances)
        self._opened[study, uid] = (time.monotonic(), opened)
        self._opened.move_to_end((study, uid))
        if len(self._opened) > _OPEN:
            self._opened.popitem(last=False)
        return opened

    def _look_up(self, study: str, uid: str) -> tuple[SeriesRow, list[tuple[str, str]]]:
        with reading(self.places.state) as reader:
            row = reader.series(uid, study)
            if row is None or not row.instances or row.pruned_ns or (self._only_complete and row.state != "complete"):
                raise NotFound
            # Of the same instance the newest file, in the order in which the first one arrived.
            return row, list(dict(reader.files_of(row)).items())

    async def series_of(self, study: str) -> list[str]:
        """Return the UIDs of a study's series. Raises NotFound, LedgerFault."""
        return await asyncio.to_thread(self._series_of, study)

    def _series_of(self, study: str) -> list[str]:
        with reading(self.places.state) as reader:
            row = reader.study(study)
            found = [one for one in reader.series_of(row) if one.instances and not one.pruned_ns] if row else []
        uids = [one.SeriesInstanceUID for one in found if one.state == "complete" or not self._only_complete]
        if not uids:
            raise NotFound
        return uids

    async def _open(self, row: SeriesRow, key: str, instances: list[tuple[str, str]]) -> Opened:
        folder = os.path.join(self.places.folder, "series", f"{row.id % 256:02x}", str(row.id))
        document, table = (os.path.join(folder, f"{key}.{kind}") for kind in ("json.gz", "table"))
        with contextlib.suppress(OSError, TableDamaged):
            if os.access(document, os.R_OK):
                return Opened(key, document, Table(table))
        task = self._making.get(folder)
        if task is None:
            job = {
                "kind": "series",
                "data": self.places.data,
                "StudyInstanceUID": row.StudyInstanceUID,
                "SeriesInstanceUID": row.SeriesInstanceUID,
                "instances": instances,
                "base": self.places.base,
                "document": document,
                "table": table,
            }
            task = self._making[folder] = asyncio.create_task(self._make(folder, key, job))
            task.add_done_callback(lambda _: self._making.pop(folder, None))
        return await asyncio.shield(task)

    async def _make(self, folder: str, key: str, job: dict[str, Any]) -> Opened:
        begin = time.monotonic()
        try:
            count = await self._asked.run(**job)
            if not count:
                raise NotFound("no instance of the series can be read")
            opened = Opened(key, job["document"], Table(job["table"]))
        except (WorkerFailed, TableDamaged, OSError) as error:
            self._done("series", time.monotonic() - begin, False)
            raise Busy("the series cannot be indexed now") from error
        self._done("series", time.monotonic() - begin, True)
        for name in os.listdir(folder):
            if not name.startswith(key):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
        return opened

    async def bulk(self, path: str, bulk: str) -> bytes:
        """Return a value of an instance's, by its tags and item numbers. Raises NotFound, Busy."""
        target = os.path.join(self.places.folder, f"bulk-{os.getpid()}")
        try:
            if not await self._asked.run(kind="bulk", path=path, bulk=bulk, target=target):
                raise NotFound
            data = await asyncio.to_thread(_read_and_remove, target)
        except (WorkerFailed, OSError) as error:
            raise Busy("the value cannot be read now") from error
        return data

    # -- ahead ---------------------------------------------------------------------------------------------------------

    async def fill(self) -> None:
        """Fill the catalogue for ever, the newest series first."""
        while True:
            try:
                await self._fill()
            except LedgerFault as fault:
                log.warning("the catalogue waits: %s", fault)
            await asyncio.sleep(_LOOK)

    async def _fill(self) -> None:
        rows = await asyncio.to_thread(self._arrivals)
        wanted = await asyncio.to_thread(
            self.catalogue.missing, [(row.id, row.last_ns, row.state == "open") for row in rows]
        )
        lacking = {row.id: row for row in rows if row.id in set(wanted) and self._failed.get(row.id) != row.last_ns}
        self.waiting = len(lacking)
        described: dict[int, tuple[int, dict[str, Any]]] = {}
        begin = time.monotonic()
        for row in lacking.values():
            found = await self._first(row)
            if found is None:
                self._failed[row.id] = row.last_ns
            else:
                described[row.id] = (row.last_ns, found)
            self.waiting -= 1
            if len(described) >= _PER_STEP:
                await asyncio.to_thread(self.catalogue.put, described)
                described = {}
        if described:
            await asyncio.to_thread(self.catalogue.put, described)
        if lacking:
            self._done("catalogue", time.monotonic() - begin, True)
        self._since_ns = max([self._since_ns, *(row.last_ns - _MARGIN_NS for row in rows)])

    async def _first(self, row: SeriesRow) -> dict[str, Any] | None:
        paths = await asyncio.to_thread(self._first_paths, row)
        try:
            found: dict[str, Any] | None = await self._ahead.run(kind="first", data=self.places.data, paths=paths)
        except WorkerFailed:
            return None
        return found

    def _first_paths(self, row: SeriesRow) -> list[str]:
        with reading(self.places.state) as reader:
            return reader.paths_of(row)[:3]

    def _arrivals(self) -> list[SeriesRow]:
        """Return the series that got something since the last look, the newest first."""
        with reading(self.places.state) as reader:
            return _all_since(reader, self._since_ns)

    async def stop(self) -> None:
        """End the workers."""
        for worker in (self._asked, self._ahead):
            await worker.stop()


def _all_since(reader: Reader, since_ns: int) -> list[SeriesRow]:
    rows: list[SeriesRow] = []
    after = (LAST, LAST)
    while page := reader.listed(after=after, since_ns=since_ns):
        rows += page
        after = (page[-1].last_ns, page[-1].id)
    return [row for row in rows if row.instances and not row.pruned_ns]


def _read_and_remove(path: str) -> bytes:
    with open(path, "rb") as file:
        os.unlink(path)
        return file.read()

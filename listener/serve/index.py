"""The index: of each series a document and a table, made by a worker when asked for.

All of it is derived, and made anew where it is missing. Runs in the event loop's thread, and asks the ledger in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from listener.planning.names import short_hash
from listener.serve.catalogue import Catalogue
from listener.serve.faults import Busy, NotAcceptable, NotFound
from listener.serve.tables import Entry, Table, TableDamaged
from listener.serve.workers import Worker, WorkerFailed

#: Seconds for which a series is not looked up again, those after which that is begun before somebody has to wait for
#: it, and those after which it counts as used again.
_FRESH, _AGEING, _USED = 0.5, 0.25, 60.0

#: Series that are kept open, and those that are kept outside of the index while it cannot be written.
_OPEN, _OUTSIDE = 256, 64

#: Seconds that a job of a worker may take, and after which what it did not finish was left by a kill.
DEADLINE, LEFT = 120.0, 3600.0

#: Seconds that a picture may take.
_PICTURE_DEADLINE = 30.0


class Places(NamedTuple):
    """Directories of the collection and of the index, and the address in its documents."""

    data: str
    state: str
    folder: str
    base: str

    def series_folder(self, series_id: int) -> str:
        """Return the directory of a series in the index, by its id in the ledger."""
        return os.path.join(self.folder, "series", f"{series_id % 256:02x}", str(series_id))


class Opened(NamedTuple):
    """A series of the index: `key` changes with its content."""

    key: str
    document: str
    table: Table


class _Found(NamedTuple):
    """A series as the ledger had it at a time of the monotonic clock: its row, and UID and path of its instances."""

    at: float
    row: SeriesRow
    instances: list[tuple[str, str]]


class Lookup(NamedTuple):
    """How a series was found, for the figures: "open", "known" (in the index), "made" or "failed"; seconds, and the
    bytes that the index grew by.
    """

    result: str
    seconds: float = 0.0
    bytes: int = 0


class Index:
    """See the module. `done` is told each look-up."""

    def __init__(self, places: Places, done: Callable[[Lookup], None], *, only_complete: bool) -> None:
        self.places = places
        self._done = done
        self.only_complete = only_complete
        self.catalogue = Catalogue(
            os.path.join(places.folder, "catalogue.sqlite"), places.state, only_complete=only_complete
        )
        self._worker, self._painter = Worker(0, DEADLINE), Worker(0, _PICTURE_DEADLINE)
        self._opened: OrderedDict[tuple[str, str], tuple[float, Opened]] = OrderedDict()
        self._looking: dict[tuple[str, str], asyncio.Task[_Found]] = {}
        self._making: dict[tuple[str, str], asyncio.Task[Opened]] = {}
        self._outside = ""
        #: Series that the catalogue lacks: None before it was looked.
        self.waiting: int | None = None

    async def series(self, study: str, uid: str) -> Opened:
        """Return a series as it is now. Raises NotFound, Busy, LedgerFault."""
        known = self._opened.get((study, uid))
        age = time.monotonic() - known[0] if known else _FRESH
        if known and age < _AGEING:
            self._done(Lookup("open"))
            return known[1]
        looking = self._looking.get((study, uid)) or self._look(study, uid)
        if known and age < _FRESH:
            self._done(Lookup("open"))
            return known[1]
        found = await asyncio.shield(looking)
        key = self._key(found.row, found.instances)
        known = self._opened.get((study, uid))
        if known and known[1].key == key:
            self._done(Lookup("open"))
            opened = known[1]
        else:
            opened = await self._open(found.row, key, found.instances, self._worker)
        self._keep((study, uid), found.at, opened)
        return opened

    def _keep(self, about: tuple[str, str], at: float, opened: Opened) -> None:
        """Keep a series as it was looked up at a time, unless it was looked up later."""
        known = self._opened.get(about)
        if not known or known[0] < at:
            self._opened[about] = (at, opened)
        self._opened.move_to_end(about)
        if len(self._opened) > _OPEN:
            self._opened.popitem(last=False)

    def _look(self, study: str, uid: str) -> asyncio.Task[_Found]:
        """Look a series up, once for all who ask meanwhile."""
        task = asyncio.create_task(self._find(study, uid))
        self._looking[study, uid] = task
        task.add_done_callback(lambda done: self._looked((study, uid), done))
        return task

    async def _find(self, study: str, uid: str) -> _Found:
        at = time.monotonic()
        return _Found(at, *await asyncio.to_thread(self.look_up, study, uid))

    def _looked(self, about: tuple[str, str], done: asyncio.Task[_Found]) -> None:
        """Note that a series is as it was, perhaps before anybody waits for it."""
        del self._looking[about]
        if done.cancelled() or done.exception():  # Who waits is told.
            return
        found, known = done.result(), self._opened.get(about)
        if known and known[1].key == self._key(found.row, found.instances):
            self._keep(about, found.at, known[1])

    async def described(self, study: str, uid: str) -> tuple[Opened, bytes]:
        """Return a series as it is now, and its document, which is gzipped. Raises NotFound, Busy, LedgerFault."""
        for _ in range(2):
            opened = await self.series(study, uid)
            try:
                return opened, await asyncio.to_thread(_read, opened.document)
            except FileNotFoundError:  # Another process has a newer one, or let it go.
                self._opened.pop((study, uid), None)
        raise Busy("the series changes now; ask again")

    def look_up(self, study: str, uid: str) -> tuple[SeriesRow, list[tuple[str, str]]]:
        """Return a series, and UID and path of its instances. Raises NotFound, LedgerFault."""
        with reading(self.places.state) as reader:
            row = reader.series(uid, study)
            if row is None or not row.instances or row.pruned_ns or (self.only_complete and row.state != "complete"):
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
        uids = [one.SeriesInstanceUID for one in found if one.state == "complete" or not self.only_complete]
        if not uids:
            raise NotFound
        return uids

    async def ahead(self, row: SeriesRow, worker: Worker) -> bool:
        """Make a series' document before anybody asks for it, if it is not there; return whether it is there."""
        with contextlib.suppress(NotFound, Busy):
            row, instances = await asyncio.to_thread(self.look_up, row.StudyInstanceUID, row.SeriesInstanceUID)
            await self._open(row, self._key(row, instances), instances, worker)
            return True
        return False

    def _key(self, row: SeriesRow, instances: list[tuple[str, str]]) -> str:
        about = f"{row.StudyInstanceUID}/{row.SeriesInstanceUID}/{row.generation}/{row.instances}/{row.last_ns}"
        return short_hash(f"{about}/{len(instances)}/{self.places.base}", 16)

    async def _open(self, row: SeriesRow, key: str, instances: list[tuple[str, str]], worker: Worker) -> Opened:
        folder = self.places.series_folder(row.id)
        for one in (folder, self._outside and os.path.join(self._outside, str(row.id))):
            opened = _opened(one, key) if one else None
            if opened:
                self._done(Lookup("known"))
                return opened
        task = self._making.get((folder, key))
        if task is None:
            task = asyncio.create_task(self._make(folder, key, _job(row, instances, self.places), worker))
            self._making[folder, key] = task
            task.add_done_callback(lambda _: self._making.pop((folder, key), None))
        return await asyncio.shield(task)

    async def _make(self, folder: str, key: str, job: dict[str, Any], worker: Worker) -> Opened:
        begin, size = time.monotonic(), 0
        try:
            made = await worker.run(**job, document=_document(folder, key), table=_table(folder, key))
            size = made["bytes"] if made else 0
            if made is None:  # The index cannot be written, or is full: answers go on without it.
                folder = os.path.join(await asyncio.to_thread(self._outside_folder), os.path.basename(folder))
                made = await worker.run(**job, document=_document(folder, key), table=_table(folder, key))
            opened = _opened(folder, key)
        except (WorkerFailed, OSError):
            opened, made = None, None
        if opened is None or made is None:
            self._done(Lookup("failed", time.monotonic() - begin))
            raise Busy("the series cannot be indexed now")
        self._done(Lookup("made", time.monotonic() - begin, size))
        if not made["instances"]:
            raise NotFound("no instance of the series can be read")
        _remove_others(folder, key)
        return opened

    def _outside_folder(self) -> str:
        """Return a directory for documents that the index cannot take; only the last ones are kept."""
        if not self._outside:
            self._outside = tempfile.mkdtemp(prefix="listener-serve-")
        kept = sorted(os.scandir(self._outside), key=lambda one: one.stat().st_mtime_ns)
        for one in kept[:-_OUTSIDE]:
            shutil.rmtree(one.path, ignore_errors=True)
        return self._outside

    async def bulk(self, entry: Entry, bulk: str) -> bytes:
        """Return a value of an instance's, by its tags and item numbers. Raises NotFound, Busy."""
        answer, data = await self._computed(self._worker, entry, kind="bulk", bulk=bulk)
        if not answer:
            raise NotFound
        return data

    async def explicit(self, entry: Entry) -> bytes:
        """Return an instance in Explicit VR Little Endian. Raises NotAcceptable where that cannot be made, Busy."""
        answer, data = await self._computed(self._painter, entry, kind="explicit")
        if not answer:
            raise NotAcceptable("the instance cannot be written in Explicit VR Little Endian")
        return data

    async def picture(self, entry: Entry, kind: str, **job: Any) -> bytes:
        """Return a picture of a frame (`kind` render), or a frame decoded (decode). Raises NotAcceptable where there is
        none, Busy.
        """
        answer, data = await self._computed(self._painter, entry, kind=kind, **job)
        if answer == "changed":
            raise Busy("the instance has just been replaced or removed; ask again")
        if answer:
            raise NotAcceptable(f"the frame cannot be shown: {answer}")
        return data

    async def _computed(self, worker: Worker, entry: Entry, **job: Any) -> tuple[Any, bytes]:
        """Return what a worker answers, and the bytes that it wrote; b"" where it wrote none."""
        path = os.path.join(self.places.data, entry.path)
        name = f"bulk-{secrets.token_hex(8)}"
        try:
            target = os.path.join(self.places.folder, name)
            answer = await worker.run(**job, path=path, stamp=entry.stamp, target=target)
            if answer is None:
                target = os.path.join(await asyncio.to_thread(self._outside_folder), name)
                answer = await worker.run(**job, path=path, stamp=entry.stamp, target=target)
            if answer is None:
                raise Busy("there is no space for the answer")
            return answer, await asyncio.to_thread(_read_and_remove, target)
        except (WorkerFailed, OSError) as error:
            raise Busy("the value cannot be read now") from error

    async def stop(self) -> None:
        """End the worker."""
        await self._worker.stop()
        await self._painter.stop()
        if self._outside:
            await asyncio.to_thread(shutil.rmtree, self._outside, ignore_errors=True)


def _job(row: SeriesRow, instances: list[tuple[str, str]], places: Places) -> dict[str, Any]:
    return {
        "kind": "series",
        "data": places.data,
        "StudyInstanceUID": row.StudyInstanceUID,
        "SeriesInstanceUID": row.SeriesInstanceUID,
        "instances": instances,
        "base": places.base,
    }


def _document(folder: str, key: str) -> str:
    return os.path.join(folder, f"{key}.json.gz")


def _table(folder: str, key: str) -> str:
    return os.path.join(folder, f"{key}.table")


def _opened(folder: str, key: str) -> Opened | None:
    """Return a series that is in the index, and note that it was used."""
    document = _document(folder, key)
    try:
        used = os.stat(document).st_mtime
        opened = Opened(key, document, Table(_table(folder, key)))
    except (OSError, TableDamaged):
        return None
    if time.time() - used > _USED:
        with contextlib.suppress(OSError):
            os.utime(document)
    return opened


def _remove_others(folder: str, key: str) -> None:
    """Remove what a series was before, and what killed workers left; not what another process writes now."""
    with contextlib.suppress(OSError):
        for one in list(os.scandir(folder)):
            left = one.name.endswith(".part") and time.time() - one.stat().st_mtime > LEFT
            if left or not (one.name.startswith(key) or one.name.endswith(".part")):
                with contextlib.suppress(OSError):
                    os.unlink(one.path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_and_remove(path: str) -> bytes:
    """Return a file's content, and remove it; b"" where it was not written."""
    try:
        with open(path, "rb") as file:
            os.unlink(path)
            return file.read()
    except FileNotFoundError:
        return b""

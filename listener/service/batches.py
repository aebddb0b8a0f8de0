"""Folders as batches: finds those that are finished, has their files repacked, and follows each to its end.

Each folder has a story (a generator): until it is finished, in the queue, through its files, to the end of its source,
until everybody has taken it. One thread, the loop's, tells all stories in slices. The engine is one of its own, whose
workers give way to those of incoming.

What is after a kill: before the ledger has the account of a batch, its folder is as it was, and all of its files are
done again, which changes nothing; behind it the rest of the removal, or the rename, is done by the next start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from math import inf
from typing import Protocol, TypeVar

from listener.config import Config
from listener.cpu import LAST
from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.errors import LedgerFault
from listener.ledger import batch_recorder as steps
from listener.ledger import batches as ledger_batches
from listener.ledger.batch_recorder import BatchNews, Change
from listener.ledger.batches import BatchKey
from listener.ledger.connection import open_reader, path_of, translated
from listener.ledger.thread import LedgerThread
from listener.records import Arrival, Deferral, Outcome
from listener.repacking.context import COPY, LINK
from listener.service import folder_walk
from listener.service.backlog import BATCH, NEW
from listener.service.batch_folder import (
    ENDING,
    FOLDER_GONE,
    PROCESSING,
    QUEUE,
    REST,
    SETTLING,
    WAITS,
    BatchFolder,
    Story,
)
from listener.service.batch_registry import FolderRegistry
from listener.service.batch_scan import FolderScan
from listener.service.engine import Engine, Lane
from listener.service.folders import FINAL, Look, quiet_in, standing
from listener.service.intake import EngineObserver
from listener.service.pool import WorkerExit

_T = TypeVar("_T")

#: How long stories are told in one turn of the loop, in seconds.
_SLICE_SECONDS = 0.002

#: Files that are offered in one slice.
_OFFERS = 50

#: Seconds from one look into a folder that has ended to the next, at least and for each folder there is: what was
#: written into a file in place shows in no directory.
_LOOK_AGAIN, _LOOK_AGAIN_EACH = 60.0, 0.05

#: Seconds until a folder with a file that is open for writing is looked at again.
_STILL_OPEN = 1.0

#: Most files in one message to a worker while files of incoming come, and for so many seconds after the last one, where
#: both are synced: each of those waits until the disk has taken a whole message of a batch.
_FEW, _CALM = 4, 2.0


class BatchObserver(EngineObserver, Protocol):
    """Receives what becomes of batches, and of their files."""

    def announce_batch(self, news: BatchNews) -> None:
        """A batch was queued, or has ended."""


class Batches:
    """The folders of all --batches directories. `limit`: how many may still begin (None: all); `waits_for_consumers`: a
    batch occupies one of --batches-at-once until everybody has taken it.
    """

    def __init__(
        self,
        config: Config,
        directories: Directories,
        observer: BatchObserver,
        ledger: LedgerThread,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._observer = observer
        self._removes, self._syncs = config.batch_source == "remove", config.fsync != "none"
        lane = Lane(LINK if self._removes else COPY, LAST if config.incoming else 0)
        # Failed files stay in their folder: no copies of them are set aside.
        self.engine = Engine(replace(config, keep_source=False), directories, self, keep_open, lane)
        self._registry = FolderRegistry(config.batches, len(config.incoming), ledger, self._story)
        self._scan = FolderScan(self._registry, config.rescan)
        self._offering: list[BatchFolder] = []
        #: Batches that had ended before this run: what lies in the same folder may be the rest of its removal.
        self._ended_before: set[BatchKey] = set()
        self.limit: int | None = None
        self.waits_for_consumers = True

    # -- the engine's observer ---------------------------------------------------------------------------------------

    def discovered(self, source: str) -> None:
        """Pass on that a file was offered."""
        self._observer.discovered(source)

    def deferred(self, deferral: Deferral) -> None:
        """Pass a deferral on."""
        self._observer.deferred(deferral)

    def lost(self, lost: WorkerExit) -> None:
        """Pass the loss of a worker on."""
        self._observer.lost(lost)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Pass outcomes on, and count them for their folders."""
        self._observer.finished(outcomes)
        for outcome in outcomes:
            folder = self._registry.of_path(outcome.path, outcome.root_index)
            if folder and folder.end_file(outcome) and not folder.in_flight:
                self._registry.poke(folder)
        if self._offering:
            self._registry.poke(self._offering[0])

    # -- for the loop ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read what the ledger knows of batches. Without one all is new, and what is known is a duplicate."""
        try:
            with translated():
                connection = open_reader(path_of(self._config.state))
                try:
                    for root in self._config.batches:
                        states = ledger_batches.states_of(connection, BatchFolder.root_text(root))
                        self._registry.known |= {state.key: state for state in states}
                        self._ended_before |= {state.key for state in states if state.state in ("done", "empty")}
                finally:
                    connection.close()
        except LedgerFault:  # It is told elsewhere.
            self._registry.known.clear()
            self._ended_before.clear()

    def turn(self, now: float, incoming_came: float = -inf) -> None:
        """Go on for a slice, without waiting. `incoming_came`: when the last file of incoming came (monotonic)."""
        for news in self._ledger.take_batch_news():
            announce(news, self._observer, self._ledger)
            self._take_news(news)
        end = now + _SLICE_SECONDS
        while self._scan.step(now) | self._registry.tell_one(now):
            if time.monotonic() >= end:
                break
        if self._registry.count(QUEUE):
            self._begin_next()
        self.engine.most = _FEW if self._syncs and now < incoming_came + _CALM else BATCH
        self.engine.turn(0)

    def next_wake(self) -> float:
        """Return when `turn` has something to do, on the monotonic clock; 0: at once."""
        engine = self.engine.next_wake()
        return min(self._scan.next_wake(), self._registry.next_due(), inf if engine is None else engine)

    def _take_news(self, news: BatchNews) -> None:
        """Take note of how a batch stands in the ledger."""
        state = news.state
        self._registry.known[state.key] = state
        folder = self._registry.of_key(state.key)
        if folder:
            folder.state = state
            self._registry.poke(folder)

    def moved(self, path: str) -> None:
        """Take note of a folder that was renamed or moved to `path`: if that is a final name, it is finished."""
        root, name = os.path.split(path)
        if root not in self._config.batches or standing(name) != FINAL:
            return
        try:
            inode = os.lstat(path).st_ino
        except OSError:
            return
        folder = self._registry.meet(self._registry.first + self._config.batches.index(root), name, inode)
        folder.note_move(time.monotonic())
        self._registry.poke(folder)

    # -- what others ask ---------------------------------------------------------------------------------------------

    def open_series(self) -> frozenset[str]:
        """Return the series of folders of which files are still to come: they are not quiet."""
        if not self._registry.count(PROCESSING):
            return frozenset()
        under_way = (folder for folder in self._registry if folder.phase == PROCESSING)
        return frozenset(uid for folder in under_way for uid, _ in folder.account.passed)

    @property
    def unfinished(self) -> int:
        """Return how many folders are not finished."""
        return self._scan.unfinished + self._registry.count(WAITS)

    @property
    def queued(self) -> int:
        """Return how many folders are finished and wait."""
        return self._registry.count(QUEUE)

    @property
    def is_busy(self) -> bool:
        """Return whether a folder is being looked at, may begin, or is under way up to the end of its source."""
        if not self._scan.looked or self._registry.count(PROCESSING, SETTLING):
            return True
        if self._registry.count(QUEUE) and self._may_begin():
            return True
        return any(folder.phase in (WAITS, REST) and not folder.was_looked_at for folder in self._registry)

    # -- which begins ------------------------------------------------------------------------------------------------

    def _may_begin(self) -> bool:
        if self.limit is not None and self.limit <= 0:
            return False
        most = self._config.batches_at_once
        under_way = (PROCESSING, SETTLING, ENDING) if self.waits_for_consumers else (PROCESSING, SETTLING)
        return not most or self._registry.count(*under_way) < most

    def _begin_next(self) -> None:
        """Let the oldest folders of the queue begin, as many as may."""
        if not self._may_begin():
            return
        waiting = [folder for folder in self._registry if folder.phase == QUEUE]
        for folder in sorted(waiting, key=lambda folder: (folder.changed_ns, folder.name)):
            if not self._may_begin():
                return
            if self.limit is not None:
                self.limit -= 1
            self._registry.enter(folder, PROCESSING)
            self._registry.poke(folder)

    # -- the story of a folder ---------------------------------------------------------------------------------------

    def _story(self, folder: BatchFolder) -> Story:
        """Tell a folder's story from its first look on, generation by generation, until the folder is gone."""
        enter, change = self._registry.enter, self._registry.change
        while (yield from self._until_finished(folder)):
            enter(folder, QUEUE)
            change(steps.QUEUED, folder.key)
            while folder.is_in(QUEUE):
                yield inf
            change(steps.STARTED, folder.key)
            folder.begin()
            if not (yield from self._until_recorded(folder)):
                yield from self._until_files_have_ended(folder)
            enter(folder, SETTLING)
            yield from self._settle_source(folder)
            enter(folder, ENDING)
            while not folder.has_ended:
                yield inf
            try:
                folder.inode = os.lstat(folder.path).st_ino
            except OSError:
                return

    def _until_finished(self, folder: BatchFolder) -> Generator[float, None, bool]:
        """Wait until a folder is finished, and not the one that has ended; return False if it is gone."""
        while not (folder.is_moved() or folder.is_under_way):
            self._registry.enter(folder, REST if folder.known_signature else WAITS)
            look = yield from _told(folder_walk.look(folder.path))
            if not look.directories:
                return False
            folder.directories = look.directories
            was_ended = folder.key in self._ended_before
            self._ended_before.discard(folder.key)
            if was_ended and self._removes and folder.may_be_rest:
                yield from self._remove_rest(folder)
                continue
            if folder.is_moved() or folder.is_back(look.signature):
                break
            wait = max(_LOOK_AGAIN, _LOOK_AGAIN_EACH * len(self._registry))
            if look.files and look.signature != folder.known_signature:
                wait = yield from self._until_quiet(folder, look)
                if not wait:
                    folder.changed_ns = look.newest_ns
                    break
            folder.was_looked_at = True
            yield time.monotonic() + wait
        folder.take_move(time.time_ns())
        return True

    def _remove_rest(self, folder: BatchFolder) -> Story:
        """Go on with a removal, without a generation for it: if each file that is left is a duplicate now."""
        self._registry.enter(folder, SETTLING)
        folder.begin()
        yield from self._offer_files(folder)
        while folder.in_flight:
            yield inf
        folder.directories, folder.was_looked_at = {}, False
        if not (folder.has_news or folder.account.errors):
            yield from _told(folder_walk.remove(folder.path, folder.marks, folder.refused_by))

    def _until_quiet(self, folder: BatchFolder, look: Look) -> Generator[float, None, float]:
        """Return in how many seconds a folder may be quiet; 0: it is."""
        self._registry.enter(folder, WAITS)
        if folder.state is None and not folder.was_looked_at:
            self._registry.change(steps.SEEN, folder.key)
        wait = quiet_in(look.newest_ns, time.time_ns(), self._config.batch_quiet)
        if wait > 0:
            return wait
        is_open = yield from _told(folder_walk.is_open(folder.path))
        return _STILL_OPEN if is_open else 0.0

    def _until_recorded(self, folder: BatchFolder) -> Generator[float, None, bool]:
        """Return whether an earlier run has recorded what became of these very files, so that they need not be done
        again. Where files are removed they are done again, as some may be left.
        """
        state = folder.state
        if self._removes or state is None or not state.has_ended_files or not folder.is_under_way:
            return False
        look = yield from _told(folder_walk.look(folder.path))
        folder.account.errors = [("", "", "", ("", ""))] * state.errors
        return look.signature == state.signature

    def _until_files_have_ended(self, folder: BatchFolder) -> Story:
        """Have all files of a folder repacked, and the account of that recorded."""
        folder.account.errors = []
        yield from self._offer_files(folder)
        while folder.in_flight:
            yield inf
        folder.state = None
        folder.end_files(removes=self._removes)
        self._registry.change(steps.FILES_ENDED, folder.key, folder.account)
        while not folder.is_recorded:
            yield inf

    def _offer_files(self, folder: BatchFolder) -> Story:
        """Offer each file of a folder to the engine, as many at a time as its workers need; one folder after the
        other.
        """
        self._offering.append(folder)
        try:
            while self._offering[0] is not folder:
                yield inf
            backlog, most = self.engine.backlog, 2 * BATCH * self._config.workers
            directories: dict[str, int] = {}
            for number, entry in enumerate(folder_walk.entries(folder.path, directories, [0], folder.add_trouble)):
                while backlog.depth >= most:
                    yield inf
                arrival = Arrival(entry.path, folder.root_index, time.time_ns(), "batch", size=entry.size)
                if backlog.offer(arrival._replace(noticed=time.monotonic())) == NEW:
                    folder.offer(entry)
                    self._observer.discovered("batch")
                if number % _OFFERS == 0:
                    yield 0.0
            if not directories:
                folder.account.errors.append(("", "vanished", FOLDER_GONE, ("", "")))
        finally:
            self._offering.remove(folder)
            if self._offering:
                self._registry.poke(self._offering[0])

    def _settle_source(self, folder: BatchFolder) -> Story:
        """Remove what passed, if it is to go; rename a folder with an error."""
        folder.directories = {}
        if self._removes:
            yield from _told(folder_walk.remove(folder.path, folder.marks, folder.refused_by))
        if folder.account.errors and os.path.lexists(folder.path):
            root = self._registry.root(folder.root_index)
            try:
                folder_walk.refuse(root, folder.name, syncs=self._syncs)
            except OSError as error:
                folder.refused_by(error)
                self._registry.change(steps.STAYS, folder.key)
                folder.state = folder.state and folder.state._replace(renamed=False)
        if folder.trouble:
            number = folder.state.id if folder.state else 0
            text = "the folder of batch %d cannot be renamed or removed (%s); it stays as it is"
            log.warning(text, number, folder.trouble)

    def close(self, *, at_once: bool = False) -> None:
        """End the workers. What was not finished is done again by the next start."""
        self.engine.close(at_once=at_once)


def announce(news: BatchNews, observer: BatchObserver, ledger: LedgerThread) -> None:
    """Announce how a batch stands, if that is to be announced and was not."""
    if news.event_name:
        observer.announce_batch(news)
        ledger.change_batches([Change(steps.ANNOUNCED, news.state.key, time.time_ns(), state=news.state.state)])


def _told(slices: folder_walk.Slices[_T]) -> Generator[float, None, _T]:
    """Yield for each slice of a walk, to be told on soon; return what it found."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            found: _T = end.value
            return found
        yield 0.0

"""Records what becomes of batches: changes as the service tells them, the ends of their series, and their own ends."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from listener.ledger import batches, generations
from listener.ledger.batches import Account, BatchKey, BatchState, FileError, SeriesShare
from listener.ledger.completion import Moment, OpenSeries, SeriesKey, SeriesState
from listener.ledger.connection import WriterConnection, transaction
from listener.ledger.ending import CompletionRecorder
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import OutcomeRows

#: Steps of a Change.
SEEN, GONE, QUEUED, STARTED, FILES_ENDED, ANNOUNCED = "seen", "gone", "queued", "started", "files-ended", "announced"
STAYS = "stays"

_DURABLY = "PRAGMA synchronous = FULL"
_USUALLY = "PRAGMA synchronous = NORMAL"


@dataclass(slots=True)
class FolderAccount:
    """What became of the files of a folder: instances that passed and bytes by series, and the files that did not:
    path, reason, text and series. `signature` and `inode` as in Account.
    """

    files: int = 0
    passed: dict[SeriesKey, list[int]] = field(default_factory=dict)
    errors: list[tuple[str, str, str, SeriesKey]] = field(default_factory=list)
    signature: str = ""
    inode: int = 0


class Change(NamedTuple):
    """One change of a batch: a step, when (nanoseconds since the epoch), with FILES_ENDED its account, with ANNOUNCED
    the state that was announced.
    """

    step: str
    key: BatchKey
    at_ns: int
    account: FolderAccount | None = None
    state: str = ""


class BatchNews(NamedTuple):
    """How a batch stands after a change, for who works on folders and for events. `series` and `instances` are those of
    its generation.
    """

    state: BatchState
    series: int
    instances: int

    @property
    def event_name(self) -> str:
        """Return the name of the event, "" if this state has none or it was announced."""
        return batches.ANNOUNCED.get(self.state.state, "") if self.state.announced != self.state.state else ""

    def shown(self, phi: bool) -> dict[str, Any]:
        """Return the fields of the event. A folder's name is often an accession number: only with `phi`."""
        state = self.state
        numbers = {"batch": state.id, "generation": state.generation, "series": self.series}
        numbers |= {"instances": self.instances, "errors": state.errors}
        return {**numbers, "has_error": state.errors > 0, **({"folder": state.key.name} if phi else {})}


class BatchRecorder:
    """Takes changes in order (`add`) and records them once the ledger can be written (`step`). `news`: to be taken by
    the caller. `counts` is the number of batches by state, `with_error` of those with an error.
    """

    def __init__(
        self,
        access: WriterConnection,
        open_series: OpenSeries,
        documents: DocumentReader,
        recorder: CompletionRecorder,
    ) -> None:
        self._access = access
        self._open_series = open_series
        self._documents = documents
        self._recorder = recorder
        self._waiting: deque[Change] = deque()
        self._known_rows: OutcomeRows | None = None
        #: Changes of the batches that are under way, in case the ledger is made anew.
        self._under_way: dict[BatchKey, list[Change]] = {}
        self.news: list[BatchNews] = []
        self.counts: Mapping[str, int] = dict.fromkeys(batches.STATES, 0)
        self.with_error = 0

    def add(self, changes: Iterable[Change]) -> None:
        """Take changes, to be recorded in this order."""
        self._waiting.extend(changes)

    def step(self, rows: OutcomeRows | None, moment: Moment, *, is_caught_up: bool) -> None:
        """Record what waits, and end series and batches that are due. `is_caught_up`: all outcomes are recorded; an
        account waits for that.
        """
        connection = self._access.connection
        if connection is None or rows is None:
            return
        with self._access.translating_faults(moment.now):
            if rows is not self._known_rows:
                self._begin(connection, rows)
            self._record(connection, rows, moment, is_caught_up)
            self._end_series(connection, rows, moment)
        connection = self._access.connection
        if connection:
            with self._access.translating_faults(moment.now):
                self._end_batches(connection, moment)
                self.counts, self.with_error = batches.counted(connection.execute(batches.COUNTS))

    def _begin(self, connection: sqlite3.Connection, rows: OutcomeRows) -> None:
        """Tell what an earlier run did not announce; record again what a ledger that was made anew lacks."""
        if self._known_rows is None:
            self.news += [self._news(connection, state) for state in batches.unannounced(connection)]
        lost = [key for key in self._under_way if batches.state_of(connection, key) is None]
        self._waiting.extendleft(reversed([change for key in lost for change in self._under_way.pop(key)]))
        self._known_rows = rows

    def _record(self, connection: sqlite3.Connection, rows: OutcomeRows, moment: Moment, is_caught_up: bool) -> None:
        while self._waiting and (is_caught_up or self._waiting[0].step != FILES_ENDED):
            change = self._waiting[0]
            if change.step == FILES_ENDED:
                # Files of the folder may go now: not even a power cut may take this back.
                connection.execute(_DURABLY)
            try:
                with rows.transaction():
                    state = self._apply(connection, rows, change, moment)
            finally:
                if change.step == FILES_ENDED:
                    connection.execute(_USUALLY)
            self._waiting.popleft()
            if state:
                self._under_way.setdefault(change.key, []).append(change)
                self.news.append(self._news(connection, state))

    def _apply(
        self, connection: sqlite3.Connection, rows: OutcomeRows, change: Change, moment: Moment
    ) -> BatchState | None:
        """Write a change; return how the batch stands, if that is news."""
        if change.step == SEEN:
            batches.see(connection, change.key, change.at_ns)
        elif change.step == GONE:
            batches.forget(connection, change.key)
        elif change.step == STAYS:
            batches.keep_name(connection, change.key)
        elif change.step == ANNOUNCED:
            known = batches.state_of(connection, change.key)
            if known:
                batches.mark_announced(connection, known.id, change.state)
        elif change.step == QUEUED:
            return batches.queue(connection, change.key, change.at_ns)
        elif change.step == STARTED:
            return batches.start(connection, change.key, change.at_ns)
        elif change.account:
            account = self._account(rows, change.account, moment)
            return batches.end_files(connection, change.key, account, change.at_ns)
        return None

    def _account(self, rows: OutcomeRows, found: FolderAccount, moment: Moment) -> Account:
        ids = {
            key: rows.known_id(key, moment.quiet, moment.now_ns)
            for key in {*found.passed, *(error[3] for error in found.errors if error[3][0])}
        }
        shares = [SeriesShare(ids[key], *numbers) for key, numbers in found.passed.items() if ids[key]]
        errors = [FileError(path, reason, text, ids.get(key, 0)) for path, reason, text, key in found.errors]
        return Account(found.files, shares, errors, found.signature, found.inode)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _end_series(self, connection: sqlite3.Connection, rows: OutcomeRows, moment: Moment) -> None:
        """End the series of which a batch brought all that it has: expected are as many as have documents."""
        due = batches.open_series(connection)
        if not due:
            return
        with rows.transaction():
            states = [state for key in due if (state := self._complete(connection, rows, key, moment))]
        self._recorder.end(states, rows, moment)

    def _complete(
        self, connection: sqlite3.Connection, rows: OutcomeRows, key: SeriesKey, moment: Moment
    ) -> SeriesState | None:
        """Let an open series expect what it has, which a person may have said otherwise, and end now."""
        row = generations.find(connection, *key)
        if row and self._documents.count(key[0]) not in (None, row.instances):
            rows.recount(key[0], moment.quiet, moment.now_ns)
            row = generations.find(connection, *key)
        if row is None or row.state != "open":
            return None
        connection.execute(
            "UPDATE series SET expected = instances, expected_by = 'batch' WHERE id = ? AND expected_by <> 'expect'",
            (row.id,),
        )
        known = self._open_series.get(*key)
        row = generations.find(connection, *key)
        assert row
        state = generations.state_of(connection, row, -inf)
        if known:
            state.promise_stamp, state.documents_ns, state.check_at = (
                known.promise_stamp,
                known.documents_ns,
                known.check_at,
            )
        return self._open_series.keep(state)

    def _end_batches(self, connection: sqlite3.Connection, moment: Moment) -> None:
        if not batches.is_any_due(connection):
            return
        with transaction(connection):
            ended = batches.end_due(connection, moment.now_ns)
        for state in ended:
            self._under_way.pop(state.key, None)
            self.news.append(self._news(connection, state))

    def _news(self, connection: sqlite3.Connection, state: BatchState) -> BatchNews:
        return BatchNews(state, *batches.sums_of(connection, state))

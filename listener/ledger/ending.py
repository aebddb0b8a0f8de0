"""Ends of generations: decided by the book, confirmed by the documents that readers see, recorded, and then told."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Sequence
from math import inf

from listener.ledger import generations
from listener.ledger.completion import Completion, Key, OpenSeries, SeriesState, follow
from listener.ledger.connection import WriterConnection
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import OutcomeRows
from listener.ledger.quiet import Moment

#: Ends that are remembered at most until they can be recorded; one beyond may be announced twice.
_MOST = 50_000


class Ending:
    """`ended` is what is to be told: at least once, whatever happens between here and there. `unrecorded`, by series:
    what was put there while the ledger could not be written.
    """

    def __init__(self, book: OpenSeries, proofs: DocumentReader, access: WriterConnection) -> None:
        self._book = book
        self._proofs = proofs
        self._access = access
        self.ended: list[Completion] = []
        self.unrecorded: dict[Key, Completion] = {}

    def hasten(self) -> None:
        """The ledger can be written again: let the series whose end is not recorded, and which got nothing since, end
        at once.
        """
        shared = self._book.shared() if self.unrecorded else ()
        for key, completion in self.unrecorded.items():
            one = self._book.get(*key)
            if one and self._count(key, shared) == completion.instances:
                one.last_activity = -inf
                self._book.keep(one)
                self._book.keep(one)

    def end(self, due: Sequence[SeriesState], posting: OutcomeRows | None, moment: Moment) -> None:
        """End these series, all in one transaction. Without a ledger they end all the same, and are told."""
        connection = self._access.connection
        if not connection or not posting:
            self._end_unrecorded(due, moment)
            return
        ended: list[Completion] = []
        with self._access.translating_faults(moment.now):
            with posting.transaction():
                for one in due:
                    completion = self._confirmed(connection, posting, one, moment)
                    if completion and generations.end(connection, one.id, completion, moment.now_ns):
                        ended.append(completion)
                        if self._is_announced(completion):
                            generations.mark_announced(connection, completion)
            self.ended += [completion for completion in ended if not self._is_announced(completion)]
            for completion in ended:
                self._book.drop(completion.SeriesInstanceUID, completion.StudyInstanceUID)
        if self._access.connection is None:
            self._end_unrecorded(due, moment)

    def _is_announced(self, completion: Completion) -> bool:
        return self.unrecorded.get(_key(completion)) == completion

    def _confirmed(
        self, connection: sqlite3.Connection, posting: OutcomeRows, one: SeriesState, moment: Moment
    ) -> Completion | None:
        """How a series ends, if it still does by its row (others write, too) and when its documents are counted."""
        counted: SeriesState | None = self._as_written(connection, one, moment)
        described = self._proofs.count(one.SeriesInstanceUID)
        if counted is None or described not in (None, counted.instances):
            found = posting.recount(one.SeriesInstanceUID, moment.quiet, moment.now_ns)
            counted = next((other for other in found if other.StudyInstanceUID == one.StudyInstanceUID), None)
        # Never recorded and gone, forgotten, ended by another one; or what was expected is known by its study now.
        if counted is None or not counted.is_open:
            self._book.drop(*one.key)
            return None
        one.id = counted.id
        result = self._book.verdict(counted, moment.horizon)
        return self._book.completion(counted, result) if result else None

    def _as_written(self, connection: sqlite3.Connection, one: SeriesState, moment: Moment) -> SeriesState | None:
        row = generations.find(connection, *one.key)
        if row is None:
            return None
        written = follow(one, generations.standing(connection, row, moment.quiet), moment.quiet)
        return self._book.keep(written) if written.is_open else written

    def _end_unrecorded(self, due: Sequence[SeriesState], moment: Moment) -> None:
        shared = self._book.shared()
        for one in due:
            one.instances = self._count(one.key, shared)
            result = self._book.verdict(one, moment.horizon)
            if result:
                self._announce(self._book.completion(one, result))
                self._book.drop(*one.key)

    def _count(self, key: Key, shared: Container[str]) -> int:
        """The documents of a series; `shared`: the UIDs that series of several studies have."""
        uid, study = key
        return self._proofs.count_of(uid, study) if uid in shared else self._proofs.count(uid) or 0

    def _announce(self, completion: Completion) -> None:
        """Once, however often the ledger is opened and still says that the series is open."""
        key = _key(completion)
        known = self.unrecorded.get(key)
        if known is None or known.instances != completion.instances:
            self.ended.append(completion)
            if known or len(self.unrecorded) < _MOST:
                self.unrecorded[key] = completion


def _key(completion: Completion) -> Key:
    return completion.SeriesInstanceUID, completion.StudyInstanceUID

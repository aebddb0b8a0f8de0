"""Ends of generations: decided by OpenSeries, confirmed by the documents, recorded, and then announced."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Sequence
from math import inf

from listener.config import Config
from listener.ledger import generations
from listener.ledger.completion import (
    Completion,
    CompletionRules,
    Moment,
    OpenSeries,
    SeriesKey,
    SeriesState,
    updated_state,
)
from listener.ledger.connection import WriterConnection
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import OutcomeRows

#: Ends kept at most until they can be recorded; one beyond may be announced twice.
_MAX_UNRECORDED = 50_000


def rules_of(config: Config) -> CompletionRules:
    """Return when series and studies end by the configuration."""
    return CompletionRules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout, config.study_quiet)


class CompletionRecorder:
    """Ends series. `ended`: ends to be announced, at least once. `unrecorded`: those, by series, that came while the
    ledger could not be written.
    """

    def __init__(self, open_series: OpenSeries, documents: DocumentReader, writer_connection: WriterConnection) -> None:
        self._open_series = open_series
        self._documents = documents
        self._access = writer_connection
        self.ended: list[Completion] = []
        self.unrecorded: dict[SeriesKey, Completion] = {}

    def end_unrecorded_soon(self) -> None:
        """Let the series whose end is not recorded, and which got nothing since, end at once: the ledger can be written
        again.
        """
        shared = self._open_series.uids_in_several_studies() if self.unrecorded else ()
        for key, completion in self.unrecorded.items():
            series = self._open_series.get(*key)
            if series and self._count(key, shared) == completion.instances:
                series.last_activity = -inf
                self._open_series.keep(series)

    def end(self, due: Sequence[SeriesState], outcome_rows: OutcomeRows | None, moment: Moment) -> None:
        """End these series in one transaction. Without a ledger they end all the same, and are announced."""
        connection = self._access.connection
        if not connection or not outcome_rows:
            self._end_unrecorded(due, moment)
            return
        ended: list[Completion] = []
        with self._access.translating_faults(moment.now):
            with outcome_rows.transaction():
                for series in due:
                    completion = self._confirmed(connection, outcome_rows, series, moment)
                    if completion and generations.end(connection, series.id, completion, moment.now_ns):
                        ended.append(completion)
                        if self._is_announced(completion):
                            generations.mark_announced(connection, completion)
            self.ended += [completion for completion in ended if not self._is_announced(completion)]
            for completion in ended:
                self._drop(completion, moment)
        if self._access.connection is None:
            self._end_unrecorded(due, moment)

    def _drop(self, completion: Completion, moment: Moment) -> None:
        """Drop a series that ended; its study may end next."""
        key = _key(completion)
        series = self._open_series.get(*key)
        known = series is not None and series.last_activity > -inf
        last = series.last_activity if series and known else moment.quiet
        self._open_series.studies.keep(completion.StudyInstanceUID, last)
        self._open_series.drop(*key)

    def _is_announced(self, completion: Completion) -> bool:
        return self.unrecorded.get(_key(completion)) == completion

    def _confirmed(
        self, connection: sqlite3.Connection, outcome_rows: OutcomeRows, series: SeriesState, moment: Moment
    ) -> Completion | None:
        """Return how a series ends; None if it does not by its row (others write, too) and its documents."""
        counted: SeriesState | None = self._as_written(connection, series, moment)
        described = self._documents.count(series.SeriesInstanceUID)
        if counted is None or described not in (None, counted.instances):
            recounted = outcome_rows.recount(series.SeriesInstanceUID, moment.quiet, moment.now_ns)
            counted = next((other for other in recounted if other.StudyInstanceUID == series.StudyInstanceUID), None)
        # Never recorded and gone, forgotten, ended by another process; or an expected series' row has a study now.
        if counted is None or not counted.is_open:
            self._open_series.drop(*series.key)
            return None
        series.id = counted.id
        result = self._open_series.verdict(counted, moment.horizon)
        return self._open_series.completion(counted, result) if result else None

    def _as_written(self, connection: sqlite3.Connection, series: SeriesState, moment: Moment) -> SeriesState | None:
        row = generations.find(connection, *series.key)
        if row is None:
            return None
        written = updated_state(series, generations.state_of(connection, row, moment.quiet), moment.quiet)
        return self._open_series.keep(written) if written.is_open else written

    def _end_unrecorded(self, due: Sequence[SeriesState], moment: Moment) -> None:
        shared = self._open_series.uids_in_several_studies()
        for series in due:
            series.instances = self._count(series.key, shared)
            result = self._open_series.verdict(series, moment.horizon)
            if result:
                self._announce(self._open_series.completion(series, result))
                self._open_series.drop(*series.key)

    def _count(self, key: SeriesKey, shared: Container[str]) -> int:
        """Count the documents of a series; `shared`: the UIDs that series of several studies have."""
        uid, study = key
        return self._documents.count_of(uid, study) if uid in shared else self._documents.count(uid) or 0

    def _announce(self, completion: Completion) -> None:
        """Announce an end once, however often the ledger is opened and still has the series open."""
        key = _key(completion)
        known = self.unrecorded.get(key)
        if known is None or known.instances != completion.instances:
            self.ended.append(completion)
            if known or len(self.unrecorded) < _MAX_UNRECORDED:
                self.unrecorded[key] = completion


def _key(completion: Completion) -> SeriesKey:
    return completion.SeriesInstanceUID, completion.StudyInstanceUID

"""Studies: when a generation of one ends, recorded with its deliveries in one transaction, and then announced.

A study waits for its end from the moment at which the last of its open series ended. What comes for it later opens a
series, and with it (by a trigger) the study, so that no file costs anything here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from listener.ledger import generations
from listener.ledger.completion import Completion, Flow, Moment, StudyEnd, study_result
from listener.ledger.connection import WriterConnection, transaction
from listener.ledger.deliveries import Occasion, Subject, add_deliveries
from listener.ledger.interests import About
from listener.ledger.outcome_rows import OutcomeRows
from listener.ledger.waiting_studies import WaitingStudies

_WAITING = """
SELECT t.StudyInstanceUID, t.last_ns FROM study_states o JOIN studies t ON t.id = o.id
WHERE o.state = 'open' AND t.open = 0
"""
#: A series that a correction emptied is of the study no more.
_SERIES = """
SELECT SeriesInstanceUID, state, instances, bytes, Modality, sender, root FROM series
WHERE StudyInstanceUID = ? AND (instances > 0 OR pruned_ns = 0) ORDER BY last_ns, id
"""
#: Whether the series that ended last came by a backfill: a batch that is no folder.
_FROM_BACKFILL = """
SELECT EXISTS (SELECT 1 FROM batches b JOIN batch_series m ON m.batch_id = b.id
    WHERE b.root = '' AND m.series_id = s.id AND m.awaits = s.generation)
FROM series s WHERE s.StudyInstanceUID = ? ORDER BY s.changed_ns DESC, s.id DESC LIMIT 1
"""
_OWED = """
SELECT s.StudyInstanceUID, s.SeriesInstanceUID FROM study_states t JOIN series s USING (StudyInstanceUID)
WHERE s.instances > 0
AND (t.state = 'open' OR t.id IN (SELECT study_id FROM deliveries WHERE state = 'pending' AND study_id > 0))
"""
_REOPEN = "UPDATE study_states SET state = 'open' WHERE StudyInstanceUID = ? AND result = 'recounted'"
_CLOSE = "UPDATE study_states SET state = ?, result = ?, changed_ns = ? WHERE id = ? AND state = 'open'"
_ENDS_UNANNOUNCED = """
SELECT t.StudyInstanceUID, e.generation, e.series, e.complete, e.instances, e.bytes, e.result
FROM study_ends e JOIN study_states t ON t.id = e.study_id WHERE e.announced = 0 ORDER BY e.id
"""

#: Seconds until a study is looked at again: one with a file that is held up, and one that another listener takes in.
_HELD, _ELSEWHERE = 1.0, 10.0


class SeriesOfStudy(NamedTuple):
    """What a study's end depends on of one of its series; the fields are those of its row."""

    SeriesInstanceUID: str
    state: str
    instances: int
    bytes: int
    Modality: str
    sender: str
    root: str


class StudyRecorder:
    """Ends studies. `ended`: ends to be announced, at least once. `is_elsewhere` returns whether another listener takes
    files from an incoming directory that is not this one's: the newest series' one decides when its study is quiet.
    """

    def __init__(
        self, waiting: WaitingStudies, access: WriterConnection, is_elsewhere: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._waiting = waiting
        self._access = access
        self._is_elsewhere = is_elsewhere
        self.ended: list[StudyEnd] = []

    def refresh(self, connection: sqlite3.Connection, now: float) -> None:
        """Read the studies that wait; those that memory does not have were active `now`, on the quiet clock."""
        self._waiting.refresh([uid for uid, _ in connection.execute(_WAITING)], now)

    def read_wall_clock(self, connection: sqlite3.Connection, now_ns: int) -> None:
        """Let studies be quiet since their last arrival by the wall clock."""
        for uid, last_ns in connection.execute(_WAITING).fetchall():
            self._waiting.drop(uid)
            self._waiting.keep(uid, -max(0, now_ns - last_ns) / 1e9)

    def end_due(self, moment: Moment, flow: Flow | None) -> None:
        """End the studies that are due. Without a ledger they wait for it."""
        connection = self._access.connection
        if not connection or not self._waiting.is_due(moment.horizon):
            return
        due = self._waiting.due(moment.horizon)
        with self._access.translating_faults(moment.now):
            with transaction(connection):
                ended = [self._end(connection, uid, moment, flow) for uid in due]
            self.ended += [end for end in ended if end]

    def _end(self, connection: sqlite3.Connection, uid: str, moment: Moment, flow: Flow | None) -> StudyEnd | None:
        series = [SeriesOfStudy(*row) for row in connection.execute(_SERIES, (uid,))]
        if not any(one.state == "open" for one in series):
            if flow and any(one.SeriesInstanceUID in flow.held for one in series):
                self._waiting.postpone(uid, moment.quiet + _HELD)
                return None
            if series and self._is_elsewhere(series[-1].root):
                self._waiting.postpone(uid, moment.quiet + _ELSEWHERE)
                return None
            end = end_study(connection, uid, series, moment.now_ns)
        else:  # It waits again once that one has ended.
            end = None
        self._waiting.drop(uid)
        return end


def end_study(
    connection: sqlite3.Connection, uid: str, series: Sequence[SeriesOfStudy], now_ns: int
) -> StudyEnd | None:
    """Within a transaction: end a generation of a study and add its deliveries. None if another process ended it, or
    nothing is left of the study, of which nobody is told.
    """
    row = connection.execute("SELECT id, generation FROM study_states WHERE StudyInstanceUID = ?", (uid,)).fetchone()
    result = study_result(one.state for one in series)
    state, words = (result, result) if series else ("complete", "recounted")
    if not row or not connection.execute(_CLOSE, (state, words, now_ns, row[0])).rowcount or not series:
        return None
    complete = sum(one.state == "complete" for one in series)
    instances, size = sum(one.instances for one in series), sum(one.bytes for one in series)
    end = StudyEnd(uid, row[1], len(series), complete, instances, size, result)
    connection.execute(
        "INSERT INTO study_ends (study_id, generation, at_ns, series, complete, instances, bytes, result) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (row[0], end.generation, now_ns, *end[2:]),
    )
    about = About([one.Modality for one in series], [one.sender for one in series], (result,))
    later = connection.execute(_FROM_BACKFILL, (uid,)).fetchone() == (1,)
    subject = Subject(study_id=row[0], generation=end.generation)
    add_deliveries(connection, end.event, subject, Occasion(now_ns, later=later), about)
    return end


def close_found(connection: sqlite3.Connection, uid: str, now_ns: int) -> None:
    """Within a transaction: close a study that began in it (at `now_ns`) and has no open series, without deliveries:
    `verify --repair` found it.
    """
    connection.execute(
        "UPDATE study_states SET result = 'recounted', state = CASE WHEN EXISTS (SELECT 1 FROM series s WHERE "
        "s.StudyInstanceUID = study_states.StudyInstanceUID AND s.state = 'incomplete') THEN 'incomplete' ELSE "
        "'complete' END WHERE StudyInstanceUID = ? AND state = 'open' AND changed_ns = ? AND NOT EXISTS "
        "(SELECT 1 FROM series s WHERE s.StudyInstanceUID = study_states.StudyInstanceUID AND s.state = 'open')",
        (uid, now_ns),
    )


def owed(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Return the studies that have not ended, or of which a delivery is pending: their series."""
    found: dict[str, set[str]] = {}
    for study, series in connection.execute(_OWED):
        found.setdefault(study, set()).add(series)
    return found


def restore(connection: sqlite3.Connection, rows: OutcomeRows, lost: Mapping[str, set[str]], moment: Moment) -> None:
    """Within a transaction: bring studies that were `owed` by a lost ledger into the one that took its place, so that
    they end. Their series that it lacks were told of before, and nobody is told of them again.
    """
    for study, uids in lost.items():
        connection.execute(_REOPEN, (study,))
        for uid in uids:
            if not generations.all_of(connection, uid):
                for series in rows.recount(uid, moment.quiet, moment.now_ns):
                    ended = Completion(*series.key, series.generation, series.instances, 0, "recounted")
                    generations.end(connection, series.id, ended, moment.now_ns, quietly=True)


def unannounced(connection: sqlite3.Connection) -> list[StudyEnd]:
    """Return the ends that were recorded and perhaps not announced: a crash came between."""
    return [StudyEnd(*row) for row in connection.execute(_ENDS_UNANNOUNCED)]


def mark_announced(connection: sqlite3.Connection, ends: Iterable[StudyEnd]) -> None:
    """Record that these ends were announced."""
    connection.executemany(
        "UPDATE study_ends SET announced = 1 WHERE generation = ? AND study_id = "
        "(SELECT id FROM study_states WHERE StudyInstanceUID = ?)",
        [(end.generation, end.StudyInstanceUID) for end in ends],
    )

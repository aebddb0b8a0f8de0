"""Queries for `status`, `series`, `report` and the pages; from any process, whether the service runs or not.

Every query uses an index or running sums, so that ten million instances cost no more than ten.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from listener.ledger import batches, listing, schema
from listener.ledger.batch_questions import BATCHES, BATCHES_PAGE, ERRORS_OF_BATCH, ONE_BATCH, SERIES_OF_BATCH
from listener.ledger.connection import open_reader, path_of, translated
from listener.ledger.consumers import OLDEST_PENDING
from listener.ledger.descriptions import HOW_MANY_UNDESCRIBED
from listener.ledger.finding import Search, find, studies_page
from listener.ledger.listing import Page
from listener.ledger.rows import (
    SERIES_COLUMNS,
    SERIES_OF_STUDY,
    STUDIES,
    BatchErrorRow,
    BatchRow,
    Change,
    ConsumerDelivery,
    ConsumerRow,
    DayRow,
    DeliveryRow,
    InstanceRow,
    SeriesRow,
    SetAsideGroup,
    StudyChange,
    StudyRow,
    study_row,
)
from listener.moments import LAST

_FROM_SERIES = f"SELECT {SERIES_COLUMNS} FROM series s"
IN_FLIGHT = f"{_FROM_SERIES} WHERE state = 'open' ORDER BY last_ns DESC LIMIT ?"
ENDED = f"{_FROM_SERIES} WHERE state <> 'open' ORDER BY changed_ns DESC LIMIT ?"
OF_UID = f"{_FROM_SERIES} WHERE SeriesInstanceUID = ?"
STUDY = f"{STUDIES} WHERE t.StudyInstanceUID = ? AND t.series > 0"
FILES = """
SELECT f.path || '/' || i.name FROM instances i JOIN folders f ON f.id = i.folder_id WHERE i.series_id = ?
ORDER BY i.arrived_ns, i.name
"""
INSTANCES = """
SELECT i.SOPInstanceUID, f.path || '/' || i.name, i.size FROM instances i JOIN folders f ON f.id = i.folder_id
WHERE i.series_id = ?
"""
FILES_AND_UIDS = FILES.replace("SELECT", "SELECT i.SOPInstanceUID,", 1)
#: Of the same instance, a replaced one may have another name: the newest last.
FILES_OF_INSTANCE = """
SELECT f.path || '/' || i.name FROM series s JOIN instances i ON i.series_id = s.id AND i.SOPInstanceUID = ?3
JOIN folders f ON f.id = i.folder_id WHERE s.StudyInstanceUID = ?1 AND s.SeriesInstanceUID = ?2
ORDER BY i.arrived_ns, i.name
"""
MIDDLE_FILE = """
SELECT f.path || '/' || i.name FROM instances i JOIN folders f ON f.id = i.folder_id WHERE i.series_id = ?1
ORDER BY i.name LIMIT 1 OFFSET (SELECT count(*) / 2 FROM instances WHERE series_id = ?1)
"""
HISTORY = f"SELECT {', '.join(Change._fields)} FROM history WHERE series_id = ? ORDER BY generation, state <> 'open'"
_DELIVERIES = """
SELECT c.name, d.event, d.generation, d.state, d.attempts, d.made_ns, d.next_ns, d.lease_until_ns, d.settled_ns, d.error
FROM deliveries d JOIN consumers c ON c.id = d.consumer_id
"""
DELIVERIES = f"{_DELIVERIES} WHERE d.series_id = ? ORDER BY d.id"
STUDY_HISTORY = f"SELECT {', '.join(StudyChange._fields)} FROM study_ends WHERE study_id = ? ORDER BY generation"
STUDY_DELIVERIES = f"{_DELIVERIES} WHERE d.study_id = ? AND d.study_id > 0 ORDER BY d.id"
#: Of the listener that wrote last: all write to one data directory, since folders are relative to it.
DATA_DIRECTORY = "SELECT data_dir FROM writers WHERE data_dir <> '' ORDER BY written_ns DESC LIMIT 1"
COUNTS = "SELECT state, series FROM series_counts"
#: Complete studies are not counted: that would look at all of them.
STUDY_COUNTS = "SELECT state, count(*) FROM studies WHERE state <> 'complete' GROUP BY state"
ACKNOWLEDGED = "SELECT count(*) FROM studies WHERE acknowledged_ns > 0 AND incomplete > 0 AND open = 0"
ALL_STUDIES = "SELECT count(*) FROM studies"
SET_ASIDE = "SELECT reason, files, bytes FROM set_aside_counts"
SET_ASIDE_GROUPS = """
SELECT reason, sender, StudyInstanceUID, max(Modality), count(*), sum(size), min(at_ns), max(at_ns), max(error)
FROM set_aside WHERE gone_ns = 0 AND {tests} GROUP BY reason, sender, StudyInstanceUID ORDER BY max(at_ns) DESC LIMIT ?
"""
LAST_ARRIVAL = """
SELECT max(
    ifnull((SELECT max(last_ns) FROM series WHERE sender = ?1 AND last_ns BETWEEN ?2 AND ?3), 0),
    ifnull((SELECT max(arrived_ns) FROM set_aside WHERE sender = ?1 AND arrived_ns BETWEEN ?2 AND ?3), 0)
)
"""
_TRIED = """
SELECT * FROM (
    SELECT error FROM deliveries WHERE state = 'pending' AND (set_aside_id > 0) = {kind} AND later = {later}
    AND consumer_id = (SELECT id FROM consumers WHERE name = ?1) ORDER BY next_ns DESC LIMIT 20
)
"""
_EACH = [_TRIED.format(kind=kind, later=later) for later in (0, 1) for kind in (0, 1)]
#: The error of the last attempt: its next attempt is later than that of anything not tried yet.
LAST_ERROR = f"SELECT error FROM ({' UNION ALL '.join(_EACH)}) WHERE error <> '' LIMIT 1"
LAST_FAILED = """
SELECT error FROM deliveries WHERE state = 'failed' AND consumer_id = ? AND error <> '' ORDER BY settled_ns DESC LIMIT 1
"""
_OF_CONSUMER = """
SELECT d.event, coalesce(s.SeriesInstanceUID, t.StudyInstanceUID, a.path, ''), d.generation, d.state, d.attempts,
    d.made_ns, d.next_ns, d.settled_ns, d.error
FROM deliveries d LEFT JOIN series s ON s.id = d.series_id LEFT JOIN studies t ON t.id = d.study_id
LEFT JOIN set_aside a ON a.id = d.set_aside_id WHERE d.consumer_id = ? AND d.state = {} LIMIT ?
"""
FAILED_OF_CONSUMER = _OF_CONSUMER.format("'failed' ORDER BY d.settled_ns DESC")
PENDING_OF_CONSUMER = _OF_CONSUMER.format("'pending' ORDER BY d.made_ns")
CONSUMERS = """
SELECT id, name, CASE WHEN active = 0 THEN 'retired' WHEN stopped <> '' THEN 'stopped' ELSE 'active' END,
    (SELECT deliveries FROM delivery_counts WHERE consumer_id = c.id AND state = 'delivered'),
    (SELECT deliveries FROM delivery_counts WHERE consumer_id = c.id AND state = 'pending'),
    (SELECT deliveries FROM delivery_counts WHERE consumer_id = c.id AND state = 'failed'), stopped
FROM consumers c ORDER BY name
"""
_OF_DAYS = "FROM days WHERE day BETWEEN ? AND ?"
DAYS = f"SELECT * {_OF_DAYS} ORDER BY day, Modality, sender"
#: What days are summed by.
_KEYS = {"month": "substr(day, 1, 7)", "year": "substr(day, 1, 4)", "modality": "Modality"}
_SUMMED = ", ".join(f"sum({name})" for name in DayRow._fields[3:])

#: Series of which all files were set aside, as rows of series.
ONLY_SET_ASIDE = """
SELECT 0, a.SeriesInstanceUID, max(a.StudyInstanceUID), '', '', max(a.Modality), max(a.sender), max(a.root),
    'incomplete', '', 0, 0, 0, 0, '', count(*), min(a.arrived_ns), max(a.at_ns), max(a.at_ns), 0
FROM set_aside a WHERE a.SeriesInstanceUID <> '' AND a.reason <> 'superseded' AND a.gone_ns = 0
AND NOT EXISTS (SELECT 1 FROM series s WHERE s.SeriesInstanceUID = a.SeriesInstanceUID)
GROUP BY a.SeriesInstanceUID HAVING max(a.at_ns) BETWEEN ? AND ? ORDER BY max(a.at_ns) DESC
"""


class Reader:
    """Queries on a connection, for one thread. Every method raises LedgerFault."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _ask(self, question: str, *values: Any) -> list[Any]:
        with translated():
            return self._connection.execute(question, values).fetchall()

    def in_flight(self, limit: int = 1000) -> list[SeriesRow]:
        """Return open series, the newest arrival first."""
        return [SeriesRow(*row) for row in self._ask(IN_FLIGHT, limit)]

    def ended(self, limit: int = 50) -> list[SeriesRow]:
        """Return complete and incomplete series, the last end first."""
        return [SeriesRow(*row) for row in self._ask(ENDED, limit)]

    def all_of(self, uid: str) -> list[SeriesRow]:
        """Return the series of a Series Instance UID, one for each study that has it, the newest arrival first."""
        rows = [SeriesRow(*row) for row in self._ask(OF_UID, uid)]
        return sorted(rows, key=lambda row: (row.last_ns, row.id), reverse=True)

    def series(self, uid: str, study: str = "") -> SeriesRow | None:
        """Return the series of a study ("": that with the newest arrival); None if there is none."""
        return next((row for row in self.all_of(uid) if study in (row.StudyInstanceUID, "")), None)

    def listed(
        self,
        state: str = "",
        after: tuple[int, int] = (LAST, LAST),
        limit: int = 1000,
        *,
        since_ns: int = 0,
        until_ns: int = LAST,
    ) -> list[SeriesRow]:
        """Return series (in one state) whose last arrival lies in a period, the newest first; the next page begins
        `after` (last_ns, id) of the last row of this one.
        """
        return self.series_page(Page(state, since_ns=since_ns, until_ns=until_ns, limit=limit, after=after))

    def only_set_aside(self, since_ns: int = 0, until_ns: int = LAST) -> list[SeriesRow]:
        """Return series of which all files were set aside, the newest first: id and generation 0, incomplete."""
        return [SeriesRow(*row) for row in self._ask(ONLY_SET_ASIDE, since_ns, until_ns)]

    def middle_file(self, uid: str) -> str:
        """Return the path below the data directory of the middle one of a series' files by name; "" if it has none."""
        row = self.series(uid)
        return str(next((path for (path,) in self._ask(MIDDLE_FILE, row.id)), "")) if row else ""

    def history(self, uid: str, study: str = "") -> list[Change]:
        """Return every change of a series' state, in order."""
        row = self.series(uid, study)
        return [Change(*change) for change in self._ask(HISTORY, row.id)] if row else []

    def deliveries_of(self, uid: str, study: str = "") -> list[DeliveryRow]:
        """Return the deliveries of a series."""
        row = self.series(uid, study)
        return [DeliveryRow(*delivery) for delivery in self._ask(DELIVERIES, row.id)] if row else []

    def study(self, uid: str) -> StudyRow | None:
        """Return a study, summed over its series; None if there is none."""
        return next((study_row(row) for row in self._ask(STUDY, uid)), None)

    def studies(self, after: tuple[int, int] = (LAST, LAST), limit: int = 1000) -> list[StudyRow]:
        """Return studies, the newest arrival first; the next page begins `after` (last_ns, id) of the last row of this
        one.
        """
        return self.studies_page(Page(limit=limit, after=after))

    def find(self, search: Search) -> list[StudyRow]:
        """Return the studies found, the newest arrival first."""
        return find(self._connection, search)

    def undescribed(self) -> int:
        """Return the number of series that cannot be found by what headers say, until the service has read them."""
        return int(self._ask(HOW_MANY_UNDESCRIBED)[0][0])

    def study_history(self, study: StudyRow) -> list[StudyChange]:
        """Return every end of a study, in order."""
        return [StudyChange(*change) for change in self._ask(STUDY_HISTORY, study.id)]

    def study_deliveries(self, study: StudyRow) -> list[DeliveryRow]:
        """Return the deliveries of a study."""
        return [DeliveryRow(*delivery) for delivery in self._ask(STUDY_DELIVERIES, study.id)]

    def studies_page(self, page: Page) -> list[StudyRow]:
        """Return a page of studies, the newest arrival first."""
        return studies_page(self._connection, page)

    def series_page(self, page: Page) -> list[SeriesRow]:
        """Return a page of series, the newest arrival first."""
        question, values = listing.series(page)
        return [SeriesRow(*row) for row in self._ask(question, *values)]

    def series_of(self, study: StudyRow) -> list[SeriesRow]:
        """Return the series of a study by SeriesNumber."""
        rows = [SeriesRow(*row) for row in self._ask(SERIES_OF_STUDY, study.id)]
        return sorted(rows, key=lambda row: (_number(row.SeriesNumber), row.id))

    def paths_of(self, series: SeriesRow) -> list[str]:
        """Return the paths of a series' files below the data directory, in the order of arrival."""
        return [path for (path,) in self._ask(FILES, series.id)]

    def instances_of(self, series: SeriesRow) -> list[InstanceRow]:
        """Return the instances of a series, by their paths."""
        return sorted((InstanceRow(*row) for row in self._ask(INSTANCES, series.id)), key=lambda row: row.path)

    def files_of(self, series: SeriesRow) -> list[tuple[str, str]]:
        """Return SOPInstanceUID and path below the data directory of a series' files, in the order of arrival."""
        return [(uid, path) for uid, path in self._ask(FILES_AND_UIDS, series.id)]

    def paths_of_instance(self, study: str, series: str, instance: str) -> list[str]:
        """Return the paths of an instance's files below the data directory, in the order of arrival."""
        return [path for (path,) in self._ask(FILES_OF_INSTANCE, study, series, instance)]

    def data_dir(self) -> str:
        """Return the directory that folders are relative to; "" if no listener has said so yet."""
        rows = self._ask(DATA_DIRECTORY)
        return str(rows[0][0]) if rows else ""

    def counts(self) -> dict[str, int]:
        """Return the number of series by state."""
        return dict.fromkeys(schema.STATES, 0) | dict(self._ask(COUNTS))

    def study_counts(self) -> dict[str, int]:
        """Return the number of studies with an open series, of those with an incomplete one, and how many of these are
        acknowledged.
        """
        counts = {"open": 0, "incomplete": 0} | dict(self._ask(STUDY_COUNTS))
        return {**counts, "acknowledged": int(self._ask(ACKNOWLEDGED)[0][0])}

    def study_count(self) -> int:
        """Return the number of all studies."""
        return int(self._ask(ALL_STUDIES)[0][0])

    def set_aside(self) -> dict[str, tuple[int, int]]:
        """Return files and bytes in set-aside, by reason."""
        return {reason: (files, size) for reason, files, size in self._ask(SET_ASIDE) if files}

    def set_aside_groups(
        self, reasons: Collection[str], sender: str = "", study: str = "", limit: int = 1000
    ) -> list[SetAsideGroup]:
        """Return the set-aside files of these reasons (of one sender or study) in groups, the newest first."""
        tests = {f"reason IN ({', '.join('?' * len(reasons))})": reasons}
        if sender:
            tests["sender = ?"] = [sender]
        if study:
            tests["StudyInstanceUID <> '' AND StudyInstanceUID = ?"] = [study]
        question = SET_ASIDE_GROUPS.format(tests=" AND ".join(tests))
        values = [value for some in tests.values() for value in some]
        return [SetAsideGroup(*row) for row in self._ask(question, *values, limit)]

    def last_arrival(self, sender: str, since_ns: int = 0, until_ns: int = LAST) -> int:
        """Return when the last file of a sender (its calling AE title) arrived within a period, 0 for never. Of a
        series only its last arrival is known.
        """
        return int(self._ask(LAST_ARRIVAL, sender, since_ns, until_ns)[0][0])

    def consumers(self) -> list[ConsumerRow]:
        """Return every consumer that was ever registered, by name."""
        consumers = []
        for number, name, state, delivered, pending, failed, stopped in self._ask(CONSUMERS):
            error = (
                stopped
                or self.last_error(name)
                or next((failed_error for (failed_error,) in self._ask(LAST_FAILED, number)), "")
            )
            counts = (delivered or 0, pending or 0, failed or 0)
            consumers.append(ConsumerRow(number, name, state, *counts, self.oldest_pending(name), error))
        return consumers

    def waiting_for(self, consumer: ConsumerRow, limit: int = 20) -> list[ConsumerDelivery]:
        """Return deliveries that were given up, the last first, and those that wait, the oldest first: `limit` each."""
        return [
            ConsumerDelivery(*row)
            for question in (FAILED_OF_CONSUMER, PENDING_OF_CONSUMER)
            for row in self._ask(question, consumer.id, limit)
        ]

    def wants_of(self, consumer: ConsumerRow) -> str:
        """Return what a consumer wants, as in its row."""
        return str(self._ask("SELECT wants FROM consumers WHERE id = ?", consumer.id)[0][0])

    def oldest_pending(self, consumer: str) -> int:
        """Return when the oldest pending delivery of a consumer was made; 0 if there is none."""
        return int(self._ask(OLDEST_PENDING, consumer)[0][0] or 0)

    def last_error(self, consumer: str) -> str:
        """Return the error of the last attempt at a pending delivery; "" if none was tried."""
        return str(next((error for (error,) in self._ask(LAST_ERROR, consumer)), ""))

    def days(self, since: str = "", until: str = "9999-12-31") -> list[DayRow]:
        """Return the totals of days from `since` to `until` (UTC, YYYY-MM-DD), both included."""
        return [DayRow(*row) for row in self._ask(DAYS, since, until)]

    def sums(self, by: Sequence[str], since: str, until: str) -> list[tuple[Any, ...]]:
        """Return the numbers of days(), summed by each combination of day, month, year, modality and sender, in order:
        the values of these and the sums.
        """
        keys = ", ".join(_KEYS.get(name, name) for name in by)
        order = ", ".join(str(number) for number in range(1, len(by) + 1))
        return self._ask(f"SELECT {keys}, {_SUMMED} {_OF_DAYS} GROUP BY {order} ORDER BY {order}", since, until)

    def batches(self, since_ns: int = 0, until_ns: int = LAST) -> list[BatchRow]:
        """Return the batches that were first seen in a period."""
        return [BatchRow(*row) for row in self._ask(BATCHES, since_ns, until_ns)]

    def batches_page(
        self, state: str = "", with_errors: bool = False, limit: int = 100, before: int = LAST
    ) -> list[BatchRow]:
        """Return the newest batches whose numbers lie below `before`, in a state ("": any), or with an error."""
        return [BatchRow(*row) for row in self._ask(BATCHES_PAGE, before, state, int(with_errors), limit)]

    def batch_counts(self) -> tuple[dict[str, int], int]:
        """Return the number of batches by state, and of those with an error."""
        return batches.counted(self._ask(batches.COUNTS))

    def batch_folders(self, folder: bytes = b"", number: int = 0) -> list[tuple[int, str, bytes]]:
        """Return number, directory and name of the batches with this folder's name, or of this number."""
        return self._ask("SELECT id, root, folder FROM batches WHERE folder = ? OR id = ? ORDER BY id", folder, number)

    def batch(self, number: int) -> BatchRow | None:
        """Return the batch of this number; None if there is none."""
        return next((BatchRow(*row) for row in self._ask(ONE_BATCH, number)), None)

    def series_of_batch(self, number: int) -> list[SeriesRow]:
        """Return the series of a batch's last generation."""
        return [SeriesRow(*row) for row in self._ask(SERIES_OF_BATCH, number)]

    def errors_of_batch(self, number: int) -> list[BatchErrorRow]:
        """Return the files of a batch that did not pass."""
        return [BatchErrorRow(*row) for row in self._ask(ERRORS_OF_BATCH, number)]


def _number(text: str) -> int:
    """Return a SeriesNumber (an integer string) for sorting; 0 if it is none."""
    try:
        return int(text)
    except ValueError:
        return 0


@contextlib.contextmanager
def reading(state_dir: str) -> Iterator[Reader]:
    """Open a Reader of the ledger in a state directory, and close it. Raises LedgerFault."""
    connection = open_reader(path_of(state_dir))
    try:
        yield Reader(connection)
    finally:
        connection.close()

"""Rows of the ledger's writer: instances, set-aside files, daily totals. Within a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

from listener.ledger.deliveries import Occasion, Subject, add_deliveries
from listener.ledger.interests import About
from listener.planning.names import instant, printable
from listener.records import Outcome

#: Instances in one statement: few enough for old versions' limit of values, enough that a row costs little.
_CHUNK = 64

_INSERT = "INSERT OR IGNORE INTO instances (series_id, SOPInstanceUID, folder_id, name, size, arrived_ns) VALUES "
_ONE = "(?, ?, ?, ?, ?, ?)"
_INSERT_ONE = _INSERT + _ONE
_INSERT_CHUNK = _INSERT + ", ".join([_ONE] * _CHUNK)

#: Those of up to _CHUNK instances of a series that have several files, in the order of the key: nothing is sorted.
_DOUBLED = (
    "SELECT SOPInstanceUID FROM instances WHERE series_id = ? "
    f"AND SOPInstanceUID IN ({', '.join('?' * _CHUNK)}) GROUP BY SOPInstanceUID HAVING count(*) > 1"
)
_ALL_DOUBLED = "SELECT SOPInstanceUID FROM instances WHERE series_id = ? GROUP BY SOPInstanceUID HAVING count(*) > 1"

_MAX_FOLDERS = 4096

_DAY = 86_400 * 10**9


class InstanceRow(NamedTuple):
    """A row of `instances`: one file of an instance in the tree."""

    series_id: int
    SOPInstanceUID: str
    folder_id: int
    name: str
    size: int
    arrived_ns: int


class Total(NamedTuple):
    """Number of instances, and the bytes of their files."""

    instances: int
    bytes: int


class Tables:
    """Writes rows. The ids of folders are cached: most instances share a few."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._folders: dict[str, int] = {}

    # -- instances

    def folder(self, path: str) -> int:
        """Return the id of a folder below the data directory; add its row if needed."""
        known = self._folders.get(path)
        if known is None:
            if len(self._folders) >= _MAX_FOLDERS:
                self._folders.clear()
            self._connection.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (path,))
            (known,) = self._connection.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
            self._folders[path] = known
        return known

    def clear_cache(self) -> None:
        """Clear the cache of folders: a transaction that may have added some was rolled back."""
        self._folders.clear()

    def add(self, rows: Sequence[InstanceRow]) -> int:
        """Add the rows that are not there yet; return how many."""
        connection = self._connection
        before = connection.total_changes
        whole = len(rows) - len(rows) % _CHUNK
        # Many rows in a statement: sqlite works without the interpreter's lock, which the loop's thread can take.
        for start in range(0, whole, _CHUNK):
            connection.execute(_INSERT_CHUNK, [value for row in rows[start : start + _CHUNK] for value in row])
        connection.executemany(_INSERT_ONE, rows[whole:])
        return connection.total_changes - before

    def supersede(self, series: int, uids: Iterable[str]) -> int:
        """Remove the rows of superseded instances; return how many."""
        return self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND SOPInstanceUID = ?", [(series, uid) for uid in uids]
        ).rowcount

    def doubled(self, rows: Sequence[InstanceRow]) -> list[str]:
        """Return the SOP Instance UIDs of these rows (of one series) that have another file beside theirs."""
        doubled: list[str] = []
        for start in range(0, len(rows), _CHUNK):
            uids = [row.SOPInstanceUID for row in rows[start : start + _CHUNK]]
            uids += uids[-1:] * (_CHUNK - len(uids))
            doubled += [uid for (uid,) in self._connection.execute(_DOUBLED, (rows[0].series_id, *uids))]
        return doubled

    def all_doubled(self, series: int) -> list[str]:
        """Return the SOP Instance UIDs of a series that have several files."""
        return [uid for (uid,) in self._connection.execute(_ALL_DOUBLED, (series,))]

    def names_of(self, series: int, sop: str) -> tuple[str, ...]:
        """Return the names of the files of one instance, in the order of arrival."""
        query = "SELECT name FROM instances WHERE series_id = ? AND SOPInstanceUID = ? ORDER BY arrived_ns"
        return tuple([name for (name,) in self._connection.execute(query, (series, sop))])

    def remove_same(self, rows: Iterable[InstanceRow]) -> None:
        """Remove rows of the same instances in the same place, so that `rows` count as new."""
        self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND SOPInstanceUID = ? AND folder_id = ? AND name = ?",
            [(row.series_id, row.SOPInstanceUID, row.folder_id, row.name) for row in rows],
        )

    def record_duplicates(self, duplicates: Iterable[Outcome]) -> None:
        """Update the last arrival of the series of duplicates, by which `prune` judges their age."""
        last: dict[tuple[str, str], int] = {}
        for outcome in duplicates:
            key = (outcome.SeriesInstanceUID, outcome.StudyInstanceUID)
            last[key] = max(last.get(key, 0), outcome.arrived_ns)
        self._connection.executemany(
            "UPDATE series SET last_ns = max(last_ns, ?) WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?",
            [(moment, *key) for key, moment in last.items()],
        )

    def remove(self, series: int, names: Iterable[str]) -> None:
        """Remove instances that have no document any more, by file name."""
        self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND name = ?", [(series, name) for name in names]
        )

    def names(self, series: int) -> set[str]:
        """Return the file names of a series' instances."""
        rows = self._connection.execute("SELECT name FROM instances WHERE series_id = ?", (series,))
        return {name for (name,) in rows}

    def total(self, series: int) -> Total:
        """Count a series' instances and bytes; an instance of two files counts once."""
        query = "SELECT count(DISTINCT SOPInstanceUID), ifnull(sum(size), 0) FROM instances WHERE series_id = ?"
        return Total(*self._connection.execute(query, (series,)).fetchone())

    def set_total(self, series: int) -> Total:
        """Write what total() counts into the series' row, and return it."""
        total = self.total(series)
        self._connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (*total, series))
        return total

    # -- set-aside

    def add_set_aside(self, path: str, reason: str, outcome: Outcome, root: str, *, found: bool = False) -> None:
        """Add a file that was set aside at `path` below <state>/set-aside, and its deliveries. One that was only
        `found` there is delivered to the consumers that were registered when it was set aside.
        """
        known = "SELECT arrived_ns / 1000 FROM set_aside WHERE path = ? AND gone_ns = 0"
        if self._connection.execute(known, (path,)).fetchone() == (outcome.arrived_ns // 1000,):
            return  # Recorded already.
        self.mark_set_aside_gone([path], outcome.finished_ns)
        name = printable(outcome.path.rpartition("/")[2])
        uids = (outcome.SOPInstanceUID, outcome.SeriesInstanceUID, outcome.StudyInstanceUID)
        about = (outcome.error, outcome.size, *uids, outcome.Modality, outcome.sender, root)
        made = self._connection.execute(
            "INSERT INTO set_aside (path, reason, name, error, size, SOPInstanceUID, SeriesInstanceUID, "
            "StudyInstanceUID, Modality, sender, root, arrived_ns, at_ns) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (path, reason, name, *about, outcome.arrived_ns, outcome.finished_ns),
        )
        at_ns = outcome.finished_ns
        # What is only found is nobody's news of this moment.
        occasion = Occasion(at_ns, at_ns, later=True) if found else Occasion(at_ns)
        subject = Subject(set_aside_id=made.lastrowid or 0)
        whose = About((outcome.Modality,), (outcome.sender,))
        add_deliveries(self._connection, "set-aside", subject, occasion, whose)
        if outcome.SeriesInstanceUID and reason != "superseded":
            study = outcome.StudyInstanceUID
            self._connection.execute(
                "UPDATE series SET errors = errors + 1 "
                "WHERE SeriesInstanceUID = ? AND (? = '' OR StudyInstanceUID IN (?, ''))",
                (outcome.SeriesInstanceUID, study, study),
            )

    def mark_set_aside_gone(self, paths: Iterable[str], now_ns: int) -> None:
        """Mark files as gone from set-aside."""
        self._connection.executemany(
            "UPDATE set_aside SET gone_ns = ? WHERE path = ? AND gone_ns = 0", [(now_ns, path) for path in paths]
        )

    def set_aside_paths(self, reason: str) -> set[str]:
        """Return the paths of the files in set-aside with a reason."""
        rows = self._connection.execute("SELECT path FROM set_aside WHERE reason = ? AND gone_ns = 0", (reason,))
        return {path for (path,) in rows}


@dataclass(slots=True)
class DayCounts:
    """What is to be added to a row of `days`; the names are those of its columns."""

    published: int = 0
    bytes: int = 0
    duplicates: int = 0
    set_aside: int = 0


class DailyTotals:
    """Counts by day, modality and sender, summed for one transaction."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], DayCounts] = {}

    def of(self, outcome: Outcome) -> DayCounts:
        """Return the counts of the outcome's day, modality and sender."""
        return self.at(outcome.finished_ns, outcome.Modality, outcome.sender)

    def at(self, moment_ns: int, modality: str, sender: str) -> DayCounts:
        """Return the counts of the day of a moment (since the epoch)."""
        key = (moment_ns // _DAY, modality, sender)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = DayCounts()
        return counts

    def credit(self, group: Sequence[Outcome], added: int, size: int) -> None:
        """Add instances by sender. If only some of the group were new, all count for the last one's sender."""
        if added == len(group) and len({outcome.sender for outcome in group}) > 1:
            for outcome in group:
                counts = self.of(outcome)
                counts.published += 1
                counts.bytes += outcome.size
            return
        counts = self.of(group[-1])
        counts.published += added
        counts.bytes += size

    def write(self, connection: sqlite3.Connection) -> None:
        """Add the counts to the table `days`."""
        names = [field.name for field in fields(DayCounts)]
        sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
        rows = []
        for (day, modality, sender), counts in self._counts.items():
            numbers = [getattr(counts, name) for name in names]
            if any(numbers):
                rows.append((day_of(day * _DAY), modality, sender, *numbers))
        connection.executemany(
            f"INSERT INTO days (day, Modality, sender, {', '.join(names)}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (day, Modality, sender) DO UPDATE SET {sums}",
            rows,
        )


@lru_cache(maxsize=64)
def day_of(moment_ns: int) -> str:
    """Return the day (UTC, YYYY-MM-DD) of a moment."""
    return instant(moment_ns)[:10]


def last_of_each(rows: Sequence[InstanceRow], group: Sequence[Outcome]) -> list[InstanceRow]:
    """Return the rows without those that a later one of the same group superseded."""
    kept: list[InstanceRow] = []
    for row, outcome in zip(rows, group, strict=True):
        if outcome.superseded:
            kept = [earlier for earlier in kept if earlier.SOPInstanceUID != row.SOPInstanceUID]
        kept.append(row)
    return kept

"""What one transaction of the ledger's writer puts down: instances, set-aside files, and the accounts of days.

Everything here works within a transaction of the caller's, on its connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from listener.ledger.deliveries import tell_consumers
from listener.planning.names import instant, printable
from listener.records import Outcome

#: Instances in one statement: few enough for old versions' limit of values, enough that a row costs little.
_CHUNK = 64
_COLUMNS = 6

_INSERT = "INSERT OR IGNORE INTO instances (series_id, SOPInstanceUID, folder_id, name, size, arrived_ns) VALUES "
_ONE = "(?, ?, ?, ?, ?, ?)"
_INSERT_ONE = _INSERT + _ONE
_INSERT_CHUNK = _INSERT + ", ".join([_ONE] * _CHUNK)

#: Which of up to _CHUNK instances of a series have more than one file: in the order of the key, so nothing is sorted.
_DOUBLED = (
    "SELECT SOPInstanceUID FROM instances WHERE series_id = ? "
    f"AND SOPInstanceUID IN ({', '.join('?' * _CHUNK)}) GROUP BY SOPInstanceUID HAVING count(*) > 1"
)
_ALL_DOUBLED = "SELECT SOPInstanceUID FROM instances WHERE series_id = ? GROUP BY SOPInstanceUID HAVING count(*) > 1"

_FOLDERS = 4096

_DAY = 86_400 * 10**9

#: series_id, SOPInstanceUID, folder_id, name, size, arrived_ns.
Row = tuple[int, str, int, str, int, int]


class Total(NamedTuple):
    """Instances and bytes."""

    instances: int
    bytes: int


class Tables:
    """Writes rows; remembers folders, of which most instances share a few."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._folders: dict[str, int] = {}

    # -- instances

    def folder(self, path: str) -> int:
        """The number of a folder below the data directory."""
        known = self._folders.get(path)
        if known is None:
            if len(self._folders) >= _FOLDERS:
                self._folders.clear()
            self._connection.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (path,))
            (known,) = self._connection.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
            self._folders[path] = known
        return known

    def forget(self) -> None:
        """A transaction was taken back, and with it perhaps folders."""
        self._folders.clear()

    def add(self, rows: Sequence[Row]) -> int:
        """Instances that are not there yet; how many these were."""
        connection = self._connection
        before = connection.total_changes
        whole = len(rows) - len(rows) % _CHUNK
        # Many rows in a statement: sqlite works on them without the interpreter, which the loop's thread then has.
        for start in range(0, whole, _CHUNK):
            connection.execute(_INSERT_CHUNK, [value for row in rows[start : start + _CHUNK] for value in row])
        connection.executemany(_INSERT_ONE, rows[whole:])
        return connection.total_changes - before

    def supersede(self, series: int, uids: Iterable[str]) -> int:
        """Instances whose older data sets went: their rows make room; how many did."""
        return self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND SOPInstanceUID = ?", [(series, uid) for uid in uids]
        ).rowcount

    def doubled(self, rows: Sequence[Row]) -> list[str]:
        """The SOP Instance UIDs of these rows, all of one series, that have another file beside theirs."""
        found: list[str] = []
        for start in range(0, len(rows), _CHUNK):
            uids = [row[1] for row in rows[start : start + _CHUNK]]
            uids += uids[-1:] * (_CHUNK - len(uids))
            found += [uid for (uid,) in self._connection.execute(_DOUBLED, (rows[0][0], *uids))]
        return found

    def all_doubled(self, series: int) -> list[str]:
        """The same of all that a series has."""
        return [uid for (uid,) in self._connection.execute(_ALL_DOUBLED, (series,))]

    def names_of(self, series: int, sop: str) -> tuple[str, ...]:
        """The names of the files of one instance, in the order in which they arrived."""
        found = "SELECT name FROM instances WHERE series_id = ? AND SOPInstanceUID = ? ORDER BY arrived_ns"
        return tuple([name for (name,) in self._connection.execute(found, (series, sop))])

    def make_room(self, rows: Iterable[Row]) -> None:
        """Remove rows of the same instances in the same places, so that these count as new."""
        self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND SOPInstanceUID = ? AND folder_id = ? AND name = ?",
            [row[:4] for row in rows],
        )

    def came_again(self, duplicates: Iterable[Outcome]) -> None:
        """Duplicates arrived: nothing new, but arrivals, so that `prune` takes their series for no older."""
        last: dict[tuple[str, str], int] = {}
        for one in duplicates:
            key = (one.SeriesInstanceUID, one.StudyInstanceUID)
            last[key] = max(last.get(key, 0), one.arrived_ns)
        self._connection.executemany(
            "UPDATE series SET last_ns = max(last_ns, ?) WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?",
            [(moment, *key) for key, moment in last.items()],
        )

    def remove(self, series: int, names: Iterable[str]) -> None:
        """Instances that are not described any more, by file name."""
        self._connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND name = ?", [(series, name) for name in names]
        )

    def names(self, series: int) -> set[str]:
        """The file names of a series' instances."""
        found = self._connection.execute("SELECT name FROM instances WHERE series_id = ?", (series,))
        return {name for (name,) in found}

    def total(self, series: int) -> Total:
        """A series' instances, counted: one that has two files is one."""
        found = "SELECT count(DISTINCT SOPInstanceUID), ifnull(sum(size), 0) FROM instances WHERE series_id = ?"
        return Total(*self._connection.execute(found, (series,)).fetchone())

    def set_total(self, series: int) -> Total:
        """Let a series' row tell what is counted, and return that."""
        total = self.total(series)
        self._connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (*total, series))
        return total

    # -- set-aside

    def put_aside(self, path: str, reason: str, outcome: Outcome, root: str, *, found: bool = False) -> None:
        """A file was set aside at `path` below <state>/set-aside; consumers are told. Where it was only `found` lying
        there, those are told that were there when it was set aside.
        """
        known = "SELECT arrived_ns / 1000 FROM set_aside WHERE path = ? AND gone_ns = 0"
        if self._connection.execute(known, (path,)).fetchone() == (outcome.arrived_ns // 1000,):
            return  # Told twice of one file.
        self.taken_away([path], outcome.finished_ns)
        name = printable(outcome.path.rpartition("/")[2])
        uids = (outcome.SOPInstanceUID, outcome.SeriesInstanceUID, outcome.StudyInstanceUID)
        about = (outcome.error, outcome.size, *uids, outcome.Modality, outcome.sender, root)
        made = self._connection.execute(
            "INSERT INTO set_aside (path, reason, name, error, size, SOPInstanceUID, SeriesInstanceUID, "
            "StudyInstanceUID, Modality, sender, root, arrived_ns, at_ns) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (path, reason, name, *about, outcome.arrived_ns, outcome.finished_ns),
        )
        since = outcome.finished_ns if found else None
        tell_consumers(self._connection, "set-aside", outcome.finished_ns, aside=made.lastrowid or 0, since=since)
        if outcome.SeriesInstanceUID and reason != "superseded":
            study = outcome.StudyInstanceUID
            self._connection.execute(
                "UPDATE series SET errors = errors + 1 "
                "WHERE SeriesInstanceUID = ? AND (? = '' OR StudyInstanceUID IN (?, ''))",
                (outcome.SeriesInstanceUID, study, study),
            )

    def taken_away(self, paths: Iterable[str], now_ns: int) -> None:
        """Files that lie in set-aside no more."""
        self._connection.executemany(
            "UPDATE set_aside SET gone_ns = ? WHERE path = ? AND gone_ns = 0", [(now_ns, path) for path in paths]
        )

    def lying(self, reason: str) -> set[str]:
        """The paths of what lies in set-aside for a reason."""
        found = self._connection.execute("SELECT path FROM set_aside WHERE reason = ? AND gone_ns = 0", (reason,))
        return {path for (path,) in found}


class DailyTotals:
    """What days are to be credited with, summed for one transaction."""

    FIELDS = ("published", "bytes", "duplicates", "set_aside")

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str], list[int]] = {}

    def of(self, outcome: Outcome) -> list[int]:
        """The sums, in the order of FIELDS, of the outcome's day, modality and sender."""
        return self.at(outcome.finished_ns, outcome.Modality, outcome.sender)

    def at(self, moment_ns: int, modality: str, sender: str) -> list[int]:
        """The same for any moment."""
        key = (moment_ns // _DAY, modality, sender)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * len(self.FIELDS)
        return sums

    def credit(self, group: Sequence[Outcome], added: int, size: int) -> None:
        """Instances that were added, by sender; where only some of the group were, nobody knows whose."""
        if added == len(group) and len({outcome.sender for outcome in group}) > 1:
            for outcome in group:
                sums = self.of(outcome)
                sums[0] += 1
                sums[1] += outcome.size
            return
        sums = self.of(group[-1])
        sums[0] += added
        sums[1] += size

    def write(self, connection: sqlite3.Connection) -> None:
        """Put them down."""
        sums = ", ".join(f"{field} = {field} + excluded.{field}" for field in self.FIELDS)
        connection.executemany(
            f"INSERT INTO days (day, Modality, sender, {', '.join(self.FIELDS)}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (day, Modality, sender) DO UPDATE SET {sums}",
            [(day_of(day * _DAY), *about, *added) for (day, *about), added in self._sums.items() if any(added)],
        )


@lru_cache(maxsize=64)
def day_of(moment_ns: int) -> str:
    """The day (UTC, YYYY-MM-DD) of a moment."""
    return instant(moment_ns)[:10]


def last_of_each(rows: Sequence[Row], group: Sequence[Outcome]) -> list[Row]:
    """Without the rows of instances that a later one of the same group replaced."""
    kept: list[Row] = []
    for row, outcome in zip(rows, group, strict=True):
        if outcome.superseded:
            kept = [one for one in kept if one[1] != row[1]]
        kept.append(row)
    return kept

"""The catalogue: what searches need of every series, in an SQLite file of the index, beside the ledger's own tables."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from listener.errors import FatalFault
from listener.ledger.connection import BUSY_TIMEOUT, atomic, open_reader, path_of, statements, translated
from listener.ledger.rows import SeriesRow
from listener.planning.names import folded
from listener.serve.attributes import BY_NAME, COLUMNS
from listener.serve.matching import Condition, Query

#: Raised with every change of the table: an older one is made anew.
_VERSION = 2

# `uids` are the ledger's, with a slash between: in a ledger that was made anew the same id may be another series. What
# is only returned lies apart, so that a search reads little.
_TABLES = f"""
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    last_ns INTEGER NOT NULL,
    uids TEXT NOT NULL,
    {", ".join(f"{name} TEXT" for name in COLUMNS)}
);
CREATE TABLE attributes (id INTEGER PRIMARY KEY, attributes TEXT NOT NULL);
PRAGMA user_version = {_VERSION};
"""

#: Columns of the ledger in place of the catalogue's.
_OF_LEDGER = {"StudyInstanceUID": "s.StudyInstanceUID", "SeriesInstanceUID": "s.SeriesInstanceUID"}

_UIDS = "s.StudyInstanceUID || '/' || s.SeriesInstanceUID"
_SHOWN = "s.instances > 0 AND s.pruned_ns = 0"

#: The attributes of a series, where the catalogue has that series under its id.
_ATTRIBUTES = f"""(SELECT a.attributes FROM catalogue.series k JOIN catalogue.attributes a ON a.id = k.id
    WHERE k.id = s.id AND k.uids = {_UIDS})"""

#: A series in both, read in the order of the catalogue or of the ledger.
_SAME = f"s.id = c.id AND c.uids = {_UIDS}"
_FROM_CATALOGUE = f"catalogue.series c CROSS JOIN series s ON {_SAME}"
_FROM_LEDGER = f"series s CROSS JOIN catalogue.series c ON {_SAME}"

#: Ids that are looked up one by one; more are found by reading all. And matches that are few.
_FEW, _FEW_MATCH = 500, 2000


class IndexUnusable(FatalFault):
    """The index cannot be written: give --index a directory that can."""


class Series(NamedTuple):
    """A series that was found: its row in the ledger, and attributes of its first instance as DICOM JSON."""

    study_id: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
    Modality: str
    instances: int
    attributes: dict[str, Any]


class Study(NamedTuple):
    """A study that was found: its series that are there, their modalities and instances, and attributes of one."""

    StudyInstanceUID: str
    series: int
    instances: int
    modalities: tuple[str, ...]
    attributes: dict[str, Any]


class Catalogue:
    """The file at `path`. Methods may be called from any thread, and raise LedgerFault."""

    def __init__(self, path: str, state: str, *, only_complete: bool) -> None:
        self._path, self._state = path, state
        self._shown = _SHOWN + (" AND s.state = 'complete'" if only_complete else "")

    def make(self) -> None:
        """Make the file where there is none of this version. Raises IndexUnusable."""
        try:
            try:
                self._make()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                os.unlink(self._path)  # Derived: it is filled again.
                self._make()
        except OSError as error:
            raise IndexUnusable(error.strerror or "") from None
        except sqlite3.Error as error:
            raise IndexUnusable(str(error)) from None

    def _make(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        with contextlib.closing(self._connected()) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == _VERSION:
                return
            os.chmod(self._path, 0o600)
            connection.execute("PRAGMA journal_mode = WAL")  # It is read while it is filled.
            with atomic(connection):  # Another process may make it at the same time.
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                for table in ("series", "attributes") if version != _VERSION else ():
                    connection.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in statements(_TABLES) if version != _VERSION else ():
                    connection.execute(statement)

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)

    def missing(self, rows: Sequence[SeriesRow]) -> set[int]:
        """Return the ids of series that are not described as they are: those that are not there, and those that ended
        with something new.
        """
        if not rows:
            return set()
        asked, values = "SELECT id, last_ns, uids FROM series", []
        if len(rows) <= _FEW:
            values = [row.id for row in rows]
            asked += f" WHERE id IN ({', '.join('?' * len(values))})"
        with translated(), contextlib.closing(self._connected()) as connection:
            known = {key: (last_ns, uids) for key, last_ns, uids in connection.execute(asked, values)}
        found = set()
        for row in rows:
            last_ns, uids = known.get(row.id, (0, ""))
            if uids != _uids(row) or (last_ns != row.last_ns and row.state != "open"):
                found.add(row.id)
        return found

    def put(self, described: Iterable[tuple[SeriesRow, dict[str, Any]]]) -> None:
        """Keep attributes of series."""
        names = ["id", "last_ns", "uids", *COLUMNS]
        marks = ", ".join("?" * len(names))
        rows, texts = [], []
        for row, found in described:
            rows.append((row.id, row.last_ns, _uids(row), *(_text(keyword, found) for keyword in COLUMNS)))
            texts.append((row.id, orjson.dumps(found).decode()))
        with translated(), contextlib.closing(self._connected()) as connection, atomic(connection):
            connection.executemany(f"INSERT OR REPLACE INTO series ({', '.join(names)}) VALUES ({marks})", rows)
            connection.executemany("INSERT OR REPLACE INTO attributes VALUES (?, ?)", texts)

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        connection = open_reader(path_of(self._state))
        try:
            with translated():
                connection.execute("ATTACH ? AS catalogue", (self._path,))
                yield connection
        finally:
            connection.close()

    def studies(self, query: Query) -> list[Study]:
        """Return a page of studies and one more, the newest first."""
        with self._ledger() as ledger:
            return [self._study(ledger, study_id) for study_id in self._study_ids(ledger, query)]

    def _study_ids(self, ledger: sqlite3.Connection, query: Query) -> list[int]:
        """Return the ids of a page of studies and one more, the newest first."""
        where, on_catalogue, values = conditions(query.conditions)
        where, begin, count = f"{self._shown}{where}", query.offset, query.limit + 1
        if on_catalogue:
            # Where few match, the catalogue is read once, from its begin to its end; where many do, the newest are soon
            # found.
            asked = f"SELECT s.study_id FROM {_FROM_CATALOGUE} WHERE {where}{on_catalogue} LIMIT ?"
            found = [row[0] for row in ledger.execute(asked, (*values, _FEW_MATCH + 1))]
            if len(found) <= _FEW_MATCH:
                return sorted(set(found), reverse=True)[begin : begin + count]
        source = _FROM_LEDGER if on_catalogue else "series s"
        asked = f"SELECT DISTINCT s.study_id FROM {source} WHERE {where}{on_catalogue} "
        rows = ledger.execute(f"{asked} ORDER BY s.study_id DESC LIMIT ? OFFSET ?", (*values, count, begin))
        return [row[0] for row in rows]

    def _study(self, ledger: sqlite3.Connection, study_id: int) -> Study:
        asked = f"SELECT s.StudyInstanceUID, s.instances, s.Modality, {_ATTRIBUTES} FROM series s WHERE {self._shown}"
        rows = ledger.execute(f"{asked} AND s.study_id = ? ORDER BY s.id", (study_id,)).fetchall()
        modalities = tuple(sorted({row[2] for row in rows if row[2]}))
        told = next((row[3] for row in rows if row[3]), "{}")
        return Study(rows[0][0], len(rows), sum(row[1] for row in rows), modalities, orjson.loads(told))

    def series(self, query: Query, *, paged: bool = True) -> list[Series]:
        """Return a page of series and one more, or all of them, the newest first."""
        where, on_catalogue, values = conditions(query.conditions)
        source, order = (_FROM_CATALOGUE, "c.id") if on_catalogue else ("series s", "s.id")
        names = f"s.study_id, s.StudyInstanceUID, s.SeriesInstanceUID, s.Modality, s.instances, {_ATTRIBUTES}"
        page = (query.limit + 1, query.offset) if paged else (-1, 0)
        with self._ledger() as ledger:
            rows = ledger.execute(
                f"SELECT {names} FROM {source} WHERE {self._shown}{where}{on_catalogue} "
                f"ORDER BY {order} DESC LIMIT ? OFFSET ?",
                (*values, *page),
            )
            return [Series(*row)._replace(attributes=orjson.loads(row[5] or "{}")) for row in rows]

    def study_of(self, series: Series) -> Study:
        """Return the study of a series."""
        with self._ledger() as ledger:
            return self._study(ledger, series.study_id)


def _uids(row: SeriesRow) -> str:
    return f"{row.StudyInstanceUID}/{row.SeriesInstanceUID}"


def _text(keyword: str, found: Mapping[str, Any]) -> str:
    """Return what searches compare: each value between dividers, names without case and accents."""
    attribute = BY_NAME[keyword.lower()]
    values = found.get(attribute.tag, {}).get("Value", [])
    if attribute.vr == "PN":
        groups = [group for value in values if value for group in value.values()]
        return "=" + "".join(f"{folded(group).rstrip('^')}=" for group in groups)
    return "\\" + "".join(f"{value}\\" for value in values if value is not None)


def conditions(wanted: Iterable[Condition]) -> tuple[str, str, list[str]]:
    """Return what follows WHERE for conditions on studies and series: on the ledger's columns, on the catalogue's, and
    the values to be bound.
    """
    texts: dict[bool, str] = {True: "", False: ""}
    values: dict[bool, list[str]] = {True: [], False: []}
    for condition in wanted:
        if condition.attribute.level == "instances":
            continue
        by_ledger = condition.attribute.keyword in ("Modality", "ModalitiesInStudy", *_OF_LEDGER)
        text, more = (_condition_of_ledger if by_ledger else _condition)(condition)
        texts[by_ledger] += f" AND ({text})"
        values[by_ledger] += more
    return texts[True], texts[False], values[True] + values[False]


def _condition_of_ledger(condition: Condition) -> tuple[str, list[str]]:
    keyword, kind, given = condition.attribute.keyword, condition.kind, condition.values
    column = _OF_LEDGER.get(keyword, "m.Modality" if keyword == "ModalitiesInStudy" else "s.Modality")
    operator = "GLOB" if kind == "like" else "="
    text = " OR ".join([f"{column} {operator} ?"] * len(given)) or "0"
    patterns = [_glob(value) if kind == "like" else value for value in given]
    if keyword == "ModalitiesInStudy":
        text = f"EXISTS (SELECT 1 FROM series m WHERE m.study_id = s.study_id AND m.instances > 0 AND ({text}))"
    return text, patterns


def _condition(condition: Condition) -> tuple[str, list[str]]:
    keyword, kind, given = condition.attribute.keyword, condition.kind, condition.values
    column, divider = f"c.{keyword}", "=" if condition.attribute.vr == "PN" else "\\"
    if kind == "one of":
        stripped = [value.rstrip("^") if divider == "=" else value for value in given]
        return " OR ".join([f"instr({column}, ?) > 0"] * len(given)) or "0", [
            f"{divider}{v}{divider}" for v in stripped
        ]
    if kind == "like":
        inner = given[0].strip("*")
        if given[0] == f"*{inner}*" and inner and not set(inner) & {"*", "?", divider}:
            return f"instr({column}, ?) > 0", [inner]  # What is asked for most, in half of GLOB's time.
        return f"{column} GLOB ?", [f"*{divider}{_glob(given[0])}{divider}*"]
    if kind == "words":
        spaced = f"replace(replace({column}, '^', ' '), '=', ' ')"
        return " AND ".join([f"instr({spaced}, ?) > 0"] * len(given)) or "1", [f" {word}" for word in given]
    text, bounds = f"trim({column}, '\\') <> ''", []
    for operator, bound in zip((">=", "<="), given, strict=True):
        if bound:
            text += f" AND trim({column}, '\\') {operator} ?"
            bounds.append(bound)
    return text, bounds


def _glob(pattern: str) -> str:
    """Return a pattern of DICOM, with `*` and `?`, as SQLite's."""
    return pattern.replace("[", "[[]")

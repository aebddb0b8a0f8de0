"""The catalogue: what searches need of every series, in an SQLite file of the index, beside the ledger's own tables."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from listener.ledger.connection import open_reader, path_of, translated
from listener.planning.names import folded
from listener.serve.attributes import BY_NAME, COLUMNS
from listener.serve.matching import Condition, Query

#: Raised with every change of the table: an older one is made anew.
_VERSION = 1

_TABLE = f"""
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    last_ns INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    {", ".join(f"{name} TEXT" for name in COLUMNS)}
);
PRAGMA user_version = {_VERSION};
"""

#: Columns of the ledger in place of the catalogue's.
_OF_LEDGER = {"StudyInstanceUID": "s.StudyInstanceUID", "SeriesInstanceUID": "s.SeriesInstanceUID"}

_FROM = "FROM series s LEFT JOIN catalogue.series c ON c.id = s.id WHERE s.instances > 0 AND s.pruned_ns = 0"


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
    """The file at `path`, made if need be. Methods may be called from any thread, and raise LedgerFault."""

    def __init__(self, path: str, state: str, *, only_complete: bool) -> None:
        self._path, self._state = path, state
        self._where = _FROM + (" AND s.state = 'complete'" if only_complete else "")
        try:
            self._make()
        except sqlite3.Error:
            os.unlink(path)  # Derived: it is filled again.
            self._make()

    def _make(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                connection.execute("DROP TABLE IF EXISTS series")
                connection.executescript(_TABLE)
        os.chmod(self._path, 0o600)

    def missing(self, rows: Iterable[tuple[int, int, bool]]) -> list[int]:
        """Return the ids of series that are not described as they are: of (id, last arrival, is open) those that are
        not there, and those that ended with something new.
        """
        with translated(), contextlib.closing(sqlite3.connect(self._path)) as connection:
            known = dict(connection.execute("SELECT id, last_ns FROM series"))
        return [key for key, last_ns, is_open in rows if key not in known or (known[key] != last_ns and not is_open)]

    def put(self, described: Mapping[int, tuple[int, dict[str, Any]]]) -> None:
        """Keep attributes of series, by id, with their last arrival."""
        names = ["id", "last_ns", "attributes", *COLUMNS]
        marks = ", ".join("?" * len(names))
        rows = [
            (key, last_ns, orjson.dumps(found).decode(), *(_text(keyword, found) for keyword in COLUMNS))
            for key, (last_ns, found) in described.items()
        ]
        with translated(), contextlib.closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executemany(f"INSERT OR REPLACE INTO series ({', '.join(names)}) VALUES ({marks})", rows)

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
        where, values = conditions(query.conditions)
        chosen = f"SELECT DISTINCT s.study_id {self._where}{where} ORDER BY s.study_id DESC LIMIT ? OFFSET ?"
        with self._ledger() as ledger:
            ids = ledger.execute(chosen, (*values, query.limit + 1, query.offset)).fetchall()
            return [self._study(ledger, study_id) for (study_id,) in ids]

    def _study(self, ledger: sqlite3.Connection, study_id: int) -> Study:
        asked = f"SELECT s.StudyInstanceUID, s.instances, s.Modality, c.attributes {self._where} AND s.study_id = ?"
        rows = ledger.execute(f"{asked} ORDER BY s.id", (study_id,)).fetchall()
        modalities = tuple(sorted({row[2] for row in rows if row[2]}))
        told = next((row[3] for row in rows if row[3]), "{}")
        return Study(rows[0][0], len(rows), sum(row[1] for row in rows), modalities, orjson.loads(told))

    def series(self, query: Query, *, paged: bool = True) -> list[Series]:
        """Return a page of series and one more, or all of them, the newest first."""
        where, values = conditions(query.conditions)
        names = "s.study_id, s.StudyInstanceUID, s.SeriesInstanceUID, s.Modality, s.instances, c.attributes"
        page = (query.limit + 1, query.offset) if paged else (-1, 0)
        with self._ledger() as ledger:
            rows = ledger.execute(
                f"SELECT {names} {self._where}{where} ORDER BY s.id DESC LIMIT ? OFFSET ?", (*values, *page)
            )
            return [Series(*row)._replace(attributes=orjson.loads(row[5] or "{}")) for row in rows]

    def study_of(self, series: Series) -> Study:
        """Return the study of a series."""
        with self._ledger() as ledger:
            return self._study(ledger, series.study_id)


def _text(keyword: str, found: Mapping[str, Any]) -> str:
    """Return what searches compare: each value between dividers, names without case and accents."""
    attribute = BY_NAME[keyword.lower()]
    values = found.get(attribute.tag, {}).get("Value", [])
    if attribute.vr == "PN":
        groups = [group for value in values if value for group in value.values()]
        return "=" + "".join(f"{folded(group).rstrip('^')}=" for group in groups)
    return "\\" + "".join(f"{value}\\" for value in values if value is not None)


def conditions(wanted: Iterable[Condition]) -> tuple[str, list[str]]:
    """Return what follows WHERE for conditions on studies and series, and the values to be bound."""
    texts: list[str] = []
    values: list[str] = []
    for condition in wanted:
        if condition.attribute.level == "instances":
            continue
        text, more = _condition(condition)
        texts.append(f" AND ({text})")
        values += more
    return "".join(texts), values


def _condition(condition: Condition) -> tuple[str, list[str]]:
    keyword, kind, given = condition.attribute.keyword, condition.kind, condition.values
    if keyword in ("Modality", "ModalitiesInStudy") or keyword in _OF_LEDGER:
        column = _OF_LEDGER.get(keyword, "m.Modality" if keyword == "ModalitiesInStudy" else "s.Modality")
        operator = "GLOB" if kind == "like" else "="
        text = " OR ".join([f"{column} {operator} ?"] * len(given)) or "0"
        patterns = [_glob(value) if kind == "like" else value for value in given]
        if keyword == "ModalitiesInStudy":
            text = f"EXISTS (SELECT 1 FROM series m WHERE m.study_id = s.study_id AND m.instances > 0 AND ({text}))"
        return text, patterns
    column, divider = f"c.{keyword}", "=" if condition.attribute.vr == "PN" else "\\"
    if kind == "one of":
        stripped = [value.rstrip("^") if divider == "=" else value for value in given]
        return " OR ".join([f"instr({column}, ?) > 0"] * len(given)) or "0", [
            f"{divider}{v}{divider}" for v in stripped
        ]
    if kind == "like":
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

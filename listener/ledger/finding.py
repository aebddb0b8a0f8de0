"""Find studies: by patient, study and series, newest arrivals first; and pages of studies.

A search costs what it finds, not what the ledger holds: the first condition that few studies meet yields them by an
index, the others are asked of these. If every condition is met by many, studies are walked from the newest until enough
are found.
"""

from __future__ import annotations

import fnmatch
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from listener.ledger.connection import translated
from listener.ledger.listing import Page, bounds, newest
from listener.ledger.rows import STUDIES, StudyRow, study_row
from listener.moments import LAST
from listener.planning.names import folded

#: Few studies: to read and sort them takes a few milliseconds.
FEW = 8_000

#: So many of the newest are walked first: what is common is found there at once, without a look at all that is there.
RECENT = 1000

#: Studies in one question.
_CHUNK = 500

#: The character behind all others.
_LAST_CHARACTER = "\U0010ffff"


#: What SQLite cannot hold, from bytes of a command line that are no text.
_SURROGATES = re.compile(r"[\ud800-\udfff]")


class Search(NamedTuple):
    """What to find; "" or 0 asks nothing. All that is asked must be met by a study, or by series of it.

    `name`, `patient` (PatientID), `accession`, `modality`, `sender` and `description` (of study or series) may have the
    wildcards `*` and `?` (PS3.4 section C.2.2.2.4). Names and descriptions are compared without case and accents, names
    by each of their component groups and from their begin, descriptions anywhere; PatientID and accession number
    without the case of ASCII letters. `dates` are the first and last StudyDate (YYYYMMDD), `state` open,
    complete or incomplete; something arrived between `since_ns` and `until_ns`. `limit` 0: all.
    """

    name: str = ""
    patient: str = ""
    accession: str = ""
    dates: tuple[str, str] = ("", "")
    modality: str = ""
    sender: str = ""
    description: str = ""
    state: str = ""
    since_ns: int = 0
    until_ns: int = LAST
    limit: int = 100


class _Condition(NamedTuple):
    """One condition, twice: as a question for ids of studies, and as a test of a study `t`; each with its values.
    `is_of_row`: the test looks at the study's row alone.
    """

    ids: str
    test: str
    values: tuple[Any, ...] = ()
    is_of_row: bool = False


def find(connection: sqlite3.Connection, search: Search) -> list[StudyRow]:
    """Return the studies found, the newest arrival first. Raises LedgerFault."""
    page = Page(since_ns=search.since_ns, until_ns=search.until_ns, limit=search.limit or -1)
    with translated():
        return _rows(connection, _ids(connection, list(_conditions(connection, search)), page))


def studies_page(connection: sqlite3.Connection, page: Page) -> list[StudyRow]:
    """Return a page of studies, the newest arrival first; of modality and sender one series is enough. Raises
    LedgerFault.
    """
    conditions = []
    if page.study:
        conditions.append(_of_study("t.StudyInstanceUID = ?", (page.study,)))
    if page.state not in ("", "complete"):
        conditions.append(_in_state(page.state))
    if page.sender:
        conditions.append(_of_series("s.sender = ?", (page.sender,)))
    if page.modality:
        conditions.append(_of_series("s.Modality = ?", (page.modality,)))
    if page.state == "complete":
        conditions.append(_in_state(page.state))
    with translated():
        return _rows(connection, _ids(connection, conditions, page))


def _rows(connection: sqlite3.Connection, ids: Sequence[int]) -> list[StudyRow]:
    found: list[StudyRow] = []
    for start in range(0, len(ids), _CHUNK):
        some = ids[start : start + _CHUNK]
        rows = {row[0]: row for row in connection.execute(f"{STUDIES} WHERE t.id IN ({_listed(some)})")}
        found += [study_row(rows[number]) for number in some if number in rows]
    return found


def _ids(connection: sqlite3.Connection, conditions: Sequence[_Condition], page: Page) -> list[int]:
    """Return the ids of the studies within a page's bounds that meet the conditions."""
    for number, condition in enumerate(conditions):
        few = _few(connection, condition)
        if few is not None:
            others = [*conditions[:number], *conditions[number + 1 :]]
            tests = [f"t.id IN ({_listed(few)})", *(other.test for other in others)]
            return _newest(connection, page, "studies t NOT INDEXED", tests, others)
    if conditions and page.limit > 0:
        found = _newest(connection, page, _WALKED, [condition.test for condition in conditions], conditions, RECENT)
        if len(found) == page.limit:
            return found
    tests = [condition.test if condition.is_of_row else f"t.id IN ({condition.ids})" for condition in conditions]
    return _newest(connection, page, _WALKED, tests, conditions)


#: Studies in the order of their arrivals.
_WALKED = "studies t INDEXED BY studies_last"


def _newest(
    connection: sqlite3.Connection,
    page: Page,
    source: str,
    tests: list[str],
    conditions: Sequence[_Condition],
    walked: int = 0,
) -> list[int]:
    """Return the ids of the newest studies `t` of a source that meet the tests, with the conditions' values; of those
    `walked` that are newest (0: of all).
    """
    between, edges = bounds("t", page)
    inside = f"t.series > 0 AND {between}"
    values = [*edges]
    if walked:
        source, values = f"(SELECT * FROM {source} WHERE {inside} {newest('t')}) t", [*edges, walked]
        inside = "TRUE"
    question = f"SELECT t.id FROM {source} WHERE {' AND '.join([inside, *tests])} {newest('t')}"
    values += [value for condition in conditions for value in condition.values]
    return [number for (number,) in connection.execute(question, (*values, page.limit))]


def _few(connection: sqlite3.Connection, condition: _Condition) -> list[int] | None:
    """Return the ids of the studies that meet a condition; None if they are many."""
    question = f"SELECT DISTINCT * FROM ({condition.ids}) LIMIT {FEW + 1}"
    ids = [number for (number,) in connection.execute(question, condition.values)]
    return ids if len(ids) <= FEW else None


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


# -- conditions: those that are mostly met by few come first -----------------------------------------------------------


def _conditions(connection: sqlite3.Connection, search: Search) -> Iterator[_Condition]:
    given = (_SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value for value in search)
    search = Search._make(given)
    if search.accession:
        test, values = _matches("lower(s.AccessionNumber)", lowered(search.accession))
        yield _of_series(f"s.AccessionNumber <> '' AND {test}", values)
    if search.patient:
        test, values = _matches("lower(p.PatientID)", lowered(search.patient))
        yield _of_patient("patients p", "p.id", test, values)
    if search.name:
        pattern = folded(search.name).rstrip("^ ")
        test, values = _matches("n.folded", pattern if _is_pattern(pattern) else f"{pattern}*")
        yield _of_patient("patient_names n", "n.patient_id", test, values)
    if search.state not in ("", "complete"):
        yield _in_state(search.state)
    if any(search.dates):
        first, last = search.dates
        yield _of_study("t.StudyDate <> '' AND t.StudyDate BETWEEN ? AND ?", (first, last or _LAST_CHARACTER))
    if search.description:
        yield _described(connection, search.description)
    if search.sender:
        yield _of_series(*_matches("s.sender", search.sender))
    if search.modality:
        yield _of_series(*_matches("s.Modality", search.modality.upper()))
    if search.state == "complete":
        yield _in_state(search.state)


def _in_state(state: str) -> _Condition:
    # Those that are not complete have an index.
    few = "" if state == "complete" else "t.state <> 'complete' AND "
    return _of_study(f"{few}t.state = ?", (state,))


def _of_study(test: str, values: tuple[str, ...]) -> _Condition:
    return _Condition(f"SELECT t.id FROM studies t WHERE {test}", test, values, is_of_row=True)


def _of_series(test: str, values: tuple[str, ...]) -> _Condition:
    """Return a condition for a series `s` of a study."""
    asked = f"FROM series s WHERE {test}"
    return _Condition(f"SELECT s.study_id {asked}", f"EXISTS (SELECT 1 {asked} AND s.study_id = t.id)", values)


def _of_patient(table: str, key: str, test: str, values: tuple[str, ...]) -> _Condition:
    """Return a condition for the patient of a series, in a row of `table`."""
    by_series = f"series s CROSS JOIN {table} ON {key} = s.patient_id WHERE s.study_id = t.id AND {test}"
    by_patient = f"{table} CROSS JOIN series s ON s.patient_id = {key} WHERE {test}"
    return _Condition(f"SELECT s.study_id FROM {by_patient}", f"EXISTS (SELECT 1 FROM {by_series})", values)


def _described(connection: sqlite3.Connection, text: str) -> _Condition:
    """Return the condition for a description. Few texts are used often: each is looked at once."""
    matches = re.compile(fnmatch.translate(glob(f"*{folded(text)}*"))).match
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (text TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM wanted")
    for table, column in (("studies", "StudyDescription"), ("series", "SeriesDescription")):
        texts = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} <> ''").fetchall()
        found = [(value,) for (value,) in texts if matches(folded(value))]
        connection.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", found)
    wanted = "(SELECT text FROM wanted)"
    of_series = f"SELECT s.study_id FROM series s WHERE s.SeriesDescription <> '' AND s.SeriesDescription IN {wanted}"
    of_study = f"SELECT t.id FROM studies t WHERE t.StudyDescription <> '' AND t.StudyDescription IN {wanted}"
    test = f"(t.StudyDescription IN {wanted} OR EXISTS ({of_series} AND s.study_id = t.id))"
    return _Condition(f"{of_study} UNION ALL {of_series}", test)


# -- wildcards ---------------------------------------------------------------------------------------------------------


def lowered(text: str) -> str:
    """Return a text as SQLite's lower() does: ASCII letters alone."""
    return text.encode("utf-8", "replace").lower().decode()


def glob(text: str) -> str:
    """Return a pattern with DICOM's wildcards as one of SQLite's GLOB, and of fnmatch."""
    return text.replace("[", "[[]")


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _matches(column: str, text: str) -> tuple[str, tuple[str, ...]]:
    """Return the test of a column with its values; what stands before the first wildcard narrows an index."""
    if not _is_pattern(text):
        return f"{column} = ?", (text,)
    first = re.split(r"[*?]", text, maxsplit=1)[0]
    if not first:
        return f"{column} GLOB ?", (glob(text),)
    return f"{column} >= ? AND {column} < ? AND {column} GLOB ?", (first, first + _LAST_CHARACTER, glob(text))

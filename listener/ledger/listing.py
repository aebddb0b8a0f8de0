"""PURE. Pages of series and studies, the newest arrival first, narrowed by what a request names.

A page of series goes along an index of arrivals and ends with its last row; finding.py looks for those of studies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from listener.ledger.rows import SERIES_COLUMNS
from listener.moments import LAST


class Page(NamedTuple):
    """Which rows: in a `state`, of a `study` (StudyInstanceUID), a `modality`, a `sender` ("": any of each), whose last
    arrival lies from `since_ns` to `until_ns`; at most `limit` (-1: all) of those that follow `after` (last_ns, id).
    """

    state: str = ""
    study: str = ""
    modality: str = ""
    sender: str = ""
    since_ns: int = 0
    until_ns: int = LAST
    limit: int = 100
    after: tuple[int, int] = (LAST, LAST)


Question = tuple[str, tuple[Any, ...]]


def series(page: Page) -> Question:
    """Return the question for a page of series, and its values."""
    narrowed = {"StudyInstanceUID": page.study, "sender": page.sender, "Modality": page.modality, "state": page.state}
    if page.state != "complete":  # Of all series few are open or incomplete.
        narrowed = {"state": page.state} | narrowed
    given = {column: value for column, value in narrowed.items() if value}
    # The index of the first serves. A plus keeps SQLite from any other, all of whose rows it would have to sort.
    tests = "".join(f" AND {'+' * bool(number)}s.{column} = ?" for number, column in enumerate(given))
    between, values = bounds("s", page)
    question = f"SELECT {SERIES_COLUMNS} FROM series s WHERE {between}{tests} {newest('s')}"
    return question, (*values, *given.values(), page.limit)


def bounds(table: str, page: Page) -> Question:
    """Return the test of a table's arrivals for a page, and its values."""
    test = f"{table}.last_ns BETWEEN ? AND ? AND ({table}.last_ns, {table}.id) < (?, ?)"
    return test, (page.since_ns, min(page.until_ns, page.after[0]), *page.after)


def newest(table: str) -> str:
    """Return the order of a page's rows, and its limit, a value."""
    return f"ORDER BY {table}.last_ns DESC, {table}.id DESC LIMIT ?"

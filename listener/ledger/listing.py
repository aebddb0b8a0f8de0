"""PURE. Questions for pages of series and studies, the newest arrival first, narrowed by what a request names.

Each goes along the index of arrivals and ends with the page's last row: only what is seldom is looked for longer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from listener.ledger.rows import SERIES_COLUMNS, STUDIES
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
    # A plus keeps SQLite from an index of that column, all of whose rows it would have to sort; that of states is.
    conditions = {"state": "s.state = ?", "modality": "+s.Modality = ?", "sender": "+s.sender = ?"}
    conditions["study"] = "s.StudyInstanceUID = ?"
    return _question(f"SELECT {SERIES_COLUMNS} FROM series s WHERE TRUE", "s", page, conditions)


def studies(page: Page) -> Question:
    """Return the question for a page of studies, and its values; of modality and sender one series is enough."""
    one = "EXISTS (SELECT 1 FROM series n WHERE n.study_id = t.id AND n.{} = ?)"
    conditions = {"modality": one.format("Modality"), "sender": one.format("sender")}
    # Open and incomplete ones have an index, in the same order.
    conditions["state"] = "+t.state = ?" if page.state == "complete" else "t.state = ? AND t.state <> 'complete'"
    conditions["study"] = "t.StudyInstanceUID = ?"
    return _question(f"{STUDIES} WHERE t.series > 0", "t", page, conditions)


def _question(begin: str, table: str, page: Page, conditions: dict[str, str]) -> Question:
    given = {name: condition for name, condition in conditions.items() if getattr(page, name)}
    between = f" AND {table}.last_ns BETWEEN ? AND ? AND ({table}.last_ns, {table}.id) < (?, ?)"
    order = f" ORDER BY {table}.last_ns DESC, {table}.id DESC LIMIT ?"
    asked = "".join(f" AND {condition}" for condition in given.values())
    values = (page.since_ns, page.until_ns, *page.after, *(getattr(page, name) for name in given), page.limit)
    return f"{begin}{between}{asked}{order}", values

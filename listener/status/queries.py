"""The parameters of requests for pages and API: what each may be, and what it is where it is not given."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from listener.ledger.accounts import BY, keys_of
from listener.ledger.batches import STATES
from listener.moments import FORMS, LAST, PERIODS, dates_of, moment_of
from listener.reasons import SET_ASIDE_REASONS
from listener.uids import is_uid

#: Rows in one answer: by default, and at most.
LIMIT, MOST = 100, 1000

#: Characters of a parameter at most, and parameters of a request.
_LONGEST, _MOST_FIELDS = 300, 20

_CURSOR = re.compile(r"(\d{1,19})-(\d{1,19})")

#: Where the first page begins.
START = (LAST, LAST)


class Parameter(NamedTuple):
    """How a parameter is read (with the present moment), and its default. `read` raises ValueError: what to give."""

    read: Callable[[str, datetime], Any]
    default: Any


def _state(text: str, _: datetime) -> str:
    if text not in ("", "open", "complete", "incomplete"):
        raise ValueError("give open, complete or incomplete")
    return text


def _limit(text: str, _: datetime) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST):
        raise ValueError(f"give a whole number from 1 to {MOST}")
    return int(text)


def _after(text: str, _: datetime) -> tuple[int, int]:
    cursor = _CURSOR.fullmatch(text)
    if not cursor or max(int(cursor[1]), int(cursor[2])) > LAST:
        raise ValueError("give what 'next' of the answer before said")
    return int(cursor[1]), int(cursor[2])


def _uid(text: str, _: datetime) -> str:
    if text and not is_uid(text):
        raise ValueError("give a UID: digits and dots, at most 64")
    return text


def _reason(text: str, _: datetime) -> str:
    if text and text not in SET_ASIDE_REASONS:
        raise ValueError(f"give one of {', '.join(SET_ASIDE_REASONS)}")
    return text


def _text(text: str, _: datetime) -> str:
    return text


def _since(text: str, now: datetime, *, end: bool = False) -> int:
    try:
        return moment_of(text, now, end=end)
    except (ValueError, OverflowError):
        raise ValueError(f"give {FORMS}") from None


def _dates(text: str, now: datetime) -> tuple[str, str]:
    try:
        return dates_of(text, now) if text.strip() else ("", "")
    except (ValueError, OverflowError):
        raise ValueError(f"give {PERIODS}") from None


def _until(text: str, now: datetime) -> int:
    return _since(text, now, end=True)


def _batch_state(text: str, _: datetime) -> str:
    if text not in ("", *STATES):
        raise ValueError(f"give one of {', '.join(STATES)}")
    return text


def _errors(text: str, _: datetime) -> bool:
    if text not in ("", "0", "1"):
        raise ValueError("give 1 for those with an error, or 0")
    return text == "1"


def _before(text: str, _: datetime) -> int:
    number = number_of(text)
    if not number:
        raise ValueError("give what 'next' of the answer before said")
    return number


def number_of(path: str) -> int:
    """Return the whole number at the end of a path; 0 if there is none."""
    text = path.rpartition("/")[2]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _by(text: str, _: datetime) -> tuple[str, ...]:
    return keys_of(part.strip() for part in text.split(","))


PARAMETERS = {
    "state": Parameter(_state, ""),
    "limit": Parameter(_limit, LIMIT),
    "after": Parameter(_after, START),
    "StudyInstanceUID": Parameter(_uid, ""),
    "modality": Parameter(_text, ""),
    "sender": Parameter(_text, ""),
    "reason": Parameter(_reason, ""),
    "since": Parameter(_since, 0),
    "until": Parameter(_until, LAST),
    "by": Parameter(_by, (BY[0],)),
    "status": Parameter(_batch_state, ""),
    "errors": Parameter(_errors, False),
    "before": Parameter(_before, LAST),
    "name": Parameter(_text, ""),
    "patient": Parameter(_text, ""),
    "accession": Parameter(_text, ""),
    "dates": Parameter(_dates, ("", "")),
}


def parse_query(query: str, names: Collection[str], now: datetime | None = None) -> dict[str, Any]:
    """Return the values of these parameters in a query; of one that is given twice the last. Raises ValueError that
    says what to give.
    """
    known = f"are {', '.join(names)}" if names else "is none"
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ValueError(f"too many parameters; there {known}") from None
    if given.keys() - set(names):
        raise ValueError(f"unknown parameter; there {known}")
    moment = now or datetime.now(UTC)
    return {
        name: _value(name, given[name][-1], moment) if name in given else PARAMETERS[name].default for name in names
    }


def _value(name: str, text: str, now: datetime) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(f"{name}: give at most {_LONGEST} characters")
    try:
        return PARAMETERS[name].read(text, now)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def cursor(last_ns: int, number: int) -> str:
    """Return the text that `after` takes for what follows a row."""
    return f"{last_ns}-{number}"

"""PURE. Days, instants and periods as command line and API take them, in nanoseconds since the epoch; UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

#: What a time may be, for help texts and errors.
FORMS = "2026-01-31, 2026-01, 2026-01-31T08:00:00Z, 7d (ago), today, yesterday, this-month, last-month or this-year"

#: The latest moment that sqlite holds.
LAST = 2**63 - 1

#: What a period may be, beside a time: for help texts and errors.
PERIODS = "2026-01-31, 2026-01, 7d, today, this-month, ..., or from one to another: 2026-01-31..2026-03, 2026.., ..7d"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def no_time(option: str, text: str) -> str:
    """Return the words for a text of an option that is no time; `text` can be shown as it is."""
    return f"{option}: '{text}' is no time; give {FORMS}"


def moment_of(text: str, now: datetime, *, end: bool = False) -> int:
    """Return a day, month or year (its start, or its `end`), an instant, or a time before `now`; UTC where no offset is
    given. Clamp it to what 64 bits hold, from the epoch to 2262. Raise ValueError or OverflowError.
    """
    if text[-1:] in _UNITS and text[:-1].isdecimal():
        found = now - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    elif (period := _period(text, now)) is not None:
        found = period[1] if end else period[0]
    else:
        found = datetime.fromisoformat(text)
    known = found if found.tzinfo else found.replace(tzinfo=UTC)
    since = known - _EPOCH
    return min(max(0, (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000), LAST)


def period_of(text: str, now: datetime) -> tuple[int, int]:
    """Return the first and last moment of a period: a day or month, a time before `now` until LAST, or `A..B` of which
    one may be left out. Raise ValueError or OverflowError.
    """
    first, dots, last = text.partition("..")
    if dots and (first or last):
        return (moment_of(first, now) if first else 0), (moment_of(last, now, end=True) if last else LAST)
    begin, end = moment_of(text, now), moment_of(text, now, end=True)
    return begin, end if end > begin else LAST


def dates_of(text: str, now: datetime) -> tuple[str, str]:
    """Return the first and last date (DA, YYYYMMDD; "": open) of a period as period_of() reads it, of a year, or of a
    date as DICOM has it. Raise ValueError or OverflowError.
    """
    first, dots, last = text.partition("..")
    if dots and (first or last):
        return (_dates(first, now)[0] if first else ""), (_dates(last, now)[1] if last else "")
    begin, end = _dates(text, now)
    return begin, "" if text[:-1].isdecimal() and text[-1] in _UNITS else end


def _dates(text: str, now: datetime) -> tuple[str, str]:
    found = re.fullmatch(r"(\d{4})(?:-?(\d\d))?(?:-?(\d\d))?", text)
    if found:
        year, month, day = found.groups()
        datetime(int(year), int(month or 1), int(day or 1))  # noqa: DTZ001 -- is there such a day?
        return f"{year}{month or '01'}{day or '01'}", f"{year}{month or '12'}{day or '31'}"
    moments = (moment_of(text, now), moment_of(text, now, end=True))
    begin, end = (f"{_EPOCH + timedelta(seconds=moment // 10**9):%Y%m%d}" for moment in moments)
    return begin, end


def _period(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the first and the last moment of a named period; None for an instant."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match text:
        case "today":
            return _day(today)
        case "yesterday":
            return _day(today - timedelta(days=1))
        case "this-month":
            return _month(today)
        case "last-month":
            return _month(today.replace(day=1) - timedelta(days=1))
        case "this-year":
            return today.replace(month=1, day=1), _month(today.replace(month=12, day=1))[1]
    if re.fullmatch(r"\d{4}", text):
        first = datetime(int(text), 1, 1, tzinfo=UTC)
        return first, _month(first.replace(month=12))[1]
    if re.fullmatch(r"\d{4}-\d\d", text):
        return _month(datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC))
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return _day(datetime.fromisoformat(text).replace(tzinfo=UTC))
    return None


def _day(midnight: datetime) -> tuple[datetime, datetime]:
    return midnight, midnight + timedelta(days=1, microseconds=-1)


def _month(day: datetime) -> tuple[datetime, datetime]:
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(microseconds=1)

"""PURE. Move dates back by whole days (VR DA and DT, PS3.5 section 6.2). Times and offsets stay."""

from __future__ import annotations

import re
from datetime import date, timedelta

#: A date, its year and month alone, or its year alone; with the dots of ACR-NEMA; a range (queries only) is none.
_DATE = re.compile(rb"(\d{4})(\.?)(?:(\d{2})\2(?:(\d{2}))?)?")

#: What may follow the date in a DT: time, fraction, offset from UTC.
_TIME = re.compile(rb"(?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?(?:[+-]\d{4})?")


#: A time as TM has it (also with the colons of ACR-NEMA), and the offset of a time zone.
_ALONE = re.compile(rb"(?:\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?)?|[+-]\d{4}")


def is_time(raw: bytes) -> bool:
    """Return whether a value (VR TM, or SH of an offset from UTC) holds times alone."""
    return all(_ALONE.fullmatch(part.strip(b" \0")) for part in raw.split(b"\\"))


def shift(vr: str, raw: bytes, days: int) -> bytes | None:
    """Return the value with each of its dates `days` earlier, in the same length and with the same padding; None where
    one of them is no date, or would leave the calendar.

    A date without its day is moved as the middle of what it says, so a month or year may change: it is still what lies
    `days` before, as far as the original told.
    """
    parts = raw.split(b"\\")
    moved = [_shifted(vr, part, days) for part in parts]
    return None if any(one is None for one in moved) else b"\\".join(one for one in moved if one is not None)


def _shifted(vr: str, part: bytes, days: int) -> bytes | None:
    value = part.rstrip(b" \0")
    if not value:
        return part
    match = _DATE.match(value.lstrip(b" "))
    rest = value.lstrip(b" ")[match.end() :] if match else b""
    if not match or not (_TIME.fullmatch(rest) if vr == "DT" else not rest):
        return None
    # An offset may follow a partial date; digits must not, for they would be a time without a day.
    if match[4] is None and rest[:1].isdigit():
        return None
    year, dot, month, day = match.groups()
    try:
        then = date(int(year), int(month or 7), int(day or 15 if month else 2)) - timedelta(days)
    except (ValueError, OverflowError):
        return None
    told = [b"%04d" % then.year, b"%02d" % then.month if month else b"", b"%02d" % then.day if day else b""]
    text = dot.join(one for one in told if one)
    blanks = len(value) - len(value.lstrip(b" "))
    return part[:blanks] + text + rest + part[len(value) :]

"""PURE. The values that lines of recipes set. What deid draws at random is derived from the key, so that the same
original has the same value everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from listener.deidentify import dates
from listener.deidentify.faults import RecipeFailed
from listener.deidentify.keys import Keys
from listener.deidentify.recipe import JITTER, Line, Spec, keyword_of

_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_TEXTS = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI"))
_TEXTS |= {"UR", "UT"}
_LONGEST_UID, _DAYS_OF_A_YEAR = 64, 365


class Sources(NamedTuple):
    """Where values come from: keys, the pseudonym and shift of the subject, and further values by name."""

    keys: Keys
    pseudonym: str
    days: int
    values: tuple[tuple[str, str], ...]


class Element(NamedTuple):
    """An element whose value is set: its tag, VR, value, and byte order."""

    tag: int
    vr: str
    raw: bytes
    little: bool


def value(lines: Sequence[Line], element: Element, sources: Sources) -> bytes:
    """Return the value that lines set, one after the other. Raises RecipeFailed where one cannot."""
    raw = element.raw
    for line in lines:
        if line.action == JITTER:
            if raw.strip(b" \0"):
                raw = _moved(line, element.vr, raw, _days(line, sources))
        else:
            raw = _set(line, element._replace(raw=raw), sources)
    return raw


def _moved(line: Line, vr: str, raw: bytes, days: int) -> bytes:
    """Return dates `days` later."""
    moved = dates.shift(vr, raw, -days) if vr in ("DA", "DT") else None
    if moved is None:
        raise RecipeFailed(line.number, "a date cannot be moved")
    return moved


def _days(line: Line, sources: Sources) -> int:
    spec = line.value
    assert spec
    if spec.kind == "func" and spec.text == "shift":
        return -sources.days
    text = spec.text if spec.kind == "literal" else _named(line, spec, sources)
    try:
        return int(text)
    except ValueError:
        raise RecipeFailed(line.number, "the number of days is none") from None


def _named(line: Line, spec: Spec, sources: Sources) -> str:
    found = dict(sources.values).get(spec.text)
    if found is None:
        raise RecipeFailed(line.number, f"nobody gave {spec.kind}:{spec.text}")
    return found


def _set(line: Line, element: Element, sources: Sources) -> bytes:
    spec = line.value
    assert spec
    original = element.raw.decode("latin-1").strip(" \0")
    if spec.kind == "literal":
        return _encoded(line, element, spec.text)
    if spec.kind == "deid_func":
        return _by_function(line, spec, element, sources)
    if spec.kind == "func" and spec.text == "uid":
        return _encoded(line, element, "\\".join(sources.keys.uid(one) if one else "" for one in original.split("\\")))
    if spec.kind == "func" and spec.text == "pseudonym":
        return _encoded(line, element, sources.pseudonym)
    if spec.kind == "func" and spec.text == "shift":
        return _moved(line, element.vr, element.raw, -sources.days)
    return _encoded(line, element, _named(line, spec, sources))


def _by_function(line: Line, spec: Spec, element: Element, sources: Sources) -> bytes:
    """Return what a function of deid would make, derived where that draws at random."""
    extras = dict(spec.extras)
    original = element.raw.decode("latin-1").strip(" \0")
    if spec.text == "jitter":
        days = int(extras.get("days", 1)) + _DAYS_OF_A_YEAR * int(extras.get("years", 0))
        return _moved(line, element.vr, element.raw, days)
    made = sources.keys.uuid(original)
    if spec.text == "basic_uuid":
        text = str(made)
    elif spec.text == "suffix_uuid":
        text = f"{keyword_of(element.tag).lower()}-{made}"
    else:
        root = extras.get("org_root") if spec.text == "dicom_uuid" else extras.get("prefix", "2.25.")
        text = f"{(root or '').rstrip('.')}.{made.int}"[:_LONGEST_UID]
    return _encoded(line, element, text)


def _encoded(line: Line, element: Element, text: str) -> bytes:
    """Return a text as the value of a VR."""
    if element.vr in _TEXTS and text.isascii():
        return text.encode()
    if element.vr not in _NUMBERS:
        raise RecipeFailed(line.number, "what it would set is no text or number")
    code = _NUMBERS[element.vr]
    try:
        number = float(text) if code in "fd" else int(text)
        return struct.pack(("<" if element.little else ">") + code, number)
    except (ValueError, struct.error, OverflowError):
        raise RecipeFailed(line.number, "the value is no such number") from None

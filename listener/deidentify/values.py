"""PURE. Values that stand in place of others: dummies by VR, ages up to 89 years, texts of allowed words."""

from __future__ import annotations

import re
from collections.abc import Collection

_WORD = "ANONYMIZED"

#: A value that is valid for its VR, of even length, and says nothing (PS3.5 section 6.2; action D of PS3.15).
_DUMMIES: dict[str, bytes] = {
    "AE": b"ANON",
    "AS": b"000Y",
    "CS": b"ANON",
    "DA": b"19000101",
    "DS": b"0 ",
    "DT": b"19000101000000",
    "IS": b"0 ",
    "TM": b"000000",
    "UR": b"urn:anonymized",
} | dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "PN", "UN"), _WORD.encode())

_ZEROS = {"AT": 4, "FL": 4, "FD": 8, "OB": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
_ZEROS |= {"SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}

#: VRs of numbers, and of texts that may have several values (PS3.5 section 6.4).
_NUMBERS = frozenset(_ZEROS) - {"OB", "OD", "OF", "OL", "OV", "OW"}
_MULTIPLE = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC"})

#: Words of VR CS that a sequence of dummies needs to stay valid, and that say nothing of anybody.
TERMS = frozenset(
    b"TEXT NUM CODE CONTAINER UIDREF PNAME DATE TIME DATETIME IMAGE COMPOSITE SCOORD SCOORD3D TCOORD WAVEFORM CONTAINS "
    b"PIXEL DISPLAY POLYLINE POINT CIRCLE ELLIPSE YES NO Y N SEPARATE CONTINUOUS PSN DEV".split()
) | {b"HAS PROPERTIES", b"HAS OBS CONTEXT", b"HAS ACQ CONTEXT", b"INFERRED FROM", b"SELECTED FROM", b"HAS CONCEPT MOD"}

#: Coding schemes whose codes are published (PS3.16 table 8-1).
SCHEMES = frozenset(b"DCM SCT SRT SNM3 99SDM LN UCUM RADLEX FMA UMLS ICD10 I10 I9 I9C MDC NCIt".split())

#: Years up to which an age is kept; above it is told as 90 (HIPAA, 45 CFR 164.514(b)(2)(i)(C)).
_OLDEST = 89
_AGE = re.compile(rb"(\d{3})([DWMY])")
_YEARS = {b"D": 365.25, b"W": 52.18, b"M": 12.0, b"Y": 1.0}

_PARTS = re.compile(r"[A-Za-z]+|[0-9]+")
_LONGEST_NUMBER, _MOST_NUMBERS = 3, 3


def dummy(vr: str, raw: bytes = b"") -> bytes:
    """Return a value that is valid for a VR (of several, "US or SS", for the first) and says nothing, with as many
    values as `raw` has: an attribute may need several.
    """
    vr = vr[:2]
    if vr in _DUMMIES:
        one = _DUMMIES[vr]
        several = raw.count(b"\\") + 1 if vr in _MULTIPLE else 1
        return b"\\".join([one.rstrip()] * several) if several > 1 else one
    size = _ZEROS.get(vr, 0)
    return bytes(len(raw) if vr in _NUMBERS and len(raw) % size == 0 and raw else size)


def capped_age(raw: bytes) -> bytes | None:
    """Return an age (VR AS) as it is up to 89 years, else 090Y; None where it is none."""
    match = _AGE.fullmatch(raw.strip(b" \0"))
    if not match:
        return None if raw.strip(b" \0") else raw
    return raw if int(match[1]) / _YEARS[match[2]] < _OLDEST + 1 else b"090Y"


def is_clean(text: str, words: Collection[str]) -> bool:
    """Return whether each word of a text is in `words` (lower case). Numbers may have three digits, and there may be
    three of them: no date, telephone number or identifier has so few. Characters beyond ASCII are not allowed.
    """
    if not text.isascii():
        return False
    parts = _PARTS.findall(text)
    numbers = [part for part in parts if part.isdigit()]
    if len(numbers) > _MOST_NUMBERS or any(len(one) > _LONGEST_NUMBER for one in numbers):
        return False
    return all(part.isdigit() or part.lower() in words for part in parts)

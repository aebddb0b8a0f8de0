"""PURE. The text of a value without pydicom, where it is certain what pydicom would print; else None."""

from __future__ import annotations

import re
from functools import lru_cache

#: Character sets of PS3.3 tables C.12-2 to C.12-5, as pydicom spells them; each contains printable ASCII unchanged.
_CHARSETS = frozenset(
    [b""]
    + [b"ISO_IR %d" % n for n in (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192)]
    + [b"ISO 2022 IR %d" % n for n in (6, 13, 58, 87, 100, 101, 109, 110, 126, 127, 138, 144, 148, 149, 159, 166)]
    + [b"GB18030", b"GBK"]
)

_PLAIN_VRS = frozenset((b"LO", b"SH", b"CS", b"DA", b"TM", b"DT", b"AS", b"UC"))
_LONG_TEXT_VRS = frozenset((b"LT", b"ST", b"UT"))
_INTEGERS = {b"US": (2, False), b"SS": (2, True), b"UL": (4, False), b"SL": (4, True)}

#: VRs whose value is text.
TEXT_VRS = _PLAIN_VRS | _LONG_TEXT_VRS | {b"PN", b"UI", b"IS", b"DS", b"AE", b"UR"}

_WHOLE, _NUMBER = r"[+-]?[0-9]{1,12}", r"[+-]?[0-9]{1,32}(\.[0-9]{0,32})?([eE][+-]?[0-9]{1,3})?"

_matches = {
    b"UI": re.compile(r"[0-9.]+").fullmatch,
    b"IS": re.compile(f" *{_WHOLE}").fullmatch,
    b"DS": re.compile(f" *{_NUMBER}").fullmatch,
    b"PN": re.compile(r"[^=]+").fullmatch,
    b"AE": re.compile(r".+").fullmatch,
}

#: Several values that print as they are, and what stands around each: positions, which differ from file to file, and
#: words as those of Image Type.
_matches_several = {
    b"IS": (re.compile(rf"{_WHOLE}(\\{_WHOLE})+").fullmatch, ""),
    b"DS": (re.compile(rf"{_NUMBER}(\\{_NUMBER})+").fullmatch, ""),
    b"CS": (re.compile(r"[A-Z0-9_]+(\\[A-Z0-9_]+)+").fullmatch, "'"),
}
_STRIPPED = frozenset((b"IS", b"DS", b"AE"))

_SURROGATES = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=256)
def is_known_charset(raw: bytes) -> bool:
    """Return whether printable ASCII is unchanged under this Specific Character Set (0008,0005)."""
    return all(term.strip(b" \0") in _CHARSETS for term in raw.split(b"\\"))


def plain_text(vr: bytes, raw: bytes, *, little: bool = True) -> str | None:
    """Return what `str()` of pydicom's value prints, "" for a value that is empty or only padding.

    Return None where that is not certain: other characters than printable ASCII, several values that are neither
    numbers nor codes, odd numbers, other VRs. The data set's character set must be a known one.
    """
    if vr in _INTEGERS:
        length, signed = _INTEGERS[vr]
        return str(int.from_bytes(raw, "little" if little else "big", signed=signed)) if len(raw) == length else None
    if not raw.isascii() or vr not in TEXT_VRS:
        return None
    text = raw.decode("ascii").rstrip("\0 ")
    if not text.isprintable():
        return None
    if vr in _LONG_TEXT_VRS or not text:
        return text
    if "\\" in text:
        return _several(vr, text)
    if vr in _PLAIN_VRS:
        return text
    if vr not in _matches or not _matches[vr](text):
        return None
    # pydicom leaves a NUL behind an AE title
    if vr in _STRIPPED:
        return text.strip() if vr != b"AE" or b"\0" not in raw else None
    return text


def _several(vr: bytes, text: str) -> str | None:
    matches, quote = _matches_several.get(vr, (None, ""))
    if not matches or not matches(text):
        return None
    return "[{}{}{}]".format(quote, text.replace("\\", f"{quote}, {quote}"), quote)


def clean(text: str) -> str:
    """Return `text` as JSON and names may hold it: without NULs, and without surrogates, which UTF-8 cannot hold."""
    return _SURROGATES.sub("\ufffd", text.replace("\0", "")) if not text.isascii() else text.replace("\0", "")


def bytes_text(vr: bytes, raw: bytes) -> str:
    """Return the text of a value that pydicom cannot convert.

    Text VRs: every byte as its ISO 8859-1 character (pydicom's default encoding), without trailing padding. All other
    VRs: as Python, and so pydicom, prints bytes.
    """
    return clean(raw.decode("latin-1").rstrip("\0 ")) if vr in TEXT_VRS else str(raw)

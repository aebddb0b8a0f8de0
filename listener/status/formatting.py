"""PURE. Numbers as people read them, and texts of others made safe to show."""

from __future__ import annotations

#: What is shown where there is nothing.
NONE = "\N{EN DASH}"

_WORD = 16

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = ((86_400.0 * 2, 86_400.0, "d"), (3600.0 * 2, 3600.0, "h"), (120.0, 60.0, "min"))


def count(number: int) -> str:
    """12345 -> 12,345."""
    return f"{number:,}"


def size(number: float) -> str:
    """Bytes in powers of 1000, three digits: 1.23 GB."""
    value, unit = float(number), _SIZES[0]
    for unit in _SIZES:
        if abs(value) < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 99.95 or unit == "B" else f"{value:.3g} {unit}"


def rate(number: float) -> str:
    """A number a second, three digits: 0.25, 12.5, 1,250."""
    return f"{number:,.0f}" if number >= 99.95 or not number else f"{number:.3g}"


def span(seconds: float | None) -> str:
    """A duration: 4 ms, 1.5 s, 90 s, 12 min, 5 h, 3 d; a dash for none."""
    if seconds is None:
        return NONE
    value = abs(seconds)
    for least, one, unit in _SPANS:
        if value >= least:
            return f"{value / one:.0f} {unit}"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def share(part: int, whole: int) -> str:
    """In percent, never 100 for less than all."""
    return f"{min(99, 100 * part // whole) if part < whole else 100} %" if whole else NONE


def brief(text: str) -> str:
    """A modality or an AE title: DICOM allows 16 characters, but not every sender knows."""
    return text if len(text) <= _WORD else f"{text[: _WORD - 1]}\N{HORIZONTAL ELLIPSIS}"


def plain(text: str) -> str:
    """A text of a sender's making with nothing that moves a cursor, hides or turns what stands beside it."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)

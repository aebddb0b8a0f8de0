"""PURE. Numbers as people read them, and texts from senders made safe to show."""

from __future__ import annotations

#: Shown for an absent value.
NONE = "\N{EN DASH}"

_MAX_BRIEF = 16

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = ((86_400.0 * 2, 86_400.0, "d"), (3600.0 * 2, 3600.0, "h"), (120.0, 60.0, "min"))


def count(number: int) -> str:
    """Return 12345 as 12,345."""
    return f"{number:,}"


def several(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 file, 2 files; `many` where it is not `one` with an s."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Return bytes in powers of 1000, three digits: 1.23 GB."""
    value, unit = float(number), _SIZES[0]
    for unit in _SIZES:
        if abs(value) < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 99.95 or unit == "B" else f"{value:.3g} {unit}"


def rate(number: float) -> str:
    """Return a rate per second, three digits: 0.25, 12.5, 1,250."""
    return f"{number:,.0f}" if number >= 99.95 or not number else f"{number:.3g}"


def span(seconds: float | None, *, whole: bool = False) -> str:
    """Return a duration: 4 ms, 1.5 s, 90 s, 12 min, 5 h, 3 d; a dash for None. `whole`: seconds without a fraction."""
    if seconds is None:
        return NONE
    value = abs(seconds)
    if whole and value < 120:
        return f"{value:.0f} s"
    for least, unit_seconds, unit in _SPANS:
        if value >= least:
            return f"{value / unit_seconds:.0f} {unit}"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def moment(instant: str) -> str:
    """Return an instant (RFC 3339, "" for never) to the second: 2026-01-31 08:00:00."""
    return instant[:19].replace("T", " ")


def day(date: str) -> str:
    """Return a date of DICOM (DA, YYYYMMDD) as 2026-01-31; what is none as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdecimal() else date


def share(part: int, whole: int) -> str:
    """Return a share in percent, never 100 for less than all; a dash without a whole."""
    return f"{min(99, 100 * part // whole) if part < whole else 100} %" if whole else NONE


def brief(text: str, most: int = _MAX_BRIEF) -> str:
    """Return a text cut to `most` characters: by default 16, DICOM's limit of modalities and AE titles, which not every
    sender keeps.
    """
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def plain(text: str) -> str:
    """Return a sender's text without characters that move a cursor, or hide or turn what stands beside them."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)

"""PURE. Messages of LONK (Light Oxidicom NotifiKations), as oxidicom 4 sends them over NATS and CUBE reads them."""

from __future__ import annotations

import struct

#: What a message begins with: the series is whole, a number of instances follows, a text follows.
_DONE, _NUMBER, _ERROR = b"\0", b"\1", b"\2"

#: The largest number that fits: an unsigned word of 32 bits, little endian.
_MOST = 2**32 - 1

#: Letters that NATS gives a meaning in a subject: CUBE subscribes to the same replacement.
_PLAIN = str.maketrans({" ": "_", ".": "_", "*": "_", ">": "_", "\0": None})


def subject(root: str, pacs: str, series: str) -> str:
    """Return the subject of a series: of the AE title that its files came from, and its SeriesInstanceUID."""
    return f"{root}.{_token(pacs)}.{_token(series)}"


def _token(text: str) -> str:
    """Return a part of a subject. What ends a line or a word, and nothing at all, would be no subject: no AE title and
    no UID is so, but a header may say it.
    """
    plain = text.translate(_PLAIN)
    if not plain.isprintable():  # Of white space the blank alone is, and that is gone.
        plain = "".join(letter if letter.isprintable() else "_" for letter in plain)
    return plain or "_"


def done() -> bytes:
    """Return the message that nothing more comes."""
    return _DONE


def number(instances: int) -> bytes:
    """Return the message that so many instances are there."""
    return _NUMBER + struct.pack("<L", min(max(instances, 0), _MOST))


def error(text: str) -> bytes:
    """Return the message that something is wrong; CUBE ends its stream with it."""
    return _ERROR + text.encode("utf-8", "replace")

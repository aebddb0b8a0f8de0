"""PURE. Parts of a resource (RFC 9110 section 14), and whether the client has it already (section 13)."""

from __future__ import annotations

import re

from listener.serve.faults import RangeOutside

_one_range = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE).fullmatch


def part(field: str, size: int) -> tuple[int, int] | None:
    """Return offset and length of the one range that a Range field names; None for no range, several, or what is no
    Range of bytes: then the whole is sent.

    Raises RangeOutside.
    """
    found = _one_range(field)
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        first, last = size - length, size - 1
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
    if first >= size or last < first:
        raise RangeOutside("", (("content-range", f"bytes */{size}"),))
    return first, last - first + 1


def is_known(field: str, etag: str) -> bool:
    """Return whether an If-None-Match field names this entity tag, or any."""
    tags = [tag.strip().removeprefix("W/") for tag in field.split(",")]
    return bool(field) and ("*" in tags or etag in tags)

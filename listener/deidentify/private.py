"""Private elements: the block that each is in, and whose that is (PS3.5 section 7.8.1)."""

from __future__ import annotations

from listener.deidentify.forms import Head
from listener.dicom.encoding import UNDEFINED


def block_of(tag: int) -> int:
    """Return the block of a private element, by group and number: the one that it is in, or that it reserves."""
    return tag >> 16 << 8 | (tag & 0xFF if reserves(tag) else tag >> 8 & 0xFF)


def reserves(tag: int) -> bool:
    """Return whether a private element reserves a block for a creator."""
    return 0x10 <= tag & 0xFFFF <= 0xFF


def creator_of(head: Head, creators: dict[int, str], data: bytes) -> str:
    """Return the creator of a private element, "" where none has reserved its block. `creators`, by block, are those of
    its data set or item; an element in `data` that reserves one is added.
    """
    block = block_of(head.tag)
    if reserves(head.tag) and head.length != UNDEFINED:
        creators[block] = data[head.start : head.start + head.length].decode("latin-1").strip(" \0")
    return creators.get(block, "")

"""Which attributes are wanted of each file, and their texts: plain ones made here, all others by pydicom."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from listener.dicom import pixels
from listener.dicom.keywords import tag_of, vr_of
from listener.dicom.nested import shallow_bytes
from listener.dicom.runs import Found
from listener.dicom.structure import Structure
from listener.dicom.texts import is_known_charset
from listener.dicom.walk import Walker

PROVIDER_URL = 0x00287FE0
_CHARSET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103

#: Elements that decide how others are read, and what is said of the file.
CONTROL = frozenset((*pixels.TAGS, _CHARSET, _PIXEL_REPRESENTATION, PROVIDER_URL))


class Wanted:
    """The attributes that are wanted of each file: make one for a layout, and use it for all files.

    `keywords` is in alphabetical order. It remembers what files looked like, to walk the next ones more quickly.
    """

    __slots__ = ("_walkers", "keywords", "tags")

    def __init__(self, keywords: tuple[str, ...]) -> None:
        self.keywords = keywords
        self.tags = dict.fromkeys(CONTROL, ("", b""))
        self.tags |= {tag_of(keyword): (keyword, vr_of(keyword)) for keyword in keywords}
        self._walkers: dict[int, Walker] = {}

    @classmethod
    def of(cls, keywords: Iterable[str]) -> Wanted:
        """From DICOM keywords in any order, the same object for the same ones; KeyError for a word that is none."""
        return _wanted(frozenset(keywords))

    def walker(self, max_depth: int) -> Walker:
        """What walks data sets for these attributes."""
        walker = self._walkers.get(max_depth)
        if walker is None:
            walker = self._walkers[max_depth] = Walker(self.tags, shallow_bytes(max_depth))
        return walker


@lru_cache(maxsize=64)
def _wanted(keywords: frozenset[str]) -> Wanted:
    return Wanted(tuple(sorted(keywords)))


def texts_of(found: Found, structure: Structure) -> tuple[dict[str, str], list[str], bool]:
    """Texts by keyword, keywords without a value, and whether all of it could be done without pydicom."""
    values: dict[str, str] = {}
    empty: list[str] = []
    hard: list[str] = []
    little = structure.encoding.little
    known = _CHARSET not in found or is_known_charset(found[_CHARSET][1])
    for slot, raw in found.values():
        keyword = slot.keyword
        if not keyword:
            continue
        text = slot.texts.get(raw) if known and little else None
        if text is None:
            text = slot.text(raw, little=little) if known or not raw else None
        if text:
            values[keyword] = text
        elif text is None:
            hard.append(keyword)
        else:
            empty.append(keyword)
    if hard:
        _decode_hard(hard, found, structure, values, empty)
    return values, empty, not hard


def _decode_hard(hard: list[str], found: Found, structure: Structure, values: dict[str, str], empty: list[str]) -> None:
    from listener.dicom import decoding

    chosen = {
        tag: decoding.Raw(slot.element, raw)
        for tag, (slot, raw) in found.items()
        if slot.keyword in hard or tag in CONTROL
    }
    with decoding.quiet():
        made = decoding.dataset(chosen, decoding.Syntax(structure.implicit, structure.encoding.little))
        for tag, raw in chosen.items():
            keyword = found[tag][0].keyword
            if keyword in hard:
                text, is_empty = decoding.text_of(made, raw)
                if is_empty:
                    empty.append(keyword)
                else:
                    values[keyword] = text

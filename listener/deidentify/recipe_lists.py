"""PURE. Lists of values: the texts that an instance has where the lists of recipes say, and which values contain one.

These texts are of a patient: nothing here prints them, and no error holds one.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from listener.deidentify import character_sets
from listener.deidentify.recipe import Entry, Field, Recipe, Where

_PADDING = "\0 "

#: VRs of one value, in which a backslash is a character, and of several.
_WHOLE = frozenset({"LT", "ST", "UT", "UR"})
_SEVERAL = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"})
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d", "AT": "HH"}
_BYTES = frozenset({"OB", "UN"})

#: VRs of values that are read as texts. The rest are numbers without end, which say nothing of anybody.
READ = _WHOLE | _SEVERAL | _BYTES | frozenset(_NUMBERS)


class Leaf(NamedTuple):
    """An element that is no sequence: where it stands, its VR (of the dictionary where the file has UN), its bytes, the
    Specific Character Set that it is in, and its byte order.
    """

    where: Where
    vr: str
    raw: bytes
    terms: bytes = b""
    little: bool = True


def texts(leaf: Leaf) -> list[str]:
    """Return the values of an element as texts, none for those that are empty."""
    if leaf.vr in _NUMBERS:
        return list(_numbers(_NUMBERS[leaf.vr], leaf.raw, little=leaf.little))
    if leaf.vr not in READ:
        return []
    text = character_sets.text(leaf.raw, leaf.terms)
    values = text.split("\\") if leaf.vr in _SEVERAL else [text]
    return [value for value in (one.rstrip(_PADDING) for one in values) if value.strip()]


def _numbers(code: str, raw: bytes, *, little: bool) -> Iterator[str]:
    one = struct.Struct(("<" if little else ">") + code)
    for found in one.iter_unpack(raw[: len(raw) // one.size * one.size]):
        yield str(found[0]) if len(found) == 1 else f"({found[0]:04X},{found[1]:04X})"


@dataclass(frozen=True, repr=False)
class Lists:
    """The values of an instance by list, and its Specific Character Set. Two are equal if the same lines mean the same
    elements of both instances.
    """

    values: Mapping[Field, frozenset[str]]
    terms: bytes = b""
    _patterns: dict[Field, re.Pattern[str]] = field(default_factory=dict, compare=False)

    def holds(self, one: Field, leaf: Leaf) -> bool:
        """Return whether a value of an element contains one of a list, in capitals or not."""
        values = self.values.get(one)
        if not values:
            return False
        pattern = self._patterns.get(one)
        if pattern is None:
            joined = "|".join(re.escape(value) for value in sorted(values))
            pattern = self._patterns[one] = re.compile(joined, re.IGNORECASE)
        return any(pattern.search(text) for text in texts(leaf))


def gathered(recipe: Recipe, leaves: Iterable[Leaf]) -> Lists:
    """Return the values that the lists of a recipe take from an instance."""
    found: dict[Field, set[str]] = defaultdict(set)
    terms = b""
    for leaf in leaves:
        if leaf.where.path == (character_sets.TAG,):
            terms = leaf.raw
        for one, entry in recipe.told(leaf.where):
            found[one].update(_taken(entry, leaf))
    return Lists({one: frozenset(values) for one, values in found.items()}, terms)


def _taken(entry: Entry, leaf: Leaf) -> Iterator[str]:
    """Yield what a line of a list takes from an element: nothing that is blank, for everything would contain it."""
    for text in texts(leaf):
        if leaf.vr in _BYTES and not text.isprintable():
            continue
        if not entry.by:
            yield text
            continue
        yield from (part for part in text.split(entry.by) if len(part) >= entry.least and part.strip())

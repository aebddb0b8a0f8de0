"""Read the values of a data set, and of sequences, with the place of each: where lists of values are taken from, and
looked for.

As strict as what rewrites. Values at the top level that are large, pixels and what stands behind them are passed over.
"""

from __future__ import annotations

import contextlib

from listener.deidentify.character_sets import TAG as CHARACTER_SET
from listener.deidentify.faults import NotUnderstood
from listener.deidentify.forms import NO_FRAGMENTS, UNKNOWN_FORM, Form, Head, Short, told_vr
from listener.deidentify.private import creator_of
from listener.deidentify.profile import Position
from listener.deidentify.recipe import Where
from listener.deidentify.recipe_lists import READ, Leaf
from listener.dicom.attributes import Limits, dictionary_vr
from listener.dicom.encoding import BULK_TAGS, HEAD, ITEM, ITEM_END, LONG_HEAD, PIXEL_TAGS, SEQUENCE_END, UNDEFINED
from listener.dicom.source import Source

#: A value of more bytes is passed over, and so many are read at once of what has no length.
_LARGE = 64 * 1024

_ITEMS = 0xFFFE


def of_source(source: Source, begin: int, form: Form, limits: Limits) -> list[Leaf]:
    """Return the values of the data set that begins at `begin`, to its pixels. Raises Short, NotUnderstood and what the
    source does.
    """
    reader = _Reader(form, limits)
    creators: dict[int, str] = {}
    position, at = Position(), begin
    while True:
        first = source.read(at, LONG_HEAD)
        if not any(first[:HEAD]):
            return reader.found
        head = form.head(first, 0)
        if head.tag in PIXEL_TAGS:
            return reader.found
        if head.length == UNDEFINED or is_sequence(head):
            at += _followed(reader, source, at, position)
            continue
        if head.length <= _LARGE:
            data = source.read(at, head.start + head.length)
            position = at_terms(position, head, data)
            reader.element(data, head, position, creators)
        at += head.start + head.length


def of_sequence(data: bytes, head: Head, form: Form, position: Position, limits: Limits) -> list[Leaf]:
    """Return the values in a sequence, which is at `position`. Raises as _Reader.sequence."""
    reader = _Reader(form, limits)
    reader.sequence(data, head, position)
    return reader.found


def is_sequence(head: Head) -> bool:
    """Return whether an element is a sequence, also one that the file has as UN."""
    return head.vr == "SQ" or (head.vr == "UN" and (head.length == UNDEFINED or dictionary_vr(head.tag) == "SQ"))


def may_tell(head: Head) -> bool:
    """Return whether a large value may hold a text that is looked for: pixels, documents and long numbers do not."""
    return head.vr[:2] in READ and head.tag not in BULK_TAGS


def leaf_of(data: bytes, head: Head, form: Form, position: Position) -> Leaf:
    """Return an element that is no sequence. Raises Short."""
    end = head.start + head.length
    if end > len(data):
        raise Short
    where = Where((*position.path, head.tag), told_vr(head), position.creator)
    vr = head.vr if head.vr != "UN" else dictionary_vr(head.tag) or "UN"
    return Leaf(where, vr[:2], data[head.start : end], position.terms, form.little)


def at_terms(position: Position, head: Head, data: bytes) -> Position:
    """Return a position with the Specific Character Set of its data set or item, if that is the element at hand."""
    if head.tag != CHARACTER_SET:
        return position
    return position._replace(terms=data[head.start : head.start + head.length])


def _followed(reader: _Reader, source: Source, at: int, position: Position) -> int:
    """Read a value that may have no length; return how many bytes the element has."""
    count = _LARGE
    while True:
        data, known = source.read(at, count), len(reader.found)
        try:
            return reader.element(data, reader.form.head(data, 0), position, {})
        except Short:
            if len(data) < count or count > reader.limits.max_header:
                raise
            del reader.found[known:]
            count *= 4


class _Reader:
    """Reads values in one form into `found`. Its methods return the offset behind what they read, and raise Short and
    NotUnderstood.
    """

    def __init__(self, form: Form, limits: Limits) -> None:
        self.form, self.limits = form, limits
        self.found: list[Leaf] = []

    def element(self, data: bytes, head: Head, position: Position, creators: dict[int, str]) -> int:
        """Read an element; `creators` are those of its data set or item, by block."""
        if is_sequence(head):
            return self.sequence(data, head, position)
        if head.length == UNDEFINED:
            return self._fragments(data, head)
        if head.tag >> 16 & 1:
            position = position._replace(creator=creator_of(head, creators, data))
        self.found.append(leaf_of(data, head, self.form, position))
        return head.start + head.length

    def sequence(self, data: bytes, head: Head, position: Position) -> int:
        """Read a sequence, which is at `position`. One of known length that cannot be followed has no more values: it
        is removed.
        """
        within = Position(position.depth + 1, "", "", (*position.path, head.tag), position.terms)
        before, self.form = self.form, UNKNOWN_FORM if head.vr == "UN" else self.form
        end = head.start + head.length
        try:
            if head.length == UNDEFINED:
                return self._items(data, head.start, -1, within)
            if end > len(data):
                raise Short
            with contextlib.suppress(Short, NotUnderstood):
                self._items(data[:end], head.start, end, within)
            return end
        finally:
            self.form = before

    def _items(self, data: bytes, at: int, end: int, position: Position) -> int:
        """Read items up to `end` (-1: to the delimiter)."""
        if position.depth > self.limits.max_depth:
            raise NotUnderstood("too many sequences within each other")
        while end < 0 or at < end:
            tag, length = self.form.item(data, at)
            at += HEAD
            if tag == SEQUENCE_END and end < 0:
                break
            if tag != ITEM:
                raise NotUnderstood("something else stands in place of an item")
            at = self._item(data, at, -1 if length == UNDEFINED else at + length, position)
        return at

    def _item(self, data: bytes, at: int, end: int, position: Position) -> int:
        """Read an item up to `end` (-1: to the delimiter)."""
        if end > len(data):
            raise Short
        creators: dict[int, str] = {}
        while end < 0 or at < end:
            head = self.form.head(data, at)
            if head.tag == ITEM_END and end < 0:
                return head.start
            if head.tag >> 16 == _ITEMS:
                raise NotUnderstood("a delimiter stands in an item")
            position = at_terms(position, head, data)
            at = self.element(data, head, position, creators)
        return at

    def _fragments(self, data: bytes, head: Head) -> int:
        """Pass over pixels in fragments."""
        at = head.start
        while (length := self.form.fragment(data, at, NO_FRAGMENTS)) is not None:
            at += HEAD + length
        return at + HEAD

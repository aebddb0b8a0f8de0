"""Rewrite the elements of data sets and of the items of sequences at every depth, bytes in, bytes out.

What is kept is copied as it stands, in stretches; lengths of items and sequences around what changed are made anew. A
sequence of known length that cannot be followed is removed; one of unknown length makes the whole data set unusable.
"""

from __future__ import annotations

from typing import NamedTuple

from listener.deidentify import leaves, profile, values
from listener.deidentify.faults import NotUnderstood, RecipeFailed
from listener.deidentify.forms import NO_FRAGMENTS, UNKNOWN_FORM, Form, Head, Short, told_vr
from listener.deidentify.private import creator_of
from listener.deidentify.profile import Decision, Position, Rules, decide
from listener.deidentify.recipe import Holds
from listener.deidentify.recipe_search import Search
from listener.deidentify.replacing import Replacer
from listener.dicom.attributes import Limits, dictionary_vr
from listener.dicom.encoding import HEAD, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED

_ITEMS = 0xFFFE
_CODING_SCHEME = 0x00080102
_REMOVED = Decision(profile.REMOVE, "cannot be read as a sequence")


class Span(NamedTuple):
    """A part of the bytes at hand: where it starts and ends; `end` -1: at a delimiter, at `limit` at most."""

    at: int
    end: int
    limit: int


class Step(NamedTuple):
    """What was done with one element: its path (tags of the sequences around it, then its own), VR, decision, and the
    value before.
    """

    path: tuple[int, ...]
    vr: str
    decision: Decision
    raw: bytes


class Elements:
    """Rewrites elements under rules. `done` has the (tag, action) of each element that was not kept; `steps` has each
    Step, if they are wanted. `search` finds elements by their values, where recipes want it; `found` are their tags.
    """

    def __init__(
        self,
        rules: Rules,
        replacer: Replacer,
        limits: Limits,
        *,
        explains: bool = False,
        search: Search | None = None,
    ) -> None:
        self._rules, self._replacer = rules, replacer
        self._limits = limits
        self._explains, self._search = explains, search
        self.found: set[int] = set()
        self._path: list[int] = []
        self._decisions = rules.decided
        self.done: list[tuple[int, str]] = []
        self.steps: list[Step] = []

    # -- decide --------------------------------------------------------------------------------------------------------

    def decision(self, head: Head, position: Position) -> Decision:
        """Return what becomes of an element, by the dictionary's VR where it has one."""
        key = (head.tag, head.vr, position)
        found = self._decisions.get(key)
        if found is None:
            found = self._decisions[key] = self._decide(head, position)
        return found

    def by_value(self, data: bytes, head: Head, position: Position, form: Form, decision: Decision) -> Decision:
        """Return what becomes of an element where lines of recipes may mean it by its value, which is in `data`;
        `decision`: what becomes of it if none does. Raises Short, NotUnderstood and RecipeFailed.
        """
        search = self._search
        assert search
        if leaves.is_sequence(head):
            holds = search.in_items(lambda: leaves.of_sequence(data, head, form, position, self._limits))
        elif head.length == UNDEFINED:
            return decision
        else:
            holds = search.in_value(leaves.leaf_of(data, head, form, position))
        made = self._decide(head, position, holds)
        if made != decision:
            self.found.add(head.tag)
        return made

    def _decide(self, head: Head, position: Position, holds: Holds | None = None) -> Decision:
        vr = told_vr(head)
        decision = decide(head.tag, vr, position, self._rules, holds)
        if decision.action == profile.SET and (vr == "SQ" or head.vr in ("SQ", "UN") or head.length == UNDEFINED):
            raise RecipeFailed(decision.lines[-1].number, "a sequence, or what is not known, has no value to set")
        sequence = (head.vr == "SQ", vr == "SQ", head.vr == "UN")
        if decision.action in (profile.REMOVE, profile.EMPTY) or sequence in _ALIKE:
            return decision
        return _REMOVED

    # -- follow --------------------------------------------------------------------------------------------------------

    def items(self, data: bytes, span: Span, form: Form, position: Position) -> tuple[bytes, int]:
        """Return the items of a sequence rewritten, without its delimiter, and the offset behind them all.

        Raises Short and NotUnderstood.
        """
        if position.depth > self._limits.max_depth:
            raise NotUnderstood(f"more than {self._limits.max_depth} sequences within each other")
        made: list[bytes] = []
        at = span.at
        while at != span.end:
            tag, length = form.item(data, at)
            at += 8
            if tag == SEQUENCE_END and span.end < 0:
                break
            if tag != ITEM:
                raise NotUnderstood("something else stands in place of an item")
            if length == UNDEFINED:
                body, at = self.dataset(data, Span(at, -1, span.limit), form, position)
                made += (form.item_head(UNDEFINED), body, form.item_end())
            else:
                _check(at + length, span, data)
                body, at = self.dataset(data, Span(at, at + length, at + length), form, position)
                made += (form.item_head(len(body)), body)
        return b"".join(made), at

    def dataset(self, data: bytes, span: Span, form: Form, position: Position) -> tuple[bytes, int]:
        """Return the elements of an item rewritten, without its delimiter, and the offset behind it. Raises as items.

        The content of a sequence of codes is decided on as a whole where it is cleaned.
        """
        made: list[bytes] = []
        seen: set[int] = set()
        creators: dict[int, str] = {}
        at = run = span.at
        is_public = position.within != profile.CLEAN or self._has_public_code(data, span, form)
        while at != span.end:
            head = form.head(data, at)
            if head.tag == ITEM_END and span.end < 0:
                made.append(data[run:at])
                return b"".join(made), head.start
            if head.tag >> 16 == _ITEMS or head.tag in seen:
                raise NotUnderstood("a delimiter or a repeated element stands in an item")
            seen.add(head.tag)
            here = self.at(head, position, creators, data)
            decision = self.decision(head, here)
            if self._search:
                position = leaves.at_terms(position, head, data)
                decision = self.by_value(data, head, here, form, decision)
            if decision.action == profile.CODE:
                decision = Decision(profile.KEEP if is_public else profile.DUMMY, decision.rule)
            piece, end = self.element(data, head, decision, span, form, here)
            if piece is not None:
                made += (data[run:at], piece)
                run = end
            at = end
        made.append(data[run:at])
        return b"".join(made), at

    def at(self, head: Head, position: Position, creators: dict[int, str], data: bytes) -> Position:
        """Return the position of an element, with its creator if it is private and some private ones are safe."""
        if not (head.tag >> 16 & 1 and self._rules.asks_creator):
            return position
        return position._replace(creator=creator_of(head, creators, data))

    def _has_public_code(self, data: bytes, span: Span, form: Form) -> bool:
        """Return whether the item says that its code is of a published coding scheme. Stops at what it cannot read."""
        at = span.at
        while at != span.end and at < len(data):
            head = form.head(data, at)
            if head.tag >= _CODING_SCHEME or head.length == UNDEFINED:
                raw = data[head.start : head.start + head.length] if head.tag == _CODING_SCHEME else b""
                return raw.strip(b" \0") in values.SCHEMES
            at = head.start + head.length
        return False

    # -- one element ---------------------------------------------------------------------------------------------------

    def element(
        self, data: bytes, head: Head, decision: Decision, span: Span, form: Form, position: Position
    ) -> tuple[bytes | None, int]:
        """Return an element rewritten (b"" if it is removed, None if it stays as it is), and the offset behind it."""
        if head.length == UNDEFINED:
            return self._open_sequence(data, head, decision, span, form, position)
        end = head.start + head.length
        _check(end, span, data)
        self._path.append(head.tag)
        try:
            if decision.action == profile.KEEP and hides_items(head.vr, data[head.start : head.start + 4]):
                decision = _REMOVED
            if decision.action == profile.KEEP:
                if self._explains:
                    self.note(head, decision, data[head.start : end])
                return None, end
            if head.vr == "SQ" or decision.action == profile.ITEMS or self._is_entered(head, decision):
                return self._closed_sequence(data, head, decision, form, position), end
            raw = data[head.start : end]
            self.note(head, decision, raw)
            vr = head.vr if head.vr != "UN" else dictionary_vr(head.tag) or "UN"
            value = self._replacer.value(decision, head.tag, vr, raw, little=form.little)
            return (b"" if value is None else form.element(head.tag, head.vr, value)), end
        finally:
            self._path.pop()

    @staticmethod
    def _is_entered(head: Head, decision: Decision) -> bool:
        return dictionary_vr(head.tag) == "SQ" and decision.action in (profile.CLEAN, profile.DUMMY)

    def _closed_sequence(self, data: bytes, head: Head, decision: Decision, form: Form, position: Position) -> bytes:
        """Return a sequence of known length, b"" if it is removed or cannot be followed."""
        end = head.start + head.length
        inner = UNKNOWN_FORM if head.vr == "UN" else form
        if decision.action in (profile.ITEMS, profile.CLEAN, profile.DUMMY):
            self.note(head, decision, b"")
            try:
                body, _ = self.items(data, Span(head.start, end, end), inner, self._within(position, decision, head))
            except (Short, NotUnderstood):
                self._count(head.tag, profile.REMOVE)
                return b""
            return form.element(head.tag, head.vr, body)
        decision = decision if decision.action in (profile.EMPTY, profile.REMOVE) else _REMOVED
        self.note(head, decision, data[head.start : end])
        return form.element(head.tag, head.vr, b"") if decision.action == profile.EMPTY else b""

    def _open_sequence(
        self, data: bytes, head: Head, decision: Decision, span: Span, form: Form, position: Position
    ) -> tuple[bytes, int]:
        """Return a value of undefined length, which must be followed whatever becomes of it, and the offset behind."""
        if head.vr not in ("SQ", "UN"):
            return self._fragments(data, head, span, form)
        inner = UNKNOWN_FORM if head.vr == "UN" else form
        stays = decision.action in (profile.ITEMS, profile.CLEAN, profile.DUMMY)
        self._path.append(head.tag)
        self.note(head, decision, b"")
        known = len(self.steps)
        try:
            body, end = self.items(
                data, Span(head.start, -1, span.limit), inner, self._within(position, decision, head)
            )
        finally:
            self._path.pop()
        if not stays:
            del self.steps[known:]
        if stays:
            return form.open_element(head.tag, head.vr) + body + inner.sequence_end(), end
        return (form.element(head.tag, head.vr, b"") if decision.action == profile.EMPTY else b""), end

    def _fragments(self, data: bytes, head: Head, span: Span, form: Form) -> tuple[bytes, int]:
        """Return the offset behind pixels in an item, which are removed."""
        self._count(head.tag, profile.REMOVE)
        at = head.start
        while (length := form.fragment(data, at, NO_FRAGMENTS)) is not None:
            at += HEAD + length
            _check(at, span, data)
        return b"", at + HEAD

    def _within(self, position: Position, decision: Decision, head: Head) -> Position:
        """Return the position of what lies in a sequence."""
        within = decision.action if decision.action in (profile.CLEAN, profile.DUMMY) else position.within
        path = (*position.path, head.tag) if self._rules.recipe.lines else ()
        return Position(position.depth + 1, within, "", path, position.terms)

    # -- account -------------------------------------------------------------------------------------------------------

    def note(self, head: Head, decision: Decision, raw: bytes) -> None:
        """Count and record what is done with an element."""
        if decision.action not in (profile.KEEP, profile.ITEMS):
            self._count(head.tag, decision.action)
        if self._explains:
            self.steps.append(Step(tuple(self._path), head.vr, decision, raw))

    def _count(self, tag: int, action: str) -> None:
        self.done.append((tag, action))


#: (is SQ in the file, is SQ in the dictionary, is UN in the file): readings that agree.
_ALIKE = frozenset({(True, True, False), (False, False, False), (False, False, True), (False, True, True)})


def hides_items(vr: str, first: bytes) -> bool:
    """Return whether a value that would be kept as bytes begins as a sequence, which nobody has looked into."""
    return vr in ("UN", "OB") and first in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")


def _check(end: int, span: Span, data: bytes) -> None:
    """Raise NotUnderstood if something ends behind what holds it, Short if behind the bytes at hand."""
    if end > span.limit:
        raise NotUnderstood("an element or item is longer than what holds it")
    if end > len(data):
        raise Short

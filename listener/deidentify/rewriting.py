"""Rewrite an instance: its header as bytes, its pixels and other large values as spans of the file, never read.

What comes out is a list of parts (bytes, or a span of the source), which `output` writes. Nothing is written here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from listener.deidentify import profile
from listener.deidentify.faults import NotUnderstood
from listener.deidentify.forms import FORMS, Form, Head, Short, syntax_of
from listener.deidentify.jobs import Job, Part, Rewritten, added, memory_of, search_of
from listener.deidentify.leaves import may_tell
from listener.deidentify.marks import MARKS, Pending, file_meta
from listener.deidentify.memory import Done, Memory, Remembered, Stretch
from listener.deidentify.nested import Elements, Span, hides_items
from listener.deidentify.private import block_of, reserves
from listener.deidentify.profile import Decision, Position
from listener.deidentify.recipe_search import Search
from listener.dicom.attributes import dictionary_vr
from listener.dicom.encoding import HEAD, LONG_HEAD, PIXEL_DATA, PIXEL_TAGS, UNDEFINED
from listener.dicom.file_meta import read_file_meta
from listener.dicom.source import INFLATE_RATIO, FileSource, InflatedSource, Source
from listener.dicom.syntaxes import ALL_DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, NATIVE
from listener.reasons import FileFault
from listener.uids import is_uid

#: Bytes read at once: most headers, in one call.
_WINDOW = 128 * 1024

#: A value of more bytes is copied or passed over without being read, unless it is a sequence.
_LARGE = 64 * 1024

#: Groups that no data set of a file has: commands, file meta information, directories (which are not images).
_NOT_HERE = frozenset({0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE})

#: Overlay Bits Allocated (60xx,0100), whichever overlay it is of.
_OVERLAY_BITS, _EACH_OVERLAY = 0x60000100, 0xFF00FFFF

#: VRs of what may be a sequence that nobody has looked into.
_MAY_HIDE = frozenset({"SQ", "UN", "OB"})

_BEHIND_ALL = 1 << 32

#: The end of a value that is followed in a window: beyond every file.
_FAR = 1 << 62

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018


def rewrite(descriptor: int, size: int, job: Job) -> Rewritten:
    """Return an instance rewritten. Raises NotUnderstood where something of it is not understood; OSError passes."""
    try:
        whole = FileSource(descriptor, size)
        meta = read_file_meta(whole)
        source: Source = whole
        begin, deflated = meta.dataset_offset, meta.TransferSyntaxUID in ALL_DEFLATED
        if deflated:
            cap = job.limits.max_header + INFLATE_RATIO * size
            source, begin = InflatedSource(descriptor, size, begin, cap), 0
            if source.wrapped:
                raise NotUnderstood("the deflated data set is wrapped")
        syntax = syntax_of(meta, source, begin)
        form = FORMS[syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG]
        walk = _Walk(source, begin, form, job, search_of(job, source, begin, form))
        walk.is_native = syntax in NATIVE
        parts = walk.run()
    except FileFault as fault:
        raise NotUnderstood(fault.reason) from None
    except Short:
        raise NotUnderstood("it ends within an element") from None
    if not walk.sop_class or not walk.sop_instance:
        raise NotUnderstood("it has no SOP class or no SOP Instance UID")
    prefix = file_meta(walk.sop_class, walk.sop_instance, syntax)
    uid = walk.sop_instance.rstrip(b"\0 ").decode("latin-1")
    if not is_uid(uid):
        raise NotUnderstood("its SOP Instance UID is no UID")
    return Rewritten(
        prefix,
        parts,
        deflated,
        source,
        uid,
        Counter(walk.elements.done),
        walk.elements.steps,
        walk.draws_in_pixels,
        syntax,
        frozenset(walk.elements.found),
    )


class _Walk:
    """The top level of a data set. A window of the source is at hand, which starts at `_base`; `at` counts from it."""

    def __init__(self, source: Source, begin: int, form: Form, job: Job, search: Search | None) -> None:
        self._source, self._form, self._search = source, form, search
        self._most = job.limits.max_header
        self.elements = Elements(job.rules, job.replacer, job.limits, explains=job.explains, search=search)
        self._top = Position(terms=search.lists.terms) if search else Position()
        self.is_native = True
        self.draws_in_pixels = False
        self.sop_class = self.sop_instance = b""
        self._base, self._data = begin, b""
        self._parts: list[bytes | Part] = []
        self._run = -1  # where in the window a stretch of kept elements starts; -1: there is none
        self._last = -1
        self._pixels_seen = False
        self._creators: dict[int, str] = {}
        self._memory = memory_of(job, form, search)
        if self._memory:
            self.elements.found = self._memory.found
        self._added = added(job, form, search, self._memory)
        self._pending = Pending(job.marks, form, self._added)
        self._asks_creator = job.rules.asks_creator
        #: Where the last element starts whose bytes were at hand as a whole (-1: there is none), and what became of it.
        self._made: tuple[int, bytes | None] = (-1, None)
        #: The VR of the last element, if what becomes of it does not depend on its value.
        self._fixed = ""

    def run(self) -> list[bytes | Part]:
        """Return the parts of the data set."""
        at = 0
        before = self._memory.first if self._memory else None
        while True:
            if before:
                at, before = self._recalled(at, before)
            at = self._reach(at, LONG_HEAD)
            if self._is_end(at):
                break
            head = self._next(at)
            if head is None:
                break
            self._last = head.tag
            if head.tag > self._pending.next_tag:
                self._add(at, *self._pending.until(head.tag))
            self._pending.drop(head.tag)
            if before and self._memory:
                at, before = self._remembered(at, head, before, self._memory)
            else:
                at = self._element(at, head)
        self._flush(at)
        self._parts += self._pending.until(_BEHIND_ALL)
        return self._parts

    # -- what the last instance had too --------------------------------------------------------------------------------

    def _recalled(self, at: int, node: Remembered) -> tuple[int, Remembered]:
        """Pass the elements at `at` that followed `node` before, too; return where the next one is, and the last."""
        data, pending = self._data, self._pending
        made: Stretch | None = None
        while True:
            stretch = node.stretch
            if stretch and stretch.last.tag <= pending.next_tag and data.startswith(stretch.raw, at):
                self._pass(at, None if stretch.is_kept else b"", stretch.done)
                at += len(stretch.raw)
                node, made = stretch.last, None
                continue
            after = node.after
            if not (after and after.raw and data.startswith(after.raw, at)):
                break
            if after.block and not self._is_in(after.tag, *after.block):
                break
            if not (made and made.takes(after)):
                # From here on these elements are passed as one, as long as none of them is another.
                node.stretch = made = Stretch(after) if after.joins else None
            node = after
            if node.tag > pending.next_tag:
                self._add(at, *pending.until(node.tag))
            self._pass(at, node.piece, node.done)
            at += len(node.raw)
        self._last = max(self._last, node.tag)
        return at, node

    def _pass(self, at: int, piece: bytes | None, done: Done) -> None:
        """Keep what is at `at` (None), or write something in its place."""
        if piece is None:
            self._run = at if self._run < 0 else self._run
            return
        self._flush(at)
        if piece:
            self._parts.append(piece)
        self.elements.done += done

    def _remembered(self, at: int, head: Head, before: Remembered, memory: Memory) -> tuple[int, Remembered]:
        """Do as _element, and remember what became of the element, which followed `before`."""
        end, last = head.start + head.length, memory.last(head.tag)
        if last and last.vr == head.vr and head.length <= _LARGE and end <= len(self._data):
            self._pass(at, last.piece, last.done)
            node = memory.note(before, head.tag, self._data[at:end], last.piece, last.done)
            node.vr = last.vr
            return end, node
        known = len(self.elements.done)
        self._made, self._fixed = (-1, None), ""
        end = self._element(at, head)
        start, piece = self._made
        raw = self._data[start:end] if start >= 0 and not self._is_noted(head.tag) else b""
        node = memory.note(before, head.tag, raw, piece, self.elements.done[known:])
        if head.tag >> 16 & 1 and self._asks_creator:
            block = block_of(head.tag)
            node.block = block, self._creators.get(block, "")
        elif raw:
            node.vr = self._fixed
        return end, node

    def _is_in(self, tag: int, block: int, creator: str) -> bool:
        """Return whether the block of a private element is its creator's in this data set too, which the element that
        reserves it tells.
        """
        if reserves(tag):
            self._creators[block] = creator
        return self._creators.get(block, "") == creator

    # -- the window ----------------------------------------------------------------------------------------------------

    def _reach(self, at: int, count: int) -> int:
        """Return `at` in a window that has `count` bytes from there, or all that the source has."""
        if at + count <= len(self._data):
            return at
        self._flush(min(at, len(self._data)))
        self._base += at
        self._data = self._source.read(self._base, max(count, _WINDOW))
        return 0

    def _flush(self, at: int) -> None:
        if 0 <= self._run < at:
            self._parts.append(self._data[self._run : at])
        self._run = -1

    def _add(self, at: int, *parts: bytes | Part) -> None:
        """Add parts behind the elements that were kept up to `at`."""
        self._flush(at)
        self._parts += [part for part in parts if part]

    # -- the end -------------------------------------------------------------------------------------------------------

    def _is_end(self, at: int) -> bool:
        """Return whether no element follows: nothing, or NULs, which are not copied. Raises NotUnderstood."""
        left = self._data[at : at + HEAD]
        if not left:
            return True
        if len(left) == HEAD and any(left):
            return False
        pos = self._base + at
        while piece := self._source.read(pos, _WINDOW):
            if any(piece) and not self._pixels_seen:
                raise NotUnderstood("bytes that are no element stand behind its data set")
            pos += len(piece)
        return True

    def _next(self, at: int) -> Head | None:
        """Return the head at `at`, None where what follows the pixels is no element: that is not copied. Raises Short,
        and NotUnderstood also for elements that are repeated, not in order, or none of a data set.
        """
        try:
            head = self._form.head(self._data, at)
            self._check_order(head.tag)
        except (NotUnderstood, Short):
            if self._pixels_seen:
                return None
            raise
        return head

    def _check_order(self, tag: int) -> None:
        if tag <= self._last or tag >> 16 in _NOT_HERE:
            raise NotUnderstood("its elements are repeated, not in order, or no data set's")

    # -- elements ------------------------------------------------------------------------------------------------------

    def _element(self, at: int, head: Head) -> int:
        """Do what was decided on the element at `at`; return where the next one is."""
        if head.tag in PIXEL_TAGS:
            return self._pixels(at, head)
        if head.tag in MARKS:
            return self._mark(at, head)
        top = self._top
        position = self.elements.at(head, top, self._creators, self._data) if head.tag >> 16 & 1 else top
        decision = self.elements.decision(head, position)
        if head.length == UNDEFINED:
            return self._following(at, lambda at: self._rewritten(at, decision, position))
        is_large = head.length > _LARGE and not _may_hold_items(head)
        if is_large and decision.action in (profile.KEEP, profile.REMOVE) and not (self._search and may_tell(head)):
            return self._large(at, head, decision)
        if head.length > self._most:
            raise NotUnderstood("a value is too large to be looked at")
        at = self._reach(at, head.start - at + head.length)
        return self._rewritten(at, decision, position)

    def _rewritten(self, at: int, decision: Decision, position: Position) -> int:
        head, span = self._form.head(self._data, at), Span(at, -1, _FAR)
        if self._is_noted(head.tag):
            self._note(head)
        if self._search:
            decision = self.elements.by_value(self._data, head, position, self._form, decision)
        piece, end = self.elements.element(self._data, head, decision, span, self._form, position)
        self._made = (at, piece)
        is_kept = decision.action == profile.KEEP and head.vr not in _MAY_HIDE
        is_fixed = not self._search and (is_kept or decision.action == profile.REMOVE)
        self._fixed = head.vr if is_fixed else ""
        if piece is None:
            self._run = at if self._run < 0 else self._run
        else:
            self._add(at, piece)
            if head.tag == SOP_INSTANCE:
                self.sop_instance = piece[-len(piece) + head.start - at :]
        return end

    def _is_noted(self, tag: int) -> bool:
        is_overlay = tag & _EACH_OVERLAY == _OVERLAY_BITS
        return tag in (SOP_CLASS, SOP_INSTANCE) or is_overlay or tag in self._added

    def _note(self, head: Head) -> None:
        value = self._data[head.start : head.start + head.length].rstrip(b" \0")
        if head.tag & _EACH_OVERLAY == _OVERLAY_BITS:
            # Overlay Bits Allocated of 1 is an overlay of its own; more are those of the pixels (PS3.5 section 8.1.2).
            self.draws_in_pixels |= value.strip(b"\0") not in (b"", b"\1")
        elif head.tag == SOP_CLASS:
            self.sop_class = value
        else:
            self.sop_instance = value

    def _following(self, at: int, step: Callable[[int], int]) -> int:
        """Do a step whose end is not known before, with larger windows until it is in one."""
        while True:
            done, known = len(self.elements.done), len(self.elements.steps)
            try:
                return step(at)
            except Short:
                count = len(self._data) - at
                if not self._source.reaches(self._base + at + count + 1) or count > self._most:
                    raise
                del self.elements.done[done:]
                del self.elements.steps[known:]
                at = self._reach(at, 2 * count + _WINDOW)

    def _large(self, at: int, head: Head, decision: Decision) -> int:
        """Keep or remove a large value without reading it."""
        start, end = self._base + at, self._base + head.start + head.length
        if not self._source.reaches(end):
            raise Short
        hides = decision.action == profile.KEEP and hides_items(head.vr, self._source.read(self._base + head.start, 4))
        if decision.action == profile.KEEP and not hides:
            self._add(at, Part(start, end))
        else:
            self._flush(at)
        self.elements.note(head, decision._replace(action=profile.REMOVE) if hides else decision, b"")
        return end - self._base

    def _mark(self, at: int, head: Head) -> int:
        """Take an element that says of earlier de-identification what happened; its place in the output is ours."""
        self._flush(at)
        if head.vr == "SQ":
            return self._following(at, self._earlier_codes)
        if head.length > _LARGE:
            raise NotUnderstood("what it says of earlier de-identification is too long")
        at = self._reach(at, head.start - at + head.length)
        head = self._form.head(self._data, at)
        end = head.start + head.length
        if end > len(self._data):
            raise Short
        self._pending.take(head.tag, self._data[head.start : end])
        return end

    def _earlier_codes(self, at: int) -> int:
        head = self._form.head(self._data, at)
        end = -1 if head.length == UNDEFINED else head.start + head.length
        body, end = self.elements.items(self._data, Span(head.start, end, _FAR), self._form, Position(1))
        self._pending.take(head.tag, body)
        return end

    def _pixels(self, at: int, head: Head) -> int:
        """Keep pixel data as a part of the source."""
        self._flush(at)
        start, value = self._base + at, self._base + head.start
        if head.length != UNDEFINED:
            end = value + head.length
        elif self.is_native or head.tag != PIXEL_DATA:
            raise NotUnderstood("its pixels are of undefined length in a transfer syntax that has none such")
        else:
            end = self._fragments_end(value)
        if not self._source.reaches(end):
            raise Short
        self._parts.append(Part(start, end))
        self._pixels_seen = True
        return end - self._base

    def _fragments_end(self, pos: int) -> int:
        otherwise = "its pixels are not made of fragments"
        while (length := self._form.fragment(self._source.read(pos, HEAD), 0, otherwise)) is not None:
            pos += HEAD + length
        return pos + HEAD


def _may_hold_items(head: Head) -> bool:
    return head.vr == "SQ" or (head.vr == "UN" and dictionary_vr(head.tag) == "SQ")

"""What an instance says of its own de-identification (PS3.3 section C.12.1.1.1 and C.7.1.1), and its new file meta
information (PS3.10 section 7.1), without titles, addresses and private information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import listener
from listener.deidentify import profile
from listener.deidentify.forms import FORMS, Form
from listener.dicom.file_meta import PREAMBLE, PREFIX

REMOVED, METHOD, METHOD_CODES, TEMPORAL = 0x00120062, 0x00120063, 0x00120064, 0x00280303

#: The elements that are made here, whatever the source has.
MARKS = frozenset({REMOVED, METHOD, METHOD_CODES, TEMPORAL})

_CODE, _SCHEME, _MEANING = 0x00080100, 0x00080102, 0x00080104

#: Of this program; made once, at random (PS3.5 section B.2).
_IMPLEMENTATION = b"2.25.121297380925430283610353946411836404253"
_BEHIND_ALL = 1 << 32


class Marks(NamedTuple):
    """What is said: the codes of the profile and its options with their meanings, how dates were treated (UNMODIFIED,
    MODIFIED or REMOVED), and the method in words of at most 64 characters.
    """

    codes: tuple[tuple[str, str], ...]
    temporal: str
    method: str


def marks_of(options: frozenset[str], *, is_basic: bool = True, temporal: str = "") -> Marks:
    """Return the marks of a run; `is_basic` is False where something weaker than the Basic Profile was done; `temporal`
    says how dates were treated where options do not tell.
    """
    codes: tuple[tuple[str, str], ...] = (profile.BASIC_CODE,) if is_basic else ()
    codes += tuple(profile.CODES[name] for name in profile.OPTIONS if name in options)
    told = "REMOVED"
    if "retain-modified-dates" in options:
        told = "MODIFIED"
    elif "retain-full-dates" in options:
        told = "UNMODIFIED"
    return Marks(codes, temporal or told, f"listener {listener.__version__}, PS3.15 2026c")


class Pending:
    """The marks of one instance that are not written yet, and what it said of itself before: that stays, ours is
    appended. `added`: further elements by tag, for which the same holds unless the source has them.
    """

    def __init__(self, marks: Marks, form: Form, added: Mapping[int, bytes] | None = None) -> None:
        self._marks, self._form = marks, form
        self._earlier: dict[int, bytes] = {}
        self._added = added or {}
        self._due = sorted(MARKS | self._added.keys())
        self.next_tag = self._due[0]

    def drop(self, tag: int) -> None:
        """Do not write an element that is added: the source has it."""
        if tag in self._added and tag not in MARKS:
            self._due.remove(tag)
            self.next_tag = self._due[0] if self._due else _BEHIND_ALL

    def take(self, tag: int, raw: bytes) -> None:
        """Record what the source has: a value, or of a sequence its items."""
        self._earlier[tag] = raw

    def until(self, tag: int) -> list[bytes]:
        """Return the elements that stand before `tag`, and go on behind them."""
        made = [self._element(one) for one in self._due if one < tag]
        self._due = [one for one in self._due if one >= tag]
        self.next_tag = self._due[0] if self._due else _BEHIND_ALL
        return made

    def _element(self, tag: int) -> bytes:
        form, marks = self._form, self._marks
        if tag not in MARKS:
            return self._added[tag]
        if tag == REMOVED:
            return form.element(tag, "CS", b"YES")
        if tag == TEMPORAL:
            return form.element(tag, "CS", marks.temporal.encode())
        if tag == METHOD:
            earlier = self._earlier.get(tag, b"").strip(b" \0")
            return form.element(tag, "LO", b"\\".join([*([earlier] if earlier else []), marks.method.encode()]))
        items = b"".join(_code(form, *one) for one in marks.codes)
        return form.element(tag, "SQ", self._earlier.get(tag, b"") + items)


def _code(form: Form, value: str, meaning: str) -> bytes:
    elements = ((_CODE, "SH", value), (_SCHEME, "SH", "DCM"), (_MEANING, "LO", meaning))
    body = b"".join(form.element(tag, vr, text.encode()) for tag, vr, text in elements)
    return form.item_head(len(body)) + body


def file_meta(sop_class: bytes, sop_instance: bytes, syntax: str) -> bytes:
    """Return a zeroed preamble, the prefix, and file meta information."""
    form = FORMS[False, True]
    rows: Sequence[tuple[int, str, bytes]] = (
        (0x00020001, "OB", b"\0\1"),
        (0x00020002, "UI", sop_class),
        (0x00020003, "UI", sop_instance),
        (0x00020010, "UI", syntax.encode()),
        (0x00020012, "UI", _IMPLEMENTATION),
        (0x00020013, "SH", f"LISTENER {listener.__version__}"[:16].encode()),
    )
    body = b"".join(form.element(*row) for row in rows)
    return (
        bytes(PREAMBLE - len(PREFIX)) + PREFIX + form.element(0x00020000, "UL", len(body).to_bytes(4, "little")) + body
    )

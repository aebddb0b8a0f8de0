"""PURE. Verify what was written: no original of what was removed or replaced stands in it. Shares nothing with the
code that rewrites; what is an original is decided here by a list of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from listener.deidentify import character_sets

#: UIDs of classes, schemes and contexts: they say what something is.
_CLASSES = frozenset(
    {0x00080016, 0x0008001A, 0x0008001B, 0x00080062, 0x0008010C, 0x0008010D, 0x00080117, 0x00080118, 0x00081150}
    | {0x0008115A, 0x00083002, 0x0008040E, 0x00089123, 0x00041510, 0x00340003, 0x04000010, 0x04000510, 0x30100052}
    | {0x30100053}
)
_STANDARD = b"1.2.840.10008."

#: UIDs with fewer points have no root that could be an original; and what was made of a UUID has none at all.
_ROOT_POINTS, _DERIVED = 3, b"2.25."

_INSTITUTIONS = frozenset({0x00080080, 0x00080081, 0x00081040})
_DEVICES = frozenset({0x00081010, 0x00181000, 0x0018700A, 0x00181004, 0x00181005, 0x00181007, 0x00181008, 0x00181009})
_IDENTIFIERS = frozenset(
    {0x00100020, 0x00101000, 0x00080050, 0x00200010, 0x00380010, 0x00401001, 0x00402016, 0x00402017, 0x00400009}
    | {0x00400253, 0x00101040, 0x00102154, 0x00102155, 0x00080092, 0x00080094, 0x00101090, 0x00102299, 0x00100035}
)
_BIRTHS = frozenset({0x00100030, 0x00100033, 0x00100034})

#: Whose values are originals, beside UIDs and names.
_SOUGHT = _IDENTIFIERS | _INSTITUTIONS | _DEVICES | _BIRTHS

#: From so many letters on a value is searched for anywhere; shorter ones, and words that are common, only as words of
#: text elements: "Ann" stands in every scanner.
_LONG = 5
_SHORT = 3
_DIGITS = 6

_TEXTS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC", "PN"})
_COMPONENTS = re.compile(rb"[\^=]")
_NAME_PARTS = re.compile(rb"[A-Za-z\x80-\xff]+")
_WORDS = re.compile(rb"[a-z0-9\x80-\xff]+")
_UIDS = re.compile(rb"[0-9][0-9.]{5,63}")

#: What stands in place of originals, in files that were de-identified before too.
_DUMMIES = frozenset({b"anonymized", b"anonymous", b"anon", b"anonymised", b"unknown", b"none"})


class Value(Protocol):
    """An element's value."""

    @property
    def tag(self) -> int:
        """The tag."""

    @property
    def vr(self) -> str:
        """The VR."""

    @property
    def value(self) -> bytes:
        """The bytes, without padding."""


class Originals(NamedTuple):
    """What must not be found: UIDs; lower case values to be found anywhere; and words of text elements."""

    uids: frozenset[bytes] = frozenset()
    anywhere: frozenset[bytes] = frozenset()
    words: frozenset[bytes] = frozenset()


class Gatherer:
    """Gathers the originals in the values of sources. `options` tell what is retained; `common` are ordinary words;
    `is_kept` says by tag and VR what recipes keep.
    """

    def __init__(
        self, options: Collection[str], common: Collection[str], is_kept: Callable[[int, str], bool] | None = None
    ) -> None:
        self._is_kept = is_kept or (lambda _tag, _vr: False)
        self._kept, self._common = _kept(options), common
        self._has_uids = "retain-uids" in options
        self._uids: set[bytes] = set()
        self._classes: set[bytes] = set()
        self._found: set[bytes] = set()
        #: Names with other characters than ASCII's, and the character sets that were met: defined terms as they stand.
        self._names: set[bytes] = set()
        self._sets: set[bytes] = set()

    def add(self, leaves: Iterable[Value], taken: Collection[int] = ()) -> None:
        """Gather the originals of a source; elements with tags that were `taken` are not kept, whatever recipes say of
        others that have them.
        """
        for leaf in leaves:
            is_kept = leaf.tag not in taken and self._is_kept(leaf.tag, leaf.vr)
            if leaf.vr in ("UI", "PN") and is_kept:
                continue
            if leaf.vr == "UI":
                uids = self._classes if leaf.tag in _CLASSES else self._uids
                uids.update(part.strip(b" \0") for part in leaf.value.split(b"\\"))
            elif leaf.vr == "PN":
                self._found.update(_parts_of_name(leaf.value.lower()))
                if not leaf.value.isascii() or b"\x1b" in leaf.value:
                    self._names.add(leaf.value)
            elif leaf.tag == character_sets.TAG:
                self._sets.add(leaf.value)
            elif leaf.tag in _SOUGHT and leaf.tag not in self._kept and not is_kept:
                self._found.update(part.strip().lower() for part in leaf.value.split(b"\\"))

    def originals(self) -> Originals:
        """Return what was gathered."""
        telling = set() if self._has_uids else self._uids - self._classes
        uids = {uid for uid in telling if len(uid) > _LONG and not uid.startswith(_STANDARD)}
        names = character_sets.in_each(self._names, self._sets) if self._names and len(self._sets) > 1 else ()
        parts = {part for name in names for part in _parts_of_name(name.lower())}
        found = {one for one in (self._found | parts) - _DUMMIES if len(one) >= _SHORT}
        anywhere = {one for one in found if _is_telling(one, self._common)}
        return Originals(frozenset(uids), frozenset(anywhere), frozenset(found - anywhere))


def _parts_of_name(name: bytes) -> list[bytes]:
    """Return the words of a name, and each component that is in another character set than ASCII as a whole: the bytes
    of its characters may look like anything (PS3.5 section 6.1.2).
    """
    components = [one.strip() for one in _COMPONENTS.split(name)]
    return [*_NAME_PARTS.findall(name), *(one for one in components if not one.isascii() or b"\x1b" in one)]


def _kept(options: Collection[str]) -> frozenset[int]:
    kept = _INSTITUTIONS if "retain-institution-identity" in options else frozenset()
    return kept | (_DEVICES if "retain-device-identity" in options else frozenset())


def _is_telling(value: bytes, common: Collection[str]) -> bool:
    """Return whether a value can be searched for anywhere: long, and no ordinary word."""
    least = _DIGITS if value.isdigit() else _LONG
    return len(value) >= least and value.decode("latin-1") not in common


def find(data: bytes, segments: Sequence[bytes], leaves: Sequence[Value], wanted: Originals) -> str:
    """Return where in an output an original stands: the tag of an element, "the file" where it is none's value; "" if
    there is none. Never the value.
    """
    hit = _in_bytes(b"\n".join([data, *segments]), wanted)
    if hit:
        return next((_shown(leaf.tag) for leaf in leaves if hit in leaf.value.lower()), "the file")
    for leaf in leaves:
        if leaf.vr in _TEXTS and wanted.words:
            text = leaf.value.lower()
            if text in wanted.words or not wanted.words.isdisjoint(_WORDS.findall(text)):
                return _shown(leaf.tag)
    return ""


def _in_bytes(data: bytes, wanted: Originals) -> bytes:
    """Return an original that stands anywhere in the bytes, b"" if none does."""
    if wanted.uids:
        texts: list[bytes] = _UIDS.findall(data)
        for text in set(texts):
            uid = _uid_in(text, wanted.uids)
            if uid:
                return uid
    lowered = data.lower()
    for value in wanted.anywhere:
        if value in lowered and (not value.isdigit() or _stands_alone(value, lowered)):
            return value
    return b""


def _uid_in(text: bytes, uids: Collection[bytes]) -> bytes:
    """Return which of the UIDs a text of digits and points begins with, b"" if none: one that is derived from another
    (a frame of an instance) often has that one as its root. In big endian a length may look like a first digit.
    """
    for one in (text.rstrip(b"."), text[1:].rstrip(b".")):
        if one in uids:
            return one
        if one.count(b".") < _ROOT_POINTS or one.startswith((_STANDARD, _DERIVED)):
            continue
        while one := one.rpartition(b".")[0]:
            if one in uids:
                return one
    return b""


def _stands_alone(digits: bytes, data: bytes) -> bool:
    """Return whether digits stand where no digit or point precedes them: not within a number or a UID."""
    return bool(re.search(rb"(?<![0-9.])" + digits, data))


def _shown(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"

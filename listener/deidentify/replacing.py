"""PURE. The value that an element has after what was decided on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from listener.deidentify import dates, profile, recipe_values, values
from listener.deidentify.keys import Keys
from listener.deidentify.profile import ACCESSION_NUMBER, PATIENT_ID, PATIENT_NAME, Decision
from listener.deidentify.recipe_values import Element, Sources

_CONDITIONAL = frozenset({profile.SHIFT, profile.TIME, profile.CLEAN, profile.AGE})


class Subject(NamedTuple):
    """Whom an instance is of: the pseudonym, by how many days dates go back, the bytes of its PatientID without
    padding (None: each PatientID that is met is this one), accession numbers that stand for others, and further values
    by name.
    """

    pseudonym: str
    days: int
    patient_id: bytes | None = b""
    accessions: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Replacer:
    """Makes values for one subject; `words` are allowed in texts that are cleaned."""

    keys: Keys
    subject: Subject
    words: Collection[str] = frozenset()

    def value(self, decision: Decision, tag: int, vr: str, raw: bytes, *, little: bool = True) -> bytes | None:
        """Return the value of an element that is not a sequence, None where it is removed. `vr` is a real one, of the
        dictionary where the file has UN; `little` the byte order. Raises RecipeFailed.
        """
        action = decision.action
        if action == profile.SET:
            subject = self.subject
            sources = Sources(self.keys, subject.pseudonym, subject.days, subject.values)
            element = Element(tag, vr, raw, little)
            return recipe_values.value(decision.lines, element, sources)
        made = self._made(action, tag, vr, raw)
        if made is None and action in _CONDITIONAL:
            return self._made(decision.otherwise, tag, vr, raw)
        return made

    def _made(self, action: str, tag: int, vr: str, raw: bytes) -> bytes | None:
        if action == profile.KEEP:
            return raw
        if action == profile.EMPTY:
            return b""
        if action == profile.DUMMY:
            return _dummy(vr, raw)
        if action == profile.UID:
            return self.uids(raw)
        if action == profile.PSEUDONYM:
            return self._pseudonym(tag, raw).encode()
        return self._if_it_can_be(action, vr, raw)

    def _if_it_can_be(self, action: str, vr: str, raw: bytes) -> bytes | None:
        """Return what a conditional action makes of a value, None where the condition does not hold."""
        if action == profile.SHIFT:
            return dates.shift("DT" if vr == "DT" else "DA", raw, self.subject.days)
        if action == profile.TIME:
            return raw if dates.is_time(raw) else None
        if action == profile.AGE:
            return values.capped_age(raw)
        if action == profile.CLEAN:
            return raw if values.is_clean(_text(raw), self.words) else None
        return None

    def uids(self, raw: bytes) -> bytes:
        """Return UIDs with each one replaced; empty ones stay."""
        parts = (_text(part) for part in raw.split(b"\\"))
        return b"\\".join(self.keys.uid(part).encode() if part else b"" for part in parts)

    def _pseudonym(self, tag: int, raw: bytes) -> str:
        text = _text(raw)
        if tag in (PATIENT_ID, PATIENT_NAME):
            own = self.subject.patient_id
            is_other = tag == PATIENT_ID and own is not None and raw.strip(b" \0") not in (b"", own)
            return self.keys.pseudonym("P", text) if is_other else self.subject.pseudonym
        if not text:
            return ""
        if tag == ACCESSION_NUMBER:
            given = dict(self.subject.accessions).get(text)
            return given or self.keys.pseudonym("A", text)
        return self.keys.pseudonym("S", text)


def _dummy(vr: str, raw: bytes) -> bytes:
    """Return a dummy; what is empty stays so, as do terms without which a sequence would not be valid."""
    bare = raw.strip(b" \0")
    if not raw or (vr == "CS" and bare in values.TERMS):
        return raw
    return values.dummy(vr, raw)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \0")

"""PURE. What recipes of `deid` say of an element, by its place and name: which lines mean it, and what these do to it
together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from listener.dicom.loading import load_pydicom

#: What a line does.
ADD, BLANK, JITTER, KEEP, REPLACE, REMOVE = "ADD", "BLANK", "JITTER", "KEEP", "REPLACE", "REMOVE"
ACTIONS = (ADD, BLANK, JITTER, KEEP, REPLACE, REMOVE)

#: Elements that deid never touches, and those that an instance cannot be without.
_SKIPPED = frozenset({0x7FE00010, 0x00281201, 0x00281202, 0x00281203, 0x00283010})
ESSENTIAL = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})

#: The dates by which an instance's place in time is known: of study, series, acquisition, content.
_DATES = (0x00080020, 0x00080021, 0x00080022, 0x00080023)


class Spec(NamedTuple):
    """A value: `kind` is literal, var, func or deid_func; `text` the literal or the name; `extras` key=value pairs."""

    kind: str
    text: str
    extras: tuple[tuple[str, str], ...] = ()


class Where(NamedTuple):
    """Where an element stands: the tags of the sequences around it and its own, its VR, its private creator."""

    path: tuple[int, ...]
    vr: str
    creator: str = ""


class Names(NamedTuple):
    """What a field expression is compared with: keywords on the way to the element, its own keyword and name, its tag
    as GGGG,EEEE; of a private one also GGGG,"CREATOR",EE.
    """

    path: str
    keyword: str
    name: str
    tag: str
    private: str


def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, "" if it has none."""
    load_pydicom()
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


@cache
def names_of(where: Where) -> Names:
    """Return the names of an element."""
    load_pydicom()
    from pydicom.dataelem import DataElement

    tag = where.path[-1]
    group, element = tag >> 16, tag & 0xFFFF
    made = DataElement(tag, where.vr if len(where.vr) == 2 else "UN", None)
    private = ""
    if group & 1 and where.creator and element > 0xFF:
        made.private_creator = where.creator
        private = f'{group:04X},"{where.creator}",{element & 0xFF:02X}'
    path = "__".join(keyword_of(one) for one in where.path)
    return Names(path, made.keyword, made.name, f"{group:04X},{element:04X}", private)


class Field(NamedTuple):
    """A field of a line: `kind` is is, contains, startswith, endswith, except, select, all, or fields (of a list, whose
    fields are then `several`).
    """

    kind: str
    text: str = ""
    several: tuple[Field, ...] = ()

    def matches(self, where: Where) -> bool:
        """Return whether an element is meant."""
        if self.kind == "all":
            return True
        if self.kind == "fields":
            return any(one.matches(where) for one in self.several)
        if self.kind == "select":
            return self._selects(where)
        names = names_of(where)
        if self.kind == "is":
            return self._is(names)
        found = _searched(self.kind, self.text, names)
        return not found if self.kind == "except" else found

    def _is(self, names: Names) -> bool:
        text = self.text.lower().strip("()").replace(", ", ",")
        told = (names.path, names.keyword, names.name, names.tag, names.tag.replace(",", ""), names.private)
        return text in {one.lower() for one in told if one}

    def _selects(self, where: Where) -> bool:
        attribute, _, value = self.text.partition(":")
        if attribute.upper() == "VR":
            return where.vr == value[:2].upper()
        return where.path[-1] >> 16 == int(value, 16)


def _searched(kind: str, text: str, names: Names) -> bool:
    pattern = pattern_of(kind, text)
    told = (names.path.lower(), f"({names.tag.lower()})", names.tag.replace(",", ""), names.name, names.keyword)
    if any(pattern.search(one) for one in told):
        return True
    return bool(names.private) and any(pattern.search(one) for one in (names.private, f"({names.private})"))


@cache
def pattern_of(kind: str, text: str) -> re.Pattern[str]:
    """Return the pattern of an expander. Raises re.error."""
    lowered = text.lower()
    forms = {"endswith": f"({lowered})$", "startswith": f"^({lowered})"}
    return re.compile(forms.get(kind, lowered), re.IGNORECASE)


class Line(NamedTuple):
    """A line of a header section: its number in its file, what it does, to which field, and with which value."""

    number: int
    action: str
    field: Field
    value: Spec | None = None


class Plan(NamedTuple):
    """What lines do to an element: `kind` is KEEP, REMOVE, BLANK, or REPLACE, with the lines whose values are applied
    in their order; `number` is the line that decided.
    """

    kind: str
    number: int
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """The lines of all recipes' header sections, in their order."""

    lines: Sequence[Line] = ()
    plans: dict[Where, Plan | None] = field(default_factory=dict, hash=False, compare=False, repr=False)

    def plan(self, where: Where) -> Plan | None:
        """Return what becomes of an element; None if no line means it."""
        if where not in self.plans:
            self.plans[where] = self._plan(where)
        return self.plans[where]

    def _plan(self, where: Where) -> Plan | None:
        if where.path[-1] in _SKIPPED or any(tag in _SKIPPED for tag in where.path):
            return None
        is_top = len(where.path) == 1
        lines = [line for line in self.lines if line.field.matches(where) and (is_top or line.action != ADD)]
        kept = next((line for line in lines if line.action == KEEP), None)
        plan = Plan(KEEP, kept.number) if kept else None
        stays = any(line.action in (REPLACE, JITTER) for line in lines)
        is_kept = kept is not None
        for line in lines:
            is_kept = is_kept and line.action != ADD  # What is added is as any other from then on.
            if not is_kept:
                plan = _then(plan, line, stays=stays)
        if plan and plan.kind in (REMOVE, BLANK) and where.path[-1] in ESSENTIAL:
            return None
        return plan

    def additions(self, vr_of: Callable[[int], str]) -> Iterator[tuple[int, Plan]]:
        """Yield the tags that lines add where there is no such element, and what lines make of it from then on."""
        for tag in sorted({tag_of(line.field.text) for line in self.lines if line.action == ADD} - {0}):
            where = Where((tag,), vr_of(tag))
            lines = [line for line in self.lines if line.field.matches(where)]
            stays = any(line.action in (REPLACE, JITTER) for line in lines)
            first = next(place for place, line in enumerate(lines) if line.action == ADD)
            plan: Plan | None = None
            for line in lines[first:]:
                plan = _then(plan, line, stays=stays) if line.action != KEEP else plan
            if plan and plan.kind != REMOVE:
                yield tag, plan

    @property
    def is_weaker(self) -> bool:
        """Return whether the lines may let pass what the Basic Profile does not: they keep, move dates, or set what was
        not written in the recipe.
        """
        sets = (line for line in self.lines if line.action in (ADD, REPLACE))
        return any(line.action in (KEEP, JITTER) for line in self.lines) or any(
            line.value and line.value.kind != "literal" for line in sets
        )

    def temporal(self, *, is_basic: bool) -> str:
        """Return how dates are treated, in the terms of LongitudinalTemporalInformationModified; "" where the profile
        alone decides.
        """
        plans = [self.plan(Where((tag,), "DA")) for tag in _DATES]
        if all(plan is None for plan in plans):
            return "" if is_basic else "UNMODIFIED"
        kinds = {plan.kind if plan else (REMOVE if is_basic else KEEP) for plan in plans}
        if kinds <= {REMOVE, BLANK}:
            return "REMOVED"
        return "UNMODIFIED" if kinds == {KEEP} else "MODIFIED"


NO_RECIPE = Recipe()


def _then(plan: Plan | None, line: Line, *, stays: bool) -> Plan | None:
    """Return what becomes of an element by one more line; `stays`: another one replaces it or moves its date."""
    is_gone = plan is not None and plan.kind == REMOVE
    if line.action == ADD or (line.action == REPLACE and not is_gone):
        return Plan(REPLACE, line.number, (line,))
    if is_gone:
        return plan
    if line.action == REMOVE:
        return plan if stays else Plan(REMOVE, line.number)
    if line.action == BLANK:
        return Plan(BLANK, line.number)
    if plan and plan.kind == BLANK:  # Nothing is there that could be moved.
        return plan
    return Plan(REPLACE, line.number, (*(plan.lines if plan else ()), line))


def tag_of(text: str) -> int:
    """Return the tag that a keyword or a tag in digits names, 0 if none."""
    digits = re.fullmatch(r"\(?([0-9A-Fa-f]{4}),? ?([0-9A-Fa-f]{4})\)?", text.strip())
    if digits:
        return int(digits[1] + digits[2], 16)
    load_pydicom()
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(text.strip()) or 0

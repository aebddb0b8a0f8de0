"""PURE. What recipes of `deid` say of an element, by its place and name: which lines mean it, and what these do to it
together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import NamedTuple

from listener.dicom.loading import load_pydicom

#: What a line does.
ADD, BLANK, JITTER, KEEP, REPLACE, REMOVE = "ADD", "BLANK", "JITTER", "KEEP", "REPLACE", "REMOVE"
ACTIONS = (ADD, BLANK, JITTER, KEEP, REPLACE, REMOVE)

#: VRs whose values a line cannot set.
BINARY = frozenset({"SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN", "AT"})

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


class Entry(NamedTuple):
    """A line of a list of values: the values of `field`, or, with `by`, what stands between these marks in them, if it
    has at least `least` characters.
    """

    field: Field
    by: str = ""
    least: int = 1


class Field(NamedTuple):
    """A field of a line: `kind` is is, contains, startswith, endswith, except, select, all, fields (of a list, whose
    fields are then `several`), or values (each element that contains one of those that the `entries` of a list take).
    """

    kind: str
    text: str = ""
    several: tuple[Field, ...] = ()
    entries: tuple[Entry, ...] = ()

    def matches(self, where: Where) -> bool:
        """Return whether an element is meant by its place and name, whatever its value is."""
        if self.kind == "values":
            return False
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


#: Says whether an element has a value that a line means, after what earlier lines made of it.
Holds = Callable[[Line, Plan | None], bool]


class _Meant(NamedTuple):
    """The lines that may mean an element, in their order: by its place and name, and (`values`) by its value. `kept`:
    one of them keeps it; `stays`: one replaces it or moves its date, so it is not removed.
    """

    lines: tuple[Line, ...]
    kept: Line | None
    stays: bool


@dataclass(frozen=True)
class Recipe:
    """The lines of all recipes' header sections, in their order."""

    lines: Sequence[Line] = ()
    plans: dict[Where, Plan | None] = field(default_factory=dict, hash=False, compare=False, repr=False)
    _meant: dict[Where, _Meant] = field(default_factory=dict, hash=False, compare=False, repr=False)
    _told: dict[Where, tuple[tuple[Field, Entry], ...]] = field(
        default_factory=dict, hash=False, compare=False, repr=False
    )

    def plan(self, where: Where, holds: Holds | None = None, before: Line | None = None) -> Plan | None:
        """Return what becomes of an element; None if no line means it. Without `holds` no line means it by its value;
        `before`: what the lines before that one make of it.
        """
        if holds:
            return self._plan(where, holds, before)
        if where not in self.plans:
            self.plans[where] = self._plan(where, None, None)
        return self.plans[where]

    def _plan(self, where: Where, holds: Holds | None, before: Line | None) -> Plan | None:
        if not _SKIPPED.isdisjoint(where.path):
            return None
        lines, kept, stays = self._lines_of(where)
        plan = Plan(KEEP, kept.number) if kept else None
        is_kept = kept is not None
        for line in lines:
            if line is before:
                break
            is_kept = is_kept and line.action != ADD  # What is added is as any other from then on.
            if is_kept or line.action == KEEP:
                continue
            if line.field.kind != "values" or _is_meant(where, line, plan, holds):
                plan = _then(plan, _done_to(where, line), stays=stays)
        if plan and plan.kind in (REMOVE, BLANK) and where.path[-1] in ESSENTIAL:
            return None
        return plan

    def _lines_of(self, where: Where) -> _Meant:
        found = self._meant.get(where)
        if found is None:
            is_top = len(where.path) == 1
            meant = [line for line in self.lines if line.field.matches(where) and (is_top or line.action != ADD)]
            kept = next((line for line in meant if line.action == KEEP), None)
            lines = tuple(line for line in self.lines if line in meant or line.field.kind == "values")
            found = _Meant(lines, kept, any(line.action in (REPLACE, JITTER) for line in meant))
            self._meant[where] = found
        return found

    def additions(
        self, vr_of: Callable[[int], str], holds_of: Callable[[int, str], Holds] | None = None
    ) -> Iterator[tuple[int, Plan]]:
        """Yield the tags that lines add where there is no such element, and what lines make of it from then on."""
        for tag in sorted({tag_of(line.field.text) for line in self.lines if line.action == ADD} - {0}):
            where = Where((tag,), vr_of(tag))
            holds = holds_of(tag, where.vr) if holds_of else None
            lines, _, stays = self._lines_of(where)
            first = next(place for place, line in enumerate(lines) if line.action == ADD)
            plan: Plan | None = None
            for line in lines[first:]:
                if line.action != KEEP and (line.field.kind != "values" or _is_meant(where, line, plan, holds)):
                    plan = _then(plan, line, stays=stays)
            if plan and plan.kind != REMOVE:
                yield tag, plan

    @cached_property
    def lists(self) -> tuple[Field, ...]:
        """The lists of values by which lines mean elements."""
        return tuple(dict.fromkeys(line.field for line in self.lines if line.field.kind == "values"))

    def told(self, where: Where) -> tuple[tuple[Field, Entry], ...]:
        """Return which lists take the value of an element, and by which of their lines. What is kept tells nothing."""
        found = self._told.get(where)
        if found is None:
            is_out = not _SKIPPED.isdisjoint(where.path) or self._lines_of(where).kept
            entries = [] if is_out else [(one, entry) for one in self.lists for entry in one.entries]
            found = self._told[where] = tuple((one, entry) for one, entry in entries if entry.field.matches(where))
        return found

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
        if any(line.action == JITTER and line.field.kind == "values" for line in self.lines):
            return "MODIFIED"
        plans = [self.plan(Where((tag,), "DA")) for tag in _DATES]
        if all(plan is None for plan in plans):
            return "" if is_basic else "UNMODIFIED"
        kinds = {plan.kind if plan else (REMOVE if is_basic else KEEP) for plan in plans}
        if kinds <= {REMOVE, BLANK}:
            return "REMOVED"
        return "UNMODIFIED" if kinds == {KEEP} else "MODIFIED"


NO_RECIPE = Recipe()


def _is_meant(where: Where, line: Line, plan: Plan | None, holds: Holds | None) -> bool:
    """Return whether a line means an element by its value. A sequence has none that could be set or moved: its elements
    are meant.
    """
    is_set = line.action in (REPLACE, JITTER)
    return holds is not None and not (is_set and where.vr == "SQ") and holds(line, plan)


def _done_to(where: Where, line: Line) -> Line:
    """Return a line as it is done to an element: what it means by its value, and cannot set, it removes."""
    cannot = line.field.kind == "values" and line.action in (REPLACE, JITTER) and where.vr in BINARY
    return line._replace(action=REMOVE) if cannot else line


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

"""PURE. What becomes of an element: the Basic Profile of PS3.15 Annex E and its options, as one function.

Of a compound action (`X/Z/D`) the last one is taken: it is valid whatever the IOD says of the attribute's type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import NamedTuple

from listener.deidentify import recipe
from listener.deidentify.recipe import ESSENTIAL, NO_RECIPE, Holds, Line, Plan, Recipe, Where
from listener.dicom.attributes import dictionary_vr

#: The options, in the order of the table's columns.
OPTIONS = (
    "retain-safe-private",
    "retain-uids",
    "retain-device-identity",
    "retain-institution-identity",
    "retain-patient-characteristics",
    "retain-full-dates",
    "retain-modified-dates",
    "clean-descriptors",
    "clean-structured-content",
    "clean-graphics",
)

#: Code of the Basic Profile and of each option (PS3.16 CID 7050), with its meaning.
BASIC_CODE = ("113100", "Basic Application Confidentiality Profile")
CODES: Mapping[str, tuple[str, str]] = {
    "retain-safe-private": ("113111", "Retain Safe Private Option"),
    "retain-uids": ("113110", "Retain UIDs Option"),
    "retain-device-identity": ("113109", "Retain Device Identity Option"),
    "retain-institution-identity": ("113112", "Retain Institution Identity Option"),
    "retain-patient-characteristics": ("113108", "Retain Patient Characteristics Option"),
    "retain-full-dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "retain-modified-dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "clean-descriptors": ("113105", "Clean Descriptors Option"),
    "clean-structured-content": ("113104", "Clean Structured Content Option"),
    "clean-graphics": ("113103", "Clean Graphics Option"),
}

#: Actions. ITEMS: the sequence stays, and each element of its items is decided anew. SHIFT: a date is moved. TIME:
#: kept if it is a time or an offset of a zone. PSEUDONYM: an identifier is replaced. AGE: kept up to 89 years. CLEAN:
#: kept if each of its words is allowed. CODE: kept where the item's coding scheme is a public one. Where a condition
#: does not hold, `otherwise` is done.
KEEP, REMOVE, EMPTY, DUMMY, UID = "keep", "remove", "empty", "dummy", "uid"
ITEMS, SHIFT, PSEUDONYM, AGE = "items", "shift", "pseudonym", "age"
CLEAN, CODE, TIME = "clean", "code", "time"
#: A recipe's lines set the value.
SET = "set"

_LETTERS = {"K": KEEP, "X": REMOVE, "Z": EMPTY, "D": DUMMY, "U": UID}

PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
ACCESSION_NUMBER, STUDY_ID = 0x00080050, 0x00200010
PATIENT_AGE = 0x00101010
_IDENTIFIERS = frozenset({PATIENT_NAME, PATIENT_ID, ACCESSION_NUMBER, STUDY_ID})

#: UIDs of instances, frames of reference and things that the table does not name. Kept, they would be the original of
#: what is replaced elsewhere: (0020,0242) is another file's SOP Instance UID.
_MORE_UIDS = frozenset(
    {0x00020033, 0x00041432, 0x00081167, 0x00083012, 0x0018991E, 0x00200242, 0x00209312, 0x00209313, 0x00280304}
    | {0x0040A021, 0x0040A022, 0x0040E011, 0x0040E030, 0x0040E031, 0x00440102, 0x00440108, 0x00687004, 0x0070031B}
    | {0x00701209, 0x0072007F, 0x300A0675, 0x3010001F}
)

#: What would say who it is, or when, although the table does not name it: removed with its VR.
_MORE_VRS = frozenset({"PN", "DA", "DT"})

#: Encrypted originals, and MAC parameters of signatures that no longer fit.
_MORE_REMOVED = frozenset({0x04000500, 0x4FFE0001})

#: Groups of commands, file meta information and directories do not belong in a data set.
_FIRST_GROUP = 0x0008

_SOP_CLASS = 0x00080016

#: Content items, frames, segments and channels that are referred to: numbers from 1 on, that tell of nobody.
_PLACES = frozenset({0x0040DB73, 0x00081160, 0x0062000B, 0x0040A0B0})

_CURVES, _OVERLAYS = 0x50, 0x60
_PIXELS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00008, 0x7FE00009, 0x7FE00010})
_TEXT_VRS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC"})
_DATES = frozenset({"DA", "DT"})

#: What a code is told with, but for its meaning, which is a text.
CODE_TAGS = frozenset({0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120})


class Entry(NamedTuple):
    """A row of Table E.1-1: the action of the Basic Profile, and a letter for each of OPTIONS (K, C or -)."""

    basic: str
    options: str


class Decision(NamedTuple):
    """What becomes of an element, by which rule (words for people), what is done where it cannot be cleaned, and the
    lines of recipes that set its value.
    """

    action: str
    rule: str
    otherwise: str = REMOVE
    lines: tuple[Line, ...] = ()


class Position(NamedTuple):
    """Where an element stands: how many sequences it lies in; what is done with the sequence around it that is not
    simply kept (CLEAN, DUMMY or ""); of a private element its creator; and, where recipes want them, the tags of the
    sequences and the Specific Character Set.
    """

    depth: int = 0
    within: str = ""
    creator: str = ""
    path: tuple[int, ...] = ()
    terms: bytes = b""


def read_table() -> dict[int, Entry]:
    """Return the rows of Table E.1-1 by tag."""
    text = resources.files(__package__).joinpath("table.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {int(tag, 16): Entry(basic, options) for tag, basic, options in rows}


@dataclass(frozen=True)
class Rules:
    """The rules of one run: options, the private elements that are safe (creator, group, last byte of the tag), what
    recipes say, and whether the Basic Profile is done where they say nothing.
    """

    options: frozenset[str] = frozenset()
    safe_private: frozenset[tuple[str, int, int]] = frozenset()
    recipe: Recipe = NO_RECIPE
    is_basic: bool = True
    table: Mapping[int, Entry] = field(default_factory=read_table, hash=False, compare=False)
    #: What was decided, by whoever keeps it: a data set has the same elements as its neighbours.
    decided: dict[tuple[int, str, Position], Decision] = field(default_factory=dict, hash=False, compare=False)

    @property
    def asks_creator(self) -> bool:
        """Return whether what becomes of a private element depends on its creator."""
        return bool(self.safe_private or self.recipe.lines)


def decide(tag: int, vr: str, position: Position, rules: Rules, holds: Holds | None = None) -> Decision:
    """Return what becomes of an element. `vr` is the dictionary's, for an element that it does not know the file's;
    `holds` says whether lines of recipes mean it by its value.

    A sequence is removed, emptied, or stays: ITEMS, or CLEAN or DUMMY, which its items are then `within`.
    """
    plan = rules.recipe.plan(Where((*position.path, tag), vr, position.creator), holds) if tag & 0xFFFF else None
    decision = _of_plan(plan) if plan else _decided(tag, vr, position, rules, holds)
    if vr == "SQ":
        return decision._replace(action=ITEMS) if decision.action in (KEEP, UID) else decision
    if plan:
        return decision
    if position.within == DUMMY and decision.action != REMOVE:
        if tag in _PLACES:
            return Decision(KEEP, "a place within what is referred to")
        return Decision(UID if vr == "UI" else DUMMY, "in a sequence of dummies")
    if position.within == CLEAN and decision.action == KEEP:
        return _in_cleaned(tag, vr, decision)
    return decision


_PLANS = {recipe.KEEP: KEEP, recipe.REMOVE: REMOVE, recipe.BLANK: EMPTY, recipe.REPLACE: SET}


def _of_plan(plan: Plan) -> Decision:
    return Decision(_PLANS[plan.kind], f"recipe, line {plan.number}", lines=plan.lines)


def _in_cleaned(tag: int, vr: str, decision: Decision) -> Decision:
    """Return what becomes of an element that would stay, in a sequence that must be cleaned."""
    if tag in CODE_TAGS:
        return Decision(CODE, "code in cleaned content", DUMMY)
    return Decision(CLEAN, "text in cleaned content", DUMMY) if vr in _TEXT_VRS | {"UR"} else decision


def _decided(tag: int, vr: str, position: Position, rules: Rules, holds: Holds | None) -> Decision:
    group, entry = tag >> 16, rules.table.get(tag)
    outside = _outside(tag, position, rules)
    if outside:
        return outside
    if not rules.is_basic:
        # Without these UIDs it would be no instance: a recipe that removes them has them replaced.
        is_unnamed = tag in ESSENTIAL and tag != _SOP_CLASS and _is_taken(tag, vr, rules, holds)
        return Decision(UID if is_unnamed else KEEP, "no profile")
    if tag in _IDENTIFIERS:
        return Decision(PSEUDONYM, "identifier")
    if entry:
        return _of_entry(tag, vr, entry, rules)
    if not dictionary_vr(tag) or group < _FIRST_GROUP:
        return Decision(REMOVE, "not in the dictionary")
    if tag in _MORE_UIDS:
        return _with_option(Decision(UID, "a UID of a thing"), "retain-uids", rules)
    if tag in _MORE_REMOVED:
        return Decision(REMOVE, "encrypted or signed")
    if vr in _MORE_VRS:
        return _of_vr(vr, rules)
    if position.depth and tag in _PIXELS:
        return Decision(REMOVE, "pixels within a sequence")
    return Decision(KEEP, "not in Table E.1-1")


def _is_taken(tag: int, vr: str, rules: Rules, holds: Holds | None) -> bool:
    """Return whether a line takes an element away, as far as it may be."""
    where = Where((tag,), vr)
    taking = [line for line in rules.recipe.lines if line.action in (recipe.REMOVE, recipe.BLANK)]
    return any(
        line.field.matches(where) or (line.field.kind == "values" and holds and holds(line, None)) for line in taking
    )


def kept_by(rules: Rules) -> Callable[[int, str], bool]:
    """Return whether recipes keep an element of this tag and VR, or no profile takes it: what stays is no original of
    anything that went.
    """

    def is_kept(tag: int, vr: str) -> bool:
        plan = rules.recipe.plan(Where((tag,), vr))
        return plan.kind == recipe.KEEP if plan else not rules.is_basic

    return is_kept if rules.recipe.lines or not rules.is_basic else lambda _tag, _vr: False


def _outside(tag: int, position: Position, rules: Rules) -> Decision | None:
    """Return the decision on what no row of the table names by its tag: whole groups; None for all else."""
    group = tag >> 16
    if not tag & 0xFFFF:
        return Decision(REMOVE, "group length")
    if not rules.is_basic:
        return None
    if group & 1 and tag not in rules.table:
        return _of_private(tag, position, rules)
    if group >> 8 in (_CURVES, _OVERLAYS):
        return Decision(REMOVE, "curve" if group >> 8 == _CURVES else "overlay")
    return None


def _of_private(tag: int, position: Position, rules: Rules) -> Decision:
    group, element = tag >> 16, tag & 0xFFFF
    if "retain-safe-private" in rules.options and position.creator and not position.within:
        if 0x10 <= element <= 0xFF and any(one[:2] == (position.creator, group) for one in rules.safe_private):
            return Decision(KEEP, "creator of safe private elements")
        if (position.creator, group, element & 0xFF) in rules.safe_private and element > 0xFF:
            return Decision(KEEP, "retain-safe-private")
    return Decision(REMOVE, "private")


def _of_entry(tag: int, vr: str, entry: Entry, rules: Rules) -> Decision:
    basic = _basic(entry)
    marks = {name: mark for name, mark in zip(OPTIONS, entry.options, strict=True) if name in rules.options}
    # A date that the device option would keep is moved nonetheless: kept beside moved ones, it would tell the shift.
    if marks.get("retain-modified-dates") == "C":
        return _shifted(vr, basic)
    keeping = next((name for name, mark in marks.items() if mark == "K"), "")
    if keeping:
        return Decision(AGE if tag == PATIENT_AGE else KEEP, keeping)
    cleaning = next((name for name, mark in marks.items() if mark == "C"), "")
    if cleaning and (vr == "SQ" or vr in _TEXT_VRS | {"AE", "CS"}):
        return Decision(CLEAN, cleaning, basic.action)
    return basic


def _basic(entry: Entry) -> Decision:
    letter = entry.basic.rpartition("/")[2].removesuffix("*")
    return Decision(_LETTERS[letter], f"E.1-1 {entry.basic}")


def _shifted(vr: str, basic: Decision) -> Decision:
    if vr in _DATES:
        return Decision(SHIFT, "retain-modified-dates", basic.action)
    # Times, and the offset of their zone, stay: intervals within a day stay right.
    return Decision(TIME, "retain-modified-dates", basic.action) if vr in ("TM", "SH") else basic


def _with_option(decision: Decision, option: str, rules: Rules) -> Decision:
    return Decision(KEEP, option) if option in rules.options else decision


def _of_vr(vr: str, rules: Rules) -> Decision:
    """Return the decision on a name or a date that the table does not name."""
    removed = Decision(REMOVE, f"{vr} that is not in Table E.1-1")
    if vr == "PN":
        return removed
    if "retain-modified-dates" in rules.options:
        return Decision(SHIFT, "retain-modified-dates")
    return _with_option(removed, "retain-full-dates", rules)

"""Read recipes of `deid`. What cannot be honoured is refused with the number of its line, never passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from listener.deidentify.inputs import read_text
from listener.deidentify.marks import MARKS
from listener.deidentify.recipe import (
    ACTIONS,
    ADD,
    BINARY,
    BLANK,
    JITTER,
    KEEP,
    NO_RECIPE,
    REMOVE,
    REPLACE,
    Entry,
    Field,
    Line,
    Recipe,
    Spec,
    pattern_of,
    tag_of,
)
from listener.deidentify.recipe_filter import PREDICATES, WITH_VALUE, Label, Predicate
from listener.dicom.attributes import dictionary_vr
from listener.errors import ConfigError

_EXPANDERS = ("contains", "startswith", "endswith", "except", "select", "fields", "values")
_WORD = re.compile(r"""(?:[^\s"']+|"[^"]*"|'[^']*')+""")
_EXPANDER = re.compile(r"([A-Za-z]+):(.*)")
_COORDINATES = re.compile(r"(ctp)?(keep)?coordinates\b", re.IGNORECASE)
_JOINED = re.compile(r"\s*(\|\||\+)\s*(?=(?:" + "|".join(PREDICATES) + r")\s)", re.IGNORECASE)

#: Functions of ours, and those of deid, whose random values are derived from the key here.
FUNCTIONS = ("uid", "pseudonym", "shift")
DEID_FUNCTIONS = ("jitter", "dicom_uuid", "suffix_uuid", "basic_uuid", "pydicom_uuid")

#: A parameter of SPLIT, and what stands between it and the next one.
_PARAMETER = re.compile(r"""\s*([A-Za-z]+)\s*=\s*("[^"]*"|'[^']*'|[^;"']*?)\s*(?:;|$|(?=\#))""")


#: Sections of lists, and the first group that is not of file meta information.
_LISTS = ("fields", "values")
_FIRST_GROUP = 8


class Recipes(NamedTuple):
    """All recipes of a run: what their header sections do, and the labels of their filter sections."""

    header: Recipe = NO_RECIPE
    labels: Sequence[Label] = ()


class _Refused(Exception):
    """A line cannot be honoured."""


def read_recipes(paths: Sequence[str], *, has_values: bool) -> Recipes:
    """Return the recipes in files, one behind the other. `has_values`: somebody gives values by name. Raises
    ConfigError with each line that cannot be honoured.
    """
    lines: list[Line] = []
    labels: list[Label] = []
    problems: list[str] = []
    for path in paths:
        reader = _Reader(read_text(path), has_values)
        reader.read()
        lines += reader.lines
        labels += reader.labels
        problems += [
            f"--recipe: line {number} of '{path.rpartition('/')[2]}': {why}" for number, why in reader.problems
        ]
    if problems:
        raise ConfigError(problems)
    return Recipes(Recipe(tuple(lines)), tuple(labels))


class _Reader:
    """Reads one recipe: `lines`, `labels` and `problems` are what it found."""

    def __init__(self, text: str, has_values: bool) -> None:
        self._text, self._has_values = text, has_values
        self.lines: list[Line] = []
        self.labels: list[Label] = []
        self.problems: list[tuple[int, str]] = []
        self._section = self._name = ""
        self._lists: dict[str, list[Field]] = {}
        self._values: dict[str, list[Entry]] = {}
        #: The label that is being read: section, name, lines, and whether it has coordinates.
        self._label: Label | None = None

    def read(self) -> None:
        """Read all lines. Lists may stand behind the lines that use them: they are read first."""
        lines = [(number, text.strip()) for number, text in enumerate(self._text.splitlines(), 1)]
        lines = [(number, text) for number, text in lines if text and not text.startswith("#")]
        for only_lists in (True, False):
            self._section = self._name = ""
            for number, text in lines:
                try:
                    self._one(number, text, only_lists=only_lists)
                except _Refused as refused:
                    self.problems.append((number, str(refused)))
            self._end_label()
        self.problems = sorted(set(self.problems))

    def _one(self, number: int, text: str, *, only_lists: bool) -> None:
        if text.startswith("%"):
            self._begin_section(text)
        elif re.match("format", text, re.IGNORECASE):
            if text[6:].strip().lower() != "dicom":
                raise _Refused("the format must be dicom")
        elif self._section in _LISTS or only_lists:
            if only_lists and self._section in _LISTS:
                self._add_to_list(text)
        elif self._section == "filter":
            self._filter_line(text)
        elif self._section == "header":
            self.lines.append(self._action(number, text))
        elif self._section != "labels":
            raise _Refused("it stands in no section")

    def _begin_section(self, text: str) -> None:
        self._end_label()
        section, _, name = text[1:].partition("#")[0].strip().partition(" ")
        self._section, self._name = section.strip().lower(), name.strip()
        if self._section == "labels":
            raise _Refused("%labels changes no file, with deid neither: leave it out, or put its lines into %header")
        if self._section not in ("header", "filter", *_LISTS):
            unknown, self._section = self._section, ""
            raise _Refused(f"there is no section %{unknown} here; header, filter, {' and '.join(_LISTS)} are known")
        if (self._section == "header") == bool(self._name):
            raise _Refused("a filter or a list has a name, a header has none")

    # -- lists and header ----------------------------------------------------------------------------------------------

    def _add_to_list(self, text: str) -> None:
        words, is_of_values = _WORD.findall(text), self._section == "values"
        kind = words[0].upper()
        if len(words) < 2 or not (kind == "FIELD" or (kind == "SPLIT" and is_of_values)):
            more = " and SPLIT EXPRESSION" if is_of_values else ""
            raise _Refused(f"a list of {self._section} has lines FIELD EXPRESSION{more}")
        field = self._field(words[1])
        if field.kind == "values":
            raise _Refused("a list names fields, not values")
        if not is_of_values:
            self._lists.setdefault(self._name, []).append(field)
            return
        if field.kind == "is" and 0 < tag_of(field.text) >> 16 < _FIRST_GROUP:
            raise _Refused("values are not taken from file meta information")
        by, least = _parameters(" ".join(words[2:])) if kind == "SPLIT" else ("", 1)
        self._values.setdefault(self._name, []).append(Entry(field, by, least))

    def _field(self, text: str) -> Field:
        if text.lower() == "all":
            return Field("all")
        match = _EXPANDER.fullmatch(text)
        kind = match[1].lower() if match else ""
        if not match or kind not in _EXPANDERS:
            if match and '"' not in text:
                raise _Refused(f"there is no expander {match[1]}:")
            return Field("is", text)
        told = match[2]
        if kind == "values":
            if told not in self._values:
                raise _Refused(f"there is no list of values {told}")
            return Field("values", told, (), tuple(self._values[told]))
        if kind == "fields":
            if told not in self._lists:
                raise _Refused(f"there is no list of fields {told}")
            return Field("fields", told, tuple(self._lists[told]))
        if kind == "select" and not re.fullmatch(r"(vr:[a-z]{2}.*|group:[0-9a-f]{1,4})", told, re.IGNORECASE):
            raise _Refused("select: knows VR:XX and GROUP:XXXX")
        try:
            pattern_of(kind, told)
        except re.error:
            raise _Refused("the expression is no regular expression") from None
        return Field(kind, told)

    def _action(self, number: int, text: str) -> Line:
        words = _WORD.findall(text)
        action = words[0]
        if action not in ACTIONS:
            raise _Refused(f"there is no action {action.split()[0][:20]}; {', '.join(ACTIONS)} are known")
        if len(words) < 2:
            raise _Refused(f"{action} needs a field")
        field, told = self._field(words[1]), " ".join(words[2:]).partition("#")[0].strip()
        if action == KEEP and field.kind == "values":
            raise _Refused("KEEP knows no values, and with deid it keeps nothing so: name the fields")
        if action in (ADD, REPLACE, JITTER):
            if not told:
                raise _Refused(f"{action} needs a value")
            value = self._spec(told)
            _check_value(action, field, value)
            return Line(number, action, field, value)
        if action == REMOVE and told:
            raise _Refused("REMOVE with a condition is not supported")
        assert action in (KEEP, BLANK, REMOVE)
        return Line(number, action, field)

    def _spec(self, text: str) -> Spec:
        kind, colon, told = text.partition(":")
        if not colon or kind not in ("var", "func", "deid_func"):
            return Spec("literal", text)
        name, *pairs = told.split()
        extras = tuple((pair.partition("=")[0], pair.partition("=")[2]) for pair in pairs)
        if kind == "deid_func":
            if name not in DEID_FUNCTIONS:
                raise _Refused(f"there is no deid_func:{name}; {', '.join(DEID_FUNCTIONS)} are known")
            _check_extras(name, dict(extras))
        elif not (kind == "func" and name in FUNCTIONS) and not self._has_values:
            known = f"; without --identifiers {', '.join(FUNCTIONS)} are known" if kind == "func" else ""
            raise _Refused(f"nobody gives {kind}:{name}{known}")
        return Spec(kind, name, extras)

    # -- filters -------------------------------------------------------------------------------------------------------

    def _filter_line(self, text: str) -> None:
        if text.upper().startswith("LABEL"):
            self._end_label()
            self._label = Label(self._name, text[5:].partition("#")[0].strip(), ())
        elif self._label is None:
            raise _Refused("it stands before the first LABEL of its section")
        elif _COORDINATES.match(text):
            self._label = self._label._replace(has_coordinates=True)
        else:
            self._label = self._label._replace(lines=(*self._label.lines, _predicates(text)))

    def _end_label(self) -> None:
        if self._label:
            self.labels.append(self._label)
        self._label = None


def _predicates(text: str) -> list[Predicate]:
    """Return the predicates of a line: joined by + or || where another one follows."""
    parts = _JOINED.split(re.sub(r"^(\+|\|\|)\s*", "", text))
    joined = ["", *("or" if mark == "||" else "and" for mark in parts[1::2])]
    return [_predicate(part.strip(), how) for part, how in zip(parts[::2], joined, strict=True)]


def _predicate(text: str, joined: str) -> Predicate:
    name, _, told = text.partition(" ")
    field, _, value = told.strip().partition(" ")
    name = name.lower()
    if name not in PREDICATES or not field:
        raise _Refused(f"it is no predicate of a field; {', '.join(PREDICATES)} are known")
    if name in WITH_VALUE and not value.strip():
        raise _Refused(f"{name} needs a value")
    if "0x" in field and not re.fullmatch(r"0x[0-9A-Fa-f]{8}", field):
        raise _Refused("a tag is 0xGGGGEEEE")
    try:
        re.compile(value.lower() if "contains" in name else "")
    except re.error:
        raise _Refused("the value is no regular expression") from None
    return Predicate(name, field, value.strip(), joined)


def _parameters(text: str) -> tuple[str, int]:
    """Return what SPLIT splits by, and the fewest characters of a part."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text) and text[at] != "#":
        match = _PARAMETER.match(text, at)
        name = match[1].lower() if match else ""
        if not match or name not in ("by", "minlength") or name in found:
            raise _Refused('SPLIT knows by="TEXT" and minlength=NUMBER, once each, with ; between them')
        found[name] = match[2][1:-1] if match[2][:1] in ("'", '"') else match[2]
        at = match.end()
    by, least = found.get("by", " "), found.get("minlength", "1")
    if not by:
        raise _Refused("by needs a text")
    if not re.fullmatch(r"[1-9]\d{0,3}", least):
        raise _Refused("minlength is a number from 1 on")
    return by, int(least)


def _check_value(action: str, field: Field, value: Spec) -> None:
    """Refuse a value that its line cannot set, as far as that can be known before an instance is seen."""
    if action == JITTER:
        is_days = re.fullmatch(r"[+-]?\d{1,5}", value.text) if value.kind == "literal" else True
        if not is_days or value.kind == "deid_func":
            raise _Refused("JITTER needs a number of days")
        return
    if value.kind == "literal" and not (value.text.isascii() and value.text.isprintable()):
        raise _Refused("a value must be of ASCII: the character sets of instances differ")
    tag = tag_of(field.text) if field.kind == "is" else 0
    if action == ADD:
        _check_added(field, tag, value)
    if tag and (dictionary_vr(tag) or "")[:2] in BINARY:
        raise _Refused(f"{field.text} is no text or number")


def _check_added(field: Field, tag: int, value: Spec) -> None:
    if field.kind != "is" or not tag or not dictionary_vr(tag) or tag >> 16 & 1:
        raise _Refused("ADD needs one attribute of DICOM's, not in a sequence")
    if tag >> 16 < _FIRST_GROUP:
        raise _Refused("file meta information is made anew, whatever recipes say")
    if tag in MARKS and (tag, value.text) != (0x00120062, "YES"):
        raise _Refused(f"{field.text} is written by listener itself")


def _check_extras(name: str, extras: dict[str, str]) -> None:
    known = {"jitter": {"days", "years"}, "dicom_uuid": {"org_root"}, "pydicom_uuid": {"prefix", "stable_remapping"}}
    unknown = set(extras) - known.get(name, set())
    if unknown:
        raise _Refused(f"deid_func:{name} knows no {min(unknown)}")
    if name == "jitter" and not all(re.fullmatch(r"[+-]?\d{1,5}", value) for value in extras.values()):
        raise _Refused("days and years are whole numbers")
    root = extras.get("org_root") if name == "dicom_uuid" else extras.get("prefix", "2.25.")
    if name in ("dicom_uuid", "pydicom_uuid") and not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))*\.?", root or ""):
        raise _Refused(f"deid_func:{name} needs the root of a UID ({'org_root' if name == 'dicom_uuid' else 'prefix'})")

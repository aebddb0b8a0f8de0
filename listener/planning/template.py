"""PURE. pypx's path templates: `%Keyword` and `%_function|arguments_Keyword` between literal text.

Compiled once, rendered for every file. Words and outputs are those of `pypx.repack.Process.tagsInString_process` (of
3.11.22 and 3.12.6), with these differences, each where pypx crashes or mixes values up:

- each function belongs to the keyword it stands before; pypx pairs the k-th *present* keyword with the k-th `%`, so
  that one missing tag moves every function behind it (there a series without a description loses its hash);
- values are not searched for `%Keyword` in turn, and `%AcquisitionDateTime` is not taken for `%AcquisitionDate`;
- unknown words, which pypx leaves in the path as text, and bad arguments, at which it crashes on the first file, are a
  TemplateError before any file is touched;
- `name` crashes in every released pypx, which lacks what it imports: see template_functions.py.

Sanitising is not done here: pypx does it last, on each whole rendered component (`[^A-Za-z0-9.-]+` becomes `_`; so `/`
makes no directory there); see plan.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from listener.planning.template_functions import AGE_IN_DAYS, AGE_SOURCES, MAKERS, USAGE, Function, pseudonym

_FIELD = re.compile(r"%(?:_([^_%]*)_)?([A-Za-z][A-Za-z0-9]*)")

Known = Callable[[str], bool] | None


class TemplateError(ValueError):
    """A template is invalid; the text names it, the position, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template.

    `keywords` are the DICOM keywords to read from a file, in order of appearance; `fields` are those that `render`
    uses. They differ only for ages: a template with an age reads AGE_SOURCES too, and `with_ages` computes the field
    from them.
    """

    text: str
    keywords: tuple[str, ...]
    fields: tuple[str, ...]
    _format: str = field(repr=False)
    _steps: tuple[tuple[str, Function | None], ...] = field(repr=False)

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with every field replaced; `values` has each of `fields`, missing tags already as text."""
        return self._format % tuple([values[k] if f is None else f(values[k]) for k, f in self._steps])


def compile_template(text: str, known: Known = None) -> Template:
    """Compile a template. Raises TemplateError.

    `known` says whether a word is a DICOM keyword. With it an unknown keyword is an error, and letters behind a keyword
    are literal text as in pypx (`%PatientIDx`); without it a keyword extends over all letters and digits.
    """
    pieces: list[str] = []
    steps: list[tuple[str, Function | None]] = []
    end = 0
    while (start := text.find("%", end)) >= 0:
        match = _FIELD.match(text, start) or _unreadable(text, start)
        keyword = _longest_known(match, known)
        pieces += text[end:start], "%s"
        steps.append(_step(match, keyword, known))
        end = match.start(2) + len(keyword)
    fields = tuple(dict.fromkeys(name for name, _ in steps))
    return Template(text, _read_from_file(fields), fields, "".join([*pieces, text[end:]]), tuple(steps))


def _read_from_file(fields: tuple[str, ...]) -> tuple[str, ...]:
    ages = AGE_SOURCES if AGE_IN_DAYS in fields or "PatientAge" in fields else ()
    return tuple(name for name in dict.fromkeys(fields + ages) if name != AGE_IN_DAYS)


def _longest_known(match: re.Match[str], known: Known) -> str:
    word = match[2]
    if known is None:
        return word
    prefixes = (word[:length] for length in range(len(word), 0, -1))
    keyword = next((prefix for prefix in prefixes if prefix == AGE_IN_DAYS or known(prefix)), "")
    if not keyword:
        _fail(match.string, match.start(2), f"{word!r} is no DICOM keyword", "take one of PS3.6, as SeriesDescription")
    return keyword


def _step(match: re.Match[str], keyword: str, known: Known) -> tuple[str, Function | None]:
    """Return the field to read and its function; further `|` end the arguments, as in pypx."""
    if match[1] is None:
        return keyword, None
    name, *arguments = match[1].split("|")
    argument = arguments[0] if arguments else None
    if name not in USAGE:
        _fail(match.string, match.start(1), f"unknown function {name!r}", f"use one of {', '.join(USAGE)}")
    try:
        if name == "name":
            return _seed(argument, keyword, known), pseudonym
        return keyword, MAKERS[name](argument)
    except ValueError as error:
        _fail(match.string, match.start(1), f"{name}: {error}", f"write {USAGE[name]}")


def _seed(argument: str | None, keyword: str, known: Known) -> str:
    """Return the tag from which a name is made: PatientID in `%_name|patientID_PatientName` (small first
    letter, pypx).
    """
    if not argument:
        return keyword
    word = argument[0].upper() + argument[1:]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", word) or not (known is None or known(word)):
        raise ValueError(f"{argument!r} is no DICOM keyword")
    return word


def _unreadable(text: str, start: int) -> NoReturn:
    remedy = "write %Keyword or %_function|arguments_Keyword, without _ or % in the arguments"
    _fail(text, start, "no DICOM keyword behind %", remedy)


def _fail(text: str, start: int, wrong: str, remedy: str) -> NoReturn:
    raise TemplateError(f"template {text!r}, character {start + 1}: {wrong}; {remedy}")

"""PURE. The functions of path templates, with pypx's results: pad, md5, seahash, strmsk, nospc, name; and ages.

A maker takes the text of the arguments (None without `|`) and returns the function. Raises ValueError for bad
arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache, partial

from listener.planning.seahash import seahash, seahash_hex

Function = Callable[[str], str]
Maker = Callable[[str | None], Function | None]

#: The only word that is no DICOM keyword: days between PatientBirthDate and StudyDate, as `007365d`.
AGE_IN_DAYS = "AgeInDays"

#: Attributes from which an age is computed; a template with an age reads them too.
AGE_SOURCES = ("StudyDate", "PatientBirthDate")

_WIDEST = 255
_FIRST = (
    *("ADA", "ALAN", "ALMA", "ANTON", "CARL", "CLARA", "DORA", "EDGAR"),
    *("EMIL", "EMMA", "ERNST", "FRANZ", "GRETA", "HANS", "HUGO", "IDA"),
)
_LAST = (
    *("ADLER", "BAKER", "BERG", "BROOK", "COLE", "DALE", "FIELD", "FORD"),
    *("FROST", "GRAY", "HALE", "HILL", "KING", "LANE", "MOSS", "NASH"),
)


def with_ages(values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` (of present tags) plus PatientAge, where absent, and AgeInDays, where both dates are valid.

    For templates whose `fields` name one of them; call it before missing tags get their text. (pypx takes an empty date
    for age 0 and crashes on an absent one.)
    """
    ages = dict(values)
    if (days := age_in_days(*[values.get(name, "") for name in AGE_SOURCES])) is not None:
        ages[AGE_IN_DAYS] = f"{days:06d}d"
        ages["PatientAge"] = values.get("PatientAge") or _age_string(days)
    return ages


def age_in_days(study_date: str, birth_date: str) -> int | None:
    """Return the days between two dates (`20200301`, `2020-03-01`), never negative; None where one is no date."""
    study, birth = _date(study_date), _date(birth_date)
    return None if study is None or birth is None else abs((study - birth).days)


def _date(text: str) -> datetime | None:
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - a date of birth has no time zone
        except ValueError:
            continue
    return None


def _age_string(days: int) -> str:
    """Return a DICOM age (VR AS) rounded as pypx does: `004D`, `004W`, `004M`, `020Y`."""
    for unit, length in (("Y", 365), ("M", 30), ("W", 7)):
        if days >= length:
            return f"{round(days / length):03d}{unit}"
    return f"{days:03d}D"


def _pad(argument: str | None) -> Function | None:
    """Make `5,0`: right-justify to 5 characters with `0`, which is the default; longer values stay whole."""
    if not argument:
        return None
    width, char = [*argument.split(","), "0"][:2]
    if len(char) != 1:
        raise ValueError(f"{char!r} to fill with is not one character")
    if _number(width) > _WIDEST:
        raise ValueError(f"a width of {width} is more than a file name may have")
    return partial(_rjust, _number(width), char)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _rjust(width: int, char: str, value: str) -> str:
    return value.rjust(width, char)


def _cut(digest: Function, argument: str | None) -> Function:
    """Make `7`: keep the first 7 digits of the digest (a negative number drops from the end); without argument all of
    it.
    """
    return digest if argument is None else partial(_head, digest, _number(argument))


def _head(digest: Function, length: int, value: str) -> str:
    return digest(value)[:length]


@lru_cache(maxsize=256)
def _md5(value: str) -> str:
    from hashlib import md5  # It loads OpenSSL, for templates that have it.

    return md5(value.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _strmsk(mask: str | None) -> Function:
    """Make `****01**`: `*` keeps a character, others replace it; the result has the shorter length of mask and text."""
    if mask is None:
        raise ValueError("the mask is missing")
    return partial(_mask, mask)


def _mask(mask: str, value: str) -> str:
    return "".join(v if m == "*" else m for v, m in zip(value, mask, strict=False))


def _nospc(glue: str | None) -> Function:
    """Make `-`: join words (letters, digits and `_` of any script) with `-`, or with nothing."""
    return partial(_join_words, glue or "")


def _join_words(glue: str, value: str) -> str:
    return glue.join(re.findall(r"\w+", value))


def pseudonym(value: str) -> str:
    """Return `LAST^FIRST^ANON`, always the same for one value.

    pypx would use the package Faker and crashes without it. The 256 names hide a patient; they do not tell patients
    apart.
    """
    number = seahash(value.encode("utf-8", "surrogatepass"))
    return f"{_LAST[number % 16]}^{_FIRST[number // 16 % 16]}^ANON"


MAKERS: dict[str, Maker] = {
    "pad": _pad,
    "md5": partial(_cut, _md5),
    "seahash": partial(_cut, lru_cache(maxsize=256)(seahash_hex)),
    "strmsk": _strmsk,
    "nospc": _nospc,
}

#: How each function is written; `name` is the only one that takes another tag's value.
USAGE = {
    "pad": "%_pad|WIDTH,CHARACTER_Keyword, such as %_pad|5,0_SeriesNumber",
    "md5": "%_md5|DIGITS_Keyword, such as %_md5|8_PatientID",
    "seahash": "%_seahash|DIGITS_Keyword, such as %_seahash|7_SeriesInstanceUID",
    "strmsk": "%_strmsk|MASK_Keyword, where * keeps a character, such as %_strmsk|****01**_PatientBirthDate",
    "nospc": "%_nospc|GLUE_Keyword, such as %_nospc|-_SeriesDescription",
    "name": "%_name_PatientName or %_name|patientID_PatientName",
}

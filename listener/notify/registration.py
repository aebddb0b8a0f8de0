"""PURE. What CUBE is told of a series: the 16 arguments of its task register_pacs_series, within what its serializer
takes. What it does not take is never shown: CUBE refuses it in its worker's log alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from listener.errors import NotTaken

#: The task's name, as CUBE has it and oxidicom sends it.
TASK = "pacsfiles.tasks.register_pacs_series"

#: Where CUBE looks for files of a PACS, below its storage; the directory below it is the PACS' name.
_ROOT = ("SERVICES", "PACS")

#: The most characters of a text that CUBE stores.
MOST = {
    "PatientID": 100,
    "PatientName": 150,
    "AccessionNumber": 100,
    "Modality": 15,
    "ProtocolName": 64,
    "StudyDescription": 400,
    "SeriesDescription": 400,
}
_MOST_PACS, _MOST_PATH = 20, 1024

#: Texts that may be absent or are cut to what CUBE stores.
_TEXTS = ("PatientName", "AccessionNumber", "Modality", "ProtocolName", "StudyDescription", "SeriesDescription")

_SEXES = ("M", "F", "O")

#: Days in a unit of PatientAge (PS3.5 section 6.2, AS), as oxidicom counts them.
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.24}

#: What is read of the header of a series' first instance.
KEYWORDS = frozenset({"PatientID", "StudyDate", "PatientBirthDate", "PatientAge", "PatientSex", *_TEXTS})


class Refused(NotTaken):
    """CUBE would refuse this series, whenever it is told: the delivery fails."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason, is_final=True)
        self.reason = reason


class Series(NamedTuple):
    """A series as the ledger has it: its `folder` below the data directory, which names its `pacs` (see pacs_of), and
    its number of instances.
    """

    SeriesInstanceUID: str
    StudyInstanceUID: str
    pacs: str
    folder: str
    instances: int


class Registration(NamedTuple):
    """Arguments of the task by name, and keywords of values that were cut or left out."""

    arguments: dict[str, Any]
    adjusted: tuple[str, ...] = ()


def pacs_of(folder: str) -> str:
    """Return the name of the PACS in the path of a series below the data directory. Raises Refused for a path that is
    not of the layout oxidicom.
    """
    parts = folder.split("/")
    if tuple(parts[:2]) != _ROOT or len(parts) < len(_ROOT) + 2 or not parts[2]:
        raise Refused("not-oxidicom-layout", "give listener run --layout oxidicom")
    return parts[2]


def registration(series: Series, header: Mapping[str, str]) -> Registration:
    """Return what CUBE is told of a series whose first instance has these texts. Raises Refused where CUBE would not
    take it.
    """
    values = {keyword: _clean(header.get(keyword, "")) for keyword in KEYWORDS}
    if len(series.pacs) > _MOST_PACS:
        text = f"CUBE takes at most {_MOST_PACS} characters, and its directory has {len(series.pacs)}"
        raise Refused("pacs-name", text)
    if len(series.folder) > _MOST_PATH:
        raise Refused("path", f"CUBE takes at most {_MOST_PATH} characters, and the series' has {len(series.folder)}")
    adjusted = tuple(_adjusted(values))
    texts = {keyword: values[keyword][: MOST[keyword]] or None for keyword in _TEXTS}
    return Registration(
        {
            "PatientID": _patient(values["PatientID"]),
            "StudyDate": _study_date(values["StudyDate"]),
            "StudyInstanceUID": series.StudyInstanceUID,
            "SeriesInstanceUID": series.SeriesInstanceUID,
            "pacs_name": series.pacs,
            "path": series.folder,
            "ndicom": series.instances,
            "PatientName": texts["PatientName"],
            "PatientBirthDate": values["PatientBirthDate"] if _day(values["PatientBirthDate"]) else None,
            "PatientAge": _age(values["PatientAge"]),
            "PatientSex": values["PatientSex"] if values["PatientSex"] in _SEXES else None,
            **{keyword: texts[keyword] for keyword in _TEXTS[1:]},
        },
        adjusted,
    )


def _clean(text: str) -> str:
    # PostgreSQL stores no NUL, and JSON no lone surrogate.
    return text.replace("\0", "").encode("utf-8", "replace").decode().strip()


def _patient(text: str) -> str:
    """Return a PatientID. Raises Refused for none, and for one that cannot be stored whole: cut it would be another."""
    if not text or len(text) > MOST["PatientID"]:
        raise Refused("cube-needs PatientID")
    return text


def _study_date(text: str) -> str:
    day = _day(text)
    if day is None:
        raise Refused("cube-needs StudyDate")
    return day.isoformat()


def _day(text: str) -> date | None:
    """Return the day of YYYYMMDD or YYYY-MM-DD, None for any other text."""
    digits = text.replace("-", "") if len(text) == len("YYYY-MM-DD") and text[4] == text[7] == "-" else text
    if len(digits) != len("YYYYMMDD") or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _age(text: str) -> int | None:
    """Return a PatientAge (nnnD, nnnW, nnnM, nnnY) in days, None for any other text."""
    number, unit = text[:-1], text[-1:]
    if unit not in _DAYS or len(number) > len("nnn") or not (number.isascii() and number.isdigit()):
        return None
    return round(int(number) * _DAYS[unit])


def _adjusted(values: Mapping[str, str]) -> Iterator[str]:
    """Yield the keywords of values that CUBE does not get as they are."""
    for keyword in _TEXTS:
        if len(values[keyword]) > MOST[keyword]:
            yield keyword
    for keyword, is_kept in (
        ("PatientBirthDate", _day(values["PatientBirthDate"])),
        ("PatientAge", _age(values["PatientAge"]) is not None),
        ("PatientSex", values["PatientSex"] in _SEXES),
    ):
        if values[keyword] and not is_kept:
            yield keyword

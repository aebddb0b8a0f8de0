"""A folder of synthetic instances on which predecessors and we are compared, and what is to come out of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from listener.planning.template import compile_template
from listener.planning.template_functions import with_ages
from tests.instances import ABSENT, instance, save

#: root, study, series and image template of each layout that pypx has.
TEMPLATES = {
    "px311": (
        "%PatientID-%PatientName-%PatientBirthDate",
        "%StudyDescription-%AccessionNumber-%StudyDate",
        "%_pad|5,0_SeriesNumber-%SeriesDescription",
        "%_pad|4,0_InstanceNumber-%SOPInstanceUID.dcm",
    ),
    "px": (
        "%PatientID-%PatientName-%PatientBirthDate",
        "%StudyDescription-%AccessionNumber-%StudyDate",
        "%SeriesDescription-%_seahash|7_SeriesInstanceUID",
        "%_pad|4,0_InstanceNumber-%SOPInstanceUID.dcm",
    ),
}

#: patient, study, series, number of instances, attributes: ordinary ones, odd names, and missing tags where pypx is
#: sound (a missing tag before a function moves that function to another tag).
SERIES: tuple[tuple[int, int, int, int, dict[str, Any]], ...] = (
    (0, 0, 0, 3, {}),
    (0, 0, 1, 2, {"SeriesDescription": "  lead, runs   & <odd> / slashes\\ "[:-2]}),
    (0, 1, 0, 1, {"PatientAge": ABSENT}),
    (1, 0, 0, 2, {"PatientName": "O'Brien^Zoë=日本", "SpecificCharacterSet": "ISO_IR 192"}),
    (1, 1, 0, 1, {"PatientName": ABSENT, "PatientBirthDate": ABSENT, "PatientSex": ABSENT}),
    (2, 0, 0, 1, {"PatientID": " P 3.x ", "AccessionNumber": ABSENT, "StudyDescription": ABSENT}),
    (2, 1, 0, 1, {"InstanceNumber": ABSENT, "Modality": ABSENT, "SeriesDate": ABSENT}),
    (3, 0, 0, 2, {"SeriesNumber": "-7", "SeriesDescription": ["two", "values"]}),
)


@dataclass(frozen=True)
class Corpus:
    """The folder, and its data sets by file name."""

    folder: Path
    instances: dict[str, Dataset]

    def series(self) -> Counter[tuple[str, str]]:
        """The number of instances by study and series."""
        return Counter((str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)) for ds in self.instances.values())

    def studies_by_patient(self) -> dict[str, set[str]]:
        """Studies of each PatientID."""
        studies: dict[str, set[str]] = {}
        for ds in self.instances.values():
            studies.setdefault(text(ds, "PatientID"), set()).add(str(ds.StudyInstanceUID))
        return studies


def make(folder: Path) -> Corpus:
    """Write SERIES into a new folder."""
    folder.mkdir(parents=True)
    made = {}
    for patient, study, series, count, attributes in SERIES:
        for number in range(1, count + 1):
            ds = instance(patient, study, series, number, **attributes)
            name = f"MR.{ds.SOPInstanceUID}"
            save(ds, folder / name)
            made[name] = ds
    return Corpus(folder, made)


def text(ds: Dataset, keyword: str) -> str:
    """An attribute as pypx takes it from a file: str() of the value, trailing spaces gone as pydicom reads it."""
    return str(getattr(ds, keyword)).rstrip(" ")


def path_of(ds: Dataset, layout: str) -> str:
    """Where an instance belongs: our templates, pypx's rules (a missing tag stays, each component is sanitised)."""
    present = with_ages({keyword: text(ds, keyword) for keyword in ds.dir() if keyword != "PixelData"})
    parts = []
    for template in TEMPLATES[layout]:
        compiled = compile_template(template)
        raw = compiled.render({name: present.get(name, f"%{name}") for name in compiled.fields})
        parts.append(re.sub(r"[^A-Za-z0-9.\-]+", "_", raw))
    return "/".join(parts)


def tree(folder: Path) -> set[str]:
    """All files below a folder, relative."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

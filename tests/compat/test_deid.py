"""Recipes beside the real deid: the same fields are removed, blanked, kept and replaced, and the same labels describe
an instance, with the three recipes that it ships and with recipes made at random.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from listener.deidentify.faults import NotUnderstood, RecipeFailed
from listener.deidentify.profile import Rules
from listener.deidentify.recipe_file import read_recipes
from listener.deidentify.recipe_filter import matching, read, tags_of
from tests.compat import environments
from tests.compat.inside.printed import values
from tests.conftest import PROJECT
from tests.deidentify import planting
from tests.deidentify.rewriting_bench import KEYS, SUBJECT, job, rewritten

_VERSION = "0.4.13"
_SHIPPED = ("dicom", "dicom.ultrasound", "dicom.xray.chest")
_VARIABLES = {"arm": "left", "visit": "V2"}
_RECIPES, _ACTIONS = 120, 4

#: What listener says itself of what was done, and what an instance cannot be without: declared differences.
_OURS = {"00120062", "00120063", "00120064", "00280303", "00080016", "00080018", "0020000d", "0020000e"}

_FIELDS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "InstitutionName",
    "SeriesDescription",
    "00181030",
    "(0008,1010)",
    "contains:Date",
    "contains:Institution",
    "startswith:Patient",
    "startswith:Study",
    "endswith:Time",
    "endswith:Name",
    "select:VR:DA",
    "select:VR:LO",
    "select:GROUP:0010",
    "ALL",
)
_LITERALS = ("20010203", "NEW", "7")

#: Lists of values. None has a character that a regular expression gives a meaning: there deid means others, declared.
_LISTS = {
    "id": ["FIELD PatientID"],
    "name": ['SPLIT PatientName by="^"'],
    "long": ['SPLIT PatientName by="^";minlength=4'],
    "words": ["SPLIT ImageComments minlength=3", "FIELD contains:Institution"],
    "comma": ['SPLIT ImageComments by=", "'],
    "types": ["FIELD ImageType", "FIELD OtherPatientIDs"],
    "dates": ["FIELD select:VR:DA"],
    "nested": ["FIELD ProcedureCodeSequence__CodeMeaning", "SPLIT endswith:ProcedureStepDescription minlength=5"],
    "numbers": ["FIELD Rows", "FIELD SliceThickness"],
    "nothing": ["FIELD PatientWeight", 'SPLIT AccessionNumber minlength=3;by="x"'],
}

#: Those that stand in no sequence: deid fails where one of its values is to be replaced within one.
_TOP_LISTS = ("types", "numbers", "nothing")


def source(number: int) -> Dataset:
    """A data set with what recipes are about; `number` changes what filters look at."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number + 1}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.4", "1.2.5"
    made.StudyDate, made.SeriesDate, made.ContentDate = "20200131", "20200201", ""
    made.StudyTime, made.SeriesTime = "101010", "111111"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Plantagenet^Ann", "4711", "19471103"
    made.PatientSex, made.PatientAge, made.AccessionNumber = "F", "072Y", "A1"
    made.StudyDescription, made.SeriesDescription = "head", ("dose", "localizer", "t1", "")[number % 4]
    made.InstitutionName, made.InstitutionAddress, made.StationName = "Clinic", "Street 1", "ST1"
    made.ProtocolName, made.OperatorsName = "protocol", "Operator^Otto"
    made.Modality = ("CT", "MR", "US", "CR", "DX")[number % 5]
    made.Manufacturer = ("GE MEDICAL SYSTEMS", "SIEMENS", "Philips", "")[number % 4]
    made.ManufacturerModelName = ("LightSpeed VCT", "Sensation 64", "SOMATOM Definition AS+", "iE33")[number // 2 % 4]
    made.ImageType = (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "SCREEN SAVE"], ["OTHER"])[number % 3]
    if number % 2:
        made.BurnedInAnnotation = ("NO", "YES")[number // 2 % 2]
    made.Rows, made.Columns = ((512, 512), (800, 600))[number % 2]
    item = Dataset()
    item.CodeValue, item.CodeMeaning, item.StudyDate = "C1", "told", "20190101"
    made.ProcedureCodeSequence = Items([item])
    step = Dataset()
    step.RequestedProcedureID, step.ScheduledProcedureStepDescription = "A1", "head of PLANTAGENET"
    made.RequestAttributesSequence = Items([Dataset(), step])
    made.ImageComments, made.OtherPatientIDs = "Ann was told, 4711, 20200131", ["4711", "A1-7"]
    made.SliceThickness, made.PatientComments = "512", "derived, 5120"
    return made


def written(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"{number}.dcm"
        path.write_bytes(planting.file_of(source(number), planting.EXPLICIT))
        paths.append(path)
    return paths


def made_at_random(rng: random.Random) -> str:
    lines = ["FORMAT dicom", "%header"]
    for _ in range(rng.randint(1, _ACTIONS)):
        action, field = (
            rng.choice(("BLANK", "KEEP", "REMOVE", "REMOVE", "REPLACE", "JITTER", "ADD")),
            rng.choice(_FIELDS),
        )
        if action == "ADD":
            lines.append(f"ADD {rng.choice(('ClinicalTrialTimePointID', 'PatientComments'))} {rng.choice(_LITERALS)}")
        elif action == "JITTER":
            lines.append(
                f"JITTER {rng.choice(('StudyDate', 'SeriesDate', 'select:VR:DA'))} {rng.choice((-31, 5, 400))}"
            )
        elif action == "REPLACE":
            value = rng.choice((*_LITERALS, "var:arm", "var:visit"))
            lines.append(f"REPLACE {rng.choice(_FIELDS[:10])} {value}")
        else:
            lines.append(f"{action} {field}")
    return "\n".join(lines) + "\n"


def made_with_lists(rng: random.Random) -> str:
    """A recipe that means elements by their values, among other lines."""
    lines = made_at_random(rng).splitlines()
    # What is kept gives no value, and KEEP keeps within sequences too: declared.
    names = [name for name in sorted(_LISTS) if name != "nested" or "KEEP" not in "".join(lines)]
    for _ in range(rng.randint(1, 3)):
        action = rng.choice(("REMOVE", "BLANK", "REPLACE"))
        name = rng.choice(_TOP_LISTS if action == "REPLACE" else names)
        value = ("7" if name == "numbers" else rng.choice(("NEW", "var:arm"))) if action == "REPLACE" else ""
        lines.insert(rng.randint(2, len(lines)), f"{action} values:{name} {value}".strip())
    for name, entries in _LISTS.items():
        lines += [f"%values {name}", *entries]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of an environment with deid."""
    try:
        return environments.environment(f"deid-{_VERSION}", [f"deid=={_VERSION}"]) / "bin/python"
    except environments.Unreachable as error:
        pytest.skip(str(error))


def asked(python: Path, headers: list[Any], filters: list[Any]) -> Any:
    script = PROJECT / "tests/compat/inside/deid_recipes.py"
    told = subprocess.run(
        [str(python), str(script)],
        input=json.dumps({"headers": headers, "filters": filters}),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return json.loads(told.stdout.rpartition("\n")[2])


def cleaned(folder: Path, text: str, path: Path) -> dict[str, str] | None:
    """What ours makes of it; None where it holds the instance."""
    (folder / "recipe").write_text(text)
    rules = Rules(recipe=read_recipes([str(folder / "recipe")], has_values=True).header, is_basic=False)
    work = job()._replace(rules=rules)
    subject = SUBJECT._replace(values=tuple(_VARIABLES.items()))
    work = work._replace(replacer=work.replacer.__class__(KEYS, subject, frozenset()))
    with contextlib.suppress(RecipeFailed, NotUnderstood):
        _, out = rewritten(folder, path.read_bytes(), work)
        return dict(values(pydicom.dcmread(planting.buffer(out))))
    return None


@pytest.mark.parametrize("made", [made_at_random, made_with_lists])
def test_headers_are_changed_as_by_deid(python: Path, tmp_path: Path, made: Callable[[random.Random], str]) -> None:
    rng = random.Random(15)
    (path,) = written(tmp_path, 1)
    recipes = [made(rng) for _ in range(_RECIPES)]
    theirs = asked(python, [[text, str(path), _VARIABLES] for text in recipes], [])["headers"]
    differences, held = [], 0
    for text, wanted in zip(recipes, theirs, strict=True):
        found = cleaned(tmp_path, text, path)
        if found is None or wanted is None:
            held += 1
            continue
        differences += [
            f"{name}: {found.get(name)!r}, deid {wanted.get(name)!r}, by\n{text}"
            for name in sorted(found.keys() | wanted.keys())
            # Of a kept sequence each element is decided anew here: declared.
            if found.get(name) != wanted.get(name) and name[:8] not in _OURS and not ("." in name and "KEEP" in text)
        ]
    assert not differences, f"{len(differences)} differences\n" + "\n".join(differences[:12])
    assert held < _RECIPES // 4, "what is held is not compared"


def test_shipped_filters_describe_the_same_instances(python: Path, tmp_path: Path) -> None:
    paths = written(tmp_path, 60)
    folder = next((python.parent.parent / "lib").glob("python*/site-packages/deid/data"))
    theirs = asked(python, [], [[name, [str(path) for path in paths]] for name in _SHIPPED])["filters"]
    matched = 0
    for name, wanted in zip(_SHIPPED, theirs, strict=True):
        labels = read_recipes([str(folder / f"deid.{name}")], has_values=True).labels
        tags = tags_of(labels)
        for path, expected in zip(paths, wanted, strict=True):
            found = matching(labels, read(str(path), tags))
            assert sorted([one.section, one.has_coordinates] for one in found) == expected, (name, path.name)
            matched += len(expected)
    assert matched > 100

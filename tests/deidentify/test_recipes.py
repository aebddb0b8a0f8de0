"""Recipes of deid: what their lines do, what is refused, and what filters say."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from listener.deidentify.faults import RecipeFailed
from listener.deidentify.profile import Rules
from listener.deidentify.recipe_file import Recipes, read_recipes
from listener.deidentify.recipe_filter import Filters, Verdict, matching, read, verdict
from listener.dicom.attributes import Limits
from listener.dicom.fast_walk import Elements
from listener.dicom.reader import Wanted, read_header
from listener.disk.files import opened
from listener.errors import ConfigError
from tests.deidentify import planting
from tests.deidentify.collection import Collection
from tests.deidentify.rewriting_bench import KEYS, SUBJECT, job, rewritten


def recipes(folder: Path, text: str, *, has_values: bool = True) -> Recipes:
    path = folder / "deid.test"
    path.write_text(text)
    return read_recipes([str(path)], has_values=has_values)


def header(*lines: str) -> str:
    return "\n".join(["FORMAT dicom", "%header", *lines])


def source() -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    made.StudyDate, made.StudyTime, made.Modality = "20200131", "101010", "MR"
    made.PatientName, made.PatientID = "Plantagenet^Ann", "4711"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.4", "1.2.5"
    made.Rows, made.EchoTime = 4, "1.5"
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.CodeMeaning = "1.2.9", "told"
    made.ReferencedImageSequence = Sequence([item])
    made.add(DataElement(0x00290010, "LO", "ACME"))
    made.add(DataElement(0x00291001, "LO", "secret"))
    return made


def cleaned(folder: Path, *lines: str, profile: str = "none", remembers: bool = False) -> Dataset:
    found = recipes(folder, header(*lines))
    rules = Rules(recipe=found.header, is_basic=profile == "basic")
    subject = SUBJECT._replace(values=(("arm", "left"), ("days", "-3")))
    work = job()._replace(rules=rules)
    work = work._replace(replacer=work.replacer.__class__(KEYS, subject, frozenset()))
    if remembers:
        work = work._replace(memories={})
    out = b""
    for _ in range(2 if remembers else 1):
        _, out = rewritten(folder, planting.file_of(source(), planting.EXPLICIT), work)
    return pydicom.dcmread(planting.buffer(out))


@pytest.mark.parametrize("remembers", [False, True])
def test_a_recipe_alone_does_what_it_says_and_nothing_else(tmp_path: Path, remembers: bool) -> None:
    made = cleaned(
        tmp_path,
        "REMOVE PatientName # a comment",
        "BLANK StudyTime",
        "REPLACE PatientID func:pseudonym",
        "REPLACE Rows 8",
        "REPLACE StudyInstanceUID func:uid",
        "JITTER StudyDate 1",
        "ADD SeriesDescription var:arm",
        "ADD PatientIdentityRemoved YES",
        "REMOVE ReferencedImageSequence__ReferencedSOPInstanceUID",
        'REMOVE (0029,"ACME",01)',
        remembers=remembers,
    )
    assert "PatientName" not in made
    assert made.StudyTime == ""
    assert made.PatientID == SUBJECT.pseudonym
    assert made.Rows == 8
    assert made.StudyInstanceUID == KEYS.uid("1.2.4")
    assert made.StudyDate == "20200201"
    assert made.SeriesDescription == "left"
    assert made.SeriesInstanceUID == "1.2.5"
    (item,) = made.ReferencedImageSequence
    assert "ReferencedSOPInstanceUID" not in item
    assert item.CodeMeaning == "told"
    assert 0x00291001 not in made
    assert 0x00290010 in made


@pytest.mark.parametrize(
    ("lines", "is_basic", "told"),
    [
        (["REMOVE PatientName"], True, ""),
        (["REMOVE PatientName"], False, "UNMODIFIED"),
        (["KEEP endswith:Date"], True, "UNMODIFIED"),
        (["KEEP StudyDate"], True, "MODIFIED"),
        (["REMOVE endswith:Date"], False, "REMOVED"),
        (["JITTER endswith:Date 1"], False, "MODIFIED"),
    ],
)
def test_how_dates_are_treated_is_told(tmp_path: Path, lines: list[str], is_basic: bool, told: str) -> None:
    assert recipes(tmp_path, header(*lines)).header.temporal(is_basic=is_basic) == told


@pytest.mark.parametrize(
    ("lines", "date"),
    [
        (["REMOVE StudyDate", "REPLACE StudyDate 20010101"], "20010101"),
        (["REPLACE StudyDate 20010101", "REMOVE StudyDate"], "20010101"),
        (["REPLACE StudyDate 20010101", "JITTER StudyDate 1"], "20010102"),
        (["JITTER StudyDate 1", "REPLACE StudyDate 20010101"], "20010101"),
        (["JITTER StudyDate 1", "JITTER StudyDate 2"], "20200203"),
        (["REMOVE ALL", "JITTER StudyDate var:days"], "20200128"),
        (["KEEP StudyDate", "REMOVE ALL", "REPLACE StudyDate 20010101"], "20200131"),
        (["BLANK StudyDate", "JITTER StudyDate 1"], ""),
        (["JITTER StudyDate 1", "BLANK StudyDate"], ""),
        (["BLANK StudyDate", "REPLACE StudyDate 20010101"], "20010101"),
        (["REMOVE StudyDate", "BLANK StudyDate"], None),
        (["REMOVE StudyDate", "ADD StudyDate 20010101"], "20010101"),
        (["KEEP StudyDate", "ADD StudyDate 20010101", "JITTER StudyDate 1"], "20010102"),
        (["ADD StudyDate 20010101", "KEEP StudyDate"], "20010101"),
        (["ADD StudyDate 20010101", "REMOVE StudyDate"], None),
        (["JITTER StudyDate func:shift"], "20200114"),
        (["REPLACE StudyDate func:shift"], "20200114"),
        (["REPLACE StudyDate deid_func:jitter days=2"], "20200202"),
        (["REMOVE endswith:date"], None),
        (["REMOVE startswith:Study"], None),
        (["REMOVE contains:ydat"], None),
        (["REMOVE (0008,0020)"], None),
        (["REMOVE 00080020"], None),
        (["REMOVE select:VR:DA"], None),
        (["REMOVE select:GROUP:0008"], None),
        (["REMOVE except:Modality"], None),
        (["REMOVE except:StudyDate"], "20200131"),
        (["REMOVE fields:mine", "%fields mine", "FIELD contains:Date"], None),
    ],
)
def test_lines_work_together_as_with_deid(tmp_path: Path, lines: list[str], date: str | None) -> None:
    assert cleaned(tmp_path, *lines).get("StudyDate") == date


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["ADD PatientComments x"], "x"),
        (["BLANK ALL", "ADD PatientComments x"], "x"),
        (["ADD PatientComments x", "BLANK startswith:Patient"], ""),
        (["ADD PatientComments x", "REMOVE ALL"], None),
        (["ADD PatientComments x", "ADD PatientComments y"], "y"),
        (["ADD PatientComments x", "REPLACE PatientComments y", "REMOVE ALL"], "y"),
    ],
)
def test_what_is_added_is_as_any_other_from_then_on(tmp_path: Path, lines: list[str], value: str | None) -> None:
    assert cleaned(tmp_path, *lines).get("PatientComments") == value


def test_with_the_profile_lines_change_what_they_name(tmp_path: Path) -> None:
    made = cleaned(tmp_path, "KEEP StudyDate", "REMOVE EchoTime", profile="basic")
    assert made.StudyDate == "20200131"
    assert "EchoTime" not in made
    assert made.StudyInstanceUID == KEYS.uid("1.2.4")
    assert 0x00291001 not in made
    assert [code.CodeValue for code in made.DeidentificationMethodCodeSequence] == ["113100"]


def test_an_instance_stays_one_whatever_is_removed(tmp_path: Path) -> None:
    made = cleaned(tmp_path, "REMOVE ALL")
    assert made.SOPInstanceUID == KEYS.uid("1.2.3")
    assert (made.StudyInstanceUID, made.SeriesInstanceUID) == (KEYS.uid("1.2.4"), KEYS.uid("1.2.5"))
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
    assert "PatientName" not in made


@pytest.mark.parametrize(
    "function", ["basic_uuid", "suffix_uuid", "pydicom_uuid prefix=1.2.826.", "dicom_uuid org_root=1.2.826"]
)
def test_what_deid_draws_is_derived(tmp_path: Path, function: str) -> None:
    field = "StudyInstanceUID" if "_uuid " in function else "PatientID"
    made = [cleaned(tmp_path, f"REPLACE {field} deid_func:{function}")[field].value for _ in range(2)]
    assert made[0] == made[1] != source()[field].value
    if field == "StudyInstanceUID":
        assert pydicom.uid.UID(made[0]).is_valid


@pytest.mark.parametrize(
    "line",
    [
        "JITTER StudyTime 1",
        "JITTER PatientID 1",
        "REPLACE PatientID var:missing",
        "REPLACE PatientID func:missing",
        "REPLACE Rows many",
        "REPLACE Rows 99999999",
        "REPLACE contains:ImageSequence x",
        "JITTER StudyDate var:arm",
        "JITTER StudyDate -99999",
    ],
)
def test_where_deid_would_keep_the_original_the_instance_is_held(tmp_path: Path, line: str) -> None:
    with pytest.raises(RecipeFailed, match="line "):
        cleaned(tmp_path, *[line] * 8)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FORMAT nifti", 1),
        ("%header\nDESTROY PatientID", 2),
        ("%header\nremove PatientID", 2),
        ("%header\nREMOVE", 2),
        ("%header\nREPLACE PatientID", 2),
        ("%header\nREPLACE PatientID Zürich", 2),
        ("%header\nREMOVE PatientID func:is_thing", 2),
        ("%header\nREMOVE contains:[", 2),
        ("%header\nREMOVE sounds:PatientID", 2),
        ("%header\nREMOVE values:none", 2),
        ("%header\nREMOVE fields:none", 2),
        ("%header\nREMOVE select:color:red", 2),
        ("%header\nJITTER StudyDate soon", 2),
        ("%header\nADD contains:Patient x", 2),
        ("%header\nADD NotAnAttribute x", 2),
        ("%header\nADD PixelData x", 2),
        ("%header\nADD DeidentificationMethod mine", 2),
        ("%header\nADD TransferSyntaxUID 1.2", 2),
        ("%header\nREPLACE ReferencedImageSequence x", 2),
        ("%header\nREPLACE PatientID deid_func:magic", 2),
        ("%header\nREPLACE PatientID deid_func:dicom_uuid", 2),
        ("%header\nREPLACE PatientID deid_func:jitter weeks=1", 2),
        ("%header x\nREMOVE PatientID", 1),
        ("%filter\nLABEL x", 1),
        ("%labels\nADD PatientID x", 1),
        ("%fields mine\nSPLIT PatientID", 2),
        ("REMOVE PatientID", 1),
        ("%filter graylist\ncontains Modality CT", 2),
        ("%filter graylist\nLABEL x\nresembles Modality CT", 3),
        ("%filter graylist\nLABEL x\ncontains Modality", 3),
        ("%filter graylist\nLABEL x\ncontains Modality [", 3),
        ("%filter graylist\nLABEL x\nmissing 0x00", 3),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError) as refused:
        recipes(tmp_path, text)
    assert any(f"line {line} of 'deid.test'" in problem for problem in refused.value.problems)


def test_values_that_nobody_gives_are_refused(tmp_path: Path) -> None:
    for line in ("ADD PatientID var:entity_id", "REPLACE PatientID func:mine"):
        with pytest.raises(ConfigError, match="nobody gives"):
            recipes(tmp_path, header(line), has_values=False)
    recipes(tmp_path, header("REPLACE PatientID func:pseudonym"), has_values=False)


def test_a_byte_order_mark_and_other_ends_of_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "deid").write_bytes("\ufeffFORMAT dicom\r\n%header\r\nREMOVE PatientID\r\n".encode())
    assert len(read_recipes([str(tmp_path / "deid")], has_values=False).header.lines) == 1


_WORDS = ("%", "FORMAT dicom", "header", "filter x", "LABEL", "contains", "Modality", "||", "REMOVE", "\n", "([:#")


@given(st.lists(st.sampled_from(_WORDS)))
def test_any_text_is_a_recipe_or_refused_by_line(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "words"
    path.write_text(" ".join(words))
    with contextlib.suppress(ConfigError):
        read_recipes([str(path)], has_values=True)


# -- filters -----------------------------------------------------------------------------------------------------------

_FILTERS = """
FORMAT dicom
%filter whitelist
LABEL clean
  contains BurnedInAnnotation No
%filter graylist
LABEL gray # somebody
  contains Modality MR|CT
  + contains ImageType SECONDARY || contains SeriesDescription Dose
%filter blacklist
LABEL black
  equals Modality xa
LABEL nobody
  missing PatientID
%filter mine
LABEL region
  coordinates 0,0,10,10
  present EchoTime
"""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict()),
        ({"BurnedInAnnotation": "NO", "ImageType": ["DERIVED", "SECONDARY"]}, Verdict("pass", "clean")),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, Verdict("held", "gray")),
        ({"SeriesDescription": "dose report"}, Verdict("held", "gray")),
        ({"Modality": "XA"}, Verdict("filtered", "black")),
        ({"Modality": "XA", "BurnedInAnnotation": "NO"}, Verdict("pass", "clean")),
        ({"PatientID": None}, Verdict("filtered", "nobody")),
        ({"EchoTime": "1"}, Verdict("held", "region")),
    ],
)
def test_what_filters_say(tmp_path: Path, changes: dict[str, Any], expected: Verdict) -> None:
    labels = recipes(tmp_path, _FILTERS).labels
    made = Dataset()
    made.Modality, made.PatientID = "MR", "1"
    for keyword, value in changes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    assert verdict(labels, made) == expected


def test_a_label_of_coordinates_alone_describes_everything(tmp_path: Path) -> None:
    labels = recipes(tmp_path, "%filter graylist\nLABEL all\ncoordinates all\nLABEL empty\n").labels
    assert [label.name for label in matching(labels, Dataset())] == ["all"]


# -- in the stage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_instances_are_filtered_held_and_pass(
    collection: Collection, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "deid.filters"
    recipe.write_text(
        "%filter blacklist\nLABEL dose\ncontains SeriesDescription dose\n"
        "%filter graylist\nLABEL strange\nequals PatientPosition FFS\n"
        "%filter whitelist\nLABEL known\nequals Modality US\n"
        "%header\nREPLACE PatientComments checked\n"
    )
    collection.add(0, 1)
    collection.add(0, 2, SeriesDescription="Dose report")
    collection.add(0, 3, PatientPosition="FFS")
    collection.add(0, 4, Modality="US")
    collection.end()
    assert collection.deidentify("once", "--recipe", str(recipe)) == 1
    assert '"filtered":1' in capfd.readouterr().out
    made = collection.datasets()
    assert len(made) == 2
    assert {one.PatientComments for one in made} == {"checked"}
    collection.deidentify("held", "--json")
    row = json.loads(capfd.readouterr().out)
    assert (row["reason"], row["detail"]) == ("filter", "strange")
    collection.deidentify("evidence", "--json", "--recipe", str(recipe))
    assert json.loads(capfd.readouterr().out)["filtered"] == {"dose": 1}


def test_a_verdict_that_is_remembered_is_the_one_that_would_be_given(tmp_path: Path) -> None:
    found = recipes(
        tmp_path,
        "%filter blacklist\nLABEL one\nequals Modality MR\n+ contains ImageType SECONDARY\nLABEL rows\nequals Rows 4\n"
        "%filter graylist\nLABEL referenced\ncontains ReferencedImageSequence told\nLABEL none\nmissing Modality\n",
    )
    filters, given_of = Filters(found.labels), set[str]()
    wanted = Wanted(("SOPInstanceUID",), filters.tags)
    for number in range(60):
        made = source()
        made.ImageType = ["ORIGINAL", ("PRIMARY", "SECONDARY")[number % 2]]
        made.Rows = (4, 1024, 5)[number % 3]
        if number % 5:
            del made.ReferencedImageSequence
        if not number % 7:
            del made.Modality
        path = tmp_path / "instance"
        path.write_bytes(planting.file_of(made, planting.SYNTAXES[number % len(planting.SYNTAXES)]))
        with opened(str(path)) as descriptor:
            raw: Elements = {}
            header = read_header(descriptor, path.stat().st_size, wanted, Limits(), raw)
        told = filters.verdict(str(path), header, raw)
        assert told == verdict(found.labels, read(str(path), filters.tags))
        given_of.add(told.label)
    assert given_of == {"", "one", "rows", "referenced", "none"}


def test_all_that_is_filtered_is_no_unit_and_nothing_is_left_to_do(collection: Collection, tmp_path: Path) -> None:
    recipe = tmp_path / "deid.filters"
    recipe.write_text("%filter blacklist\nLABEL all\npresent Modality\n")
    collection.add(0, 1)
    collection.end()
    assert collection.deidentify("once", "--recipe", str(recipe)) == 0
    assert collection.handed() == []
    assert collection.consumer().failed == 0


def test_what_a_recipe_keeps_is_no_original_and_the_rest_is_still_looked_for(
    collection: Collection, tmp_path: Path
) -> None:
    recipe = tmp_path / "deid.keep"
    recipe.write_text("%header\nKEEP PatientID\nREMOVE PatientName\n")
    for series, part in ((0, "HEAD"), (1, "PLANTAGENET")):
        (path,) = collection.add(series, 1)
        made = source()
        made.PatientID, made.BodyPartExamined = "4711815", part
        made.StudyInstanceUID, made.SeriesInstanceUID = collection.study(), collection.uid(series)
        made.SOPInstanceUID = pydicom.dcmread(path).SOPInstanceUID
        path.write_bytes(planting.file_of(made, planting.EXPLICIT))
    collection.end()
    assert collection.deidentify("once", "--recipe", str(recipe)) == 1
    (passed,) = collection.datasets()
    assert (passed.PatientID, passed.BodyPartExamined) == ("4711815", "HEAD")
    assert len(passed.get("DeidentificationMethodCodeSequence", [])) == 0

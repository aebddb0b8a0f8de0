"""Lists of values in recipes: which values they take, which elements contain one, and that what was found in one
instance says nothing of the next one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from listener.deidentify.jobs import Job
from listener.deidentify.profile import Rules
from listener.deidentify.recipe import Where
from listener.deidentify.recipe_file import read_recipes
from listener.deidentify.recipe_lists import Leaf, gathered, texts
from listener.errors import ConfigError
from tests.deidentify import planting
from tests.deidentify.collection import Collection
from tests.deidentify.rewriting_bench import SUBJECT, job, rewritten

_LIST = '%values mine\nSPLIT PatientName by="^";minlength=3\nFIELD PatientID\n'


def source() -> Dataset:
    """An instance of whose patient other elements tell, in sequences too."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.4", "1.2.5"
    made.PatientName, made.PatientID, made.StudyDate = "Plantagenet^Ann^O", "4711", "20200131"
    made.StudyDescription, made.SeriesDescription = "knee of PLANTAGENET", "annotated"
    made.OtherPatientIDs, made.Rows, made.EchoTime = ["A1", "B4711"], 4711, "1.5"
    inner, item, other = Dataset(), Dataset(), Dataset()
    inner.CodeMeaning, inner.CodeValue = "of ann", "C1"
    item.ConceptNameCodeSequence = Sequence([inner])
    other.CodeMeaning, other.CodeValue = "told", "C2"
    made.ProcedureCodeSequence, made.AnatomicRegionSequence = Sequence([Dataset(), item]), Sequence([other])
    made.add(DataElement(0x00290010, "LO", "ACME"))
    made.add(DataElement(0x00291001, "UN", b"\1\0ann\0"))
    return made


def work_of(folder: Path, text: str, *, is_basic: bool = False) -> Job:
    (folder / "recipe").write_text(text)
    rules = Rules(recipe=read_recipes([str(folder / "recipe")], has_values=False).header, is_basic=is_basic)
    return job()._replace(rules=rules)


def cleaned(folder: Path, text: str, made: Dataset | None = None, syntax: str = planting.EXPLICIT) -> Dataset:
    _, out = rewritten(folder, planting.file_of(made or source(), syntax), work_of(folder, text))
    return pydicom.dcmread(io.BytesIO(out))


@pytest.mark.parametrize("syntax", planting.SYNTAXES)
def test_elements_that_contain_a_value_are_meant(tmp_path: Path, syntax: str) -> None:
    made = cleaned(tmp_path, f"{_LIST}%header\nREMOVE values:mine\n", syntax=syntax)
    gone = {"PatientName", "PatientID", "StudyDescription", "SeriesDescription", "OtherPatientIDs", "Rows"}
    assert gone.isdisjoint(made.dir())
    assert "ProcedureCodeSequence" not in made
    assert 0x00291001 not in made
    assert made.AnatomicRegionSequence[0].CodeMeaning == "told"
    assert (made.StudyDate, made.EchoTime, made.StudyInstanceUID) == ("20200131", 1.5, "1.2.4")


@pytest.mark.parametrize("is_undefined", [False, True])
def test_within_a_sequence_only_what_contains_a_value_is_replaced(tmp_path: Path, is_undefined: bool) -> None:
    made = source()
    made["ProcedureCodeSequence"].is_undefined_length = is_undefined
    for item in made.ProcedureCodeSequence:
        item.is_undefined_length_sequence_item = is_undefined
    made.TextValue = "ann " * 30000
    found = cleaned(tmp_path, f"{_LIST}%header\nREMOVE Rows\nREPLACE values:mine NEW\n", made)
    inner = found.ProcedureCodeSequence[1].ConceptNameCodeSequence[0]
    assert (inner.CodeMeaning, inner.CodeValue) == ("NEW", "C1")
    assert (found.PatientName, found.SeriesDescription, found.TextValue) == ("NEW", "NEW", "NEW")
    assert 0x00291001 not in found, "what has no text that could be another one"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["REMOVE values:mine"], None),
        (["BLANK values:mine"], ""),
        (["REPLACE values:mine NEW"], "NEW"),
        (["REPLACE values:mine NEW", "REMOVE PatientID"], None),
        (["REPLACE PatientID NEW", "REMOVE values:mine"], "NEW"),
        (["REPLACE PatientID NEW", "BLANK values:mine"], "NEW"),
        (["REPLACE PatientID 14711", "BLANK values:mine"], ""),
        (["BLANK values:mine", "REPLACE PatientID NEW"], "NEW"),
        (["BLANK values:mine", "REPLACE values:mine NEW"], ""),
        (["REMOVE PatientID", "REPLACE values:mine NEW"], None),
        (["REPLACE PatientID func:pseudonym", "REPLACE values:mine NEW"], SUBJECT.pseudonym),
        (["KEEP PatientID", "REMOVE values:mine"], "4711"),
        (["REMOVE values:other"], "4711"),
        (["REPLACE values:mine NEW", "REPLACE values:mine OLD"], "NEW"),
    ],
)
def test_a_line_means_elements_as_they_are_when_its_turn_comes(
    tmp_path: Path, lines: list[str], expected: str | None
) -> None:
    text = "\n".join([_LIST, "%values other", "FIELD StudyDate", "%header", "REMOVE Rows", *lines])
    assert cleaned(tmp_path, text).get("PatientID") == expected


def test_what_is_kept_gives_no_value(tmp_path: Path) -> None:
    made = cleaned(tmp_path, "%header\nKEEP PatientID\nREMOVE values:mine\n%values mine\nFIELD PatientID\n")
    assert made.OtherPatientIDs == ["A1", "B4711"]


def test_a_value_is_a_text_and_no_regular_expression(tmp_path: Path) -> None:
    made = source()
    made.PatientID = "1.2.[4"
    found = cleaned(tmp_path, "%header\nREMOVE values:mine\n%values mine\nFIELD PatientName\nFIELD PatientID\n", made)
    assert "PatientName" not in found
    assert "PatientID" not in found
    assert found.SeriesInstanceUID == "1.2.5"


def test_what_is_added_is_looked_at_too(tmp_path: Path) -> None:
    text = "%header\nADD PatientComments x4711\nREMOVE values:mine\n%values mine\nFIELD PatientID\n"
    assert "PatientComments" not in cleaned(tmp_path, text)
    assert cleaned(tmp_path, text.replace("x4711", "x")).PatientComments == "x"


def test_an_instance_stays_one(tmp_path: Path) -> None:
    text = "%header\nREMOVE values:mine\n%values mine\nFIELD StudyInstanceUID\nFIELD SOPInstanceUID\n"
    made = cleaned(tmp_path, text)
    assert made.StudyInstanceUID not in ("", "1.2.4")
    assert made.SeriesInstanceUID == "1.2.5"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["FIELD PatientName"], {"Plantagenet^Ann^O"}),
        (['SPLIT PatientName by="^"'], {"Plantagenet", "Ann", "O"}),
        (['SPLIT PatientName by="^";minlength=3 # short ones'], {"Plantagenet", "Ann"}),
        (["SPLIT PatientName minlength=4; by='^'"], {"Plantagenet"}),
        (["SPLIT PatientName by=^"], {"Plantagenet", "Ann", "O"}),
        (["SPLIT StudyDescription"], {"knee", "of", "PLANTAGENET"}),
        (['SPLIT StudyDescription by=" of "'], {"knee", "PLANTAGENET"}),
        (['SPLIT StudyDescription by="f P"'], {"knee o", "LANTAGENET"}),
        (["FIELD OtherPatientIDs"], {"A1", "B4711"}),
        (["FIELD Rows", "FIELD EchoTime"], {"4711", "1.5"}),
        (["FIELD select:VR:DA"], {"20200131"}),
        (["FIELD ConceptNameCodeSequence"], set()),
        (["FIELD endswith:CodeMeaning"], {"of ann", "told"}),
        (["SPLIT endswith:CodeMeaning minlength=3"], {"ann", "told"}),
        (["FIELD PatientWeight", "FIELD PatientComments", "SPLIT ImageComments"], set()),
        (['FIELD (0029,"ACME",01)'], set()),
        (["FIELD fields:names", "%fields names", "FIELD startswith:Patient"], {"Plantagenet^Ann^O", "4711"}),
    ],
)
def test_values_that_a_list_takes(tmp_path: Path, entries: list[str], expected: set[str]) -> None:
    sections = entries[1:] if entries[1:2] == ["%fields names"] else []
    lines = entries[:1] if sections else entries
    text = "\n".join([*sections, "%values mine", *lines, "%header", "REMOVE values:mine"])
    recipe = work_of(tmp_path, text).rules.recipe
    made = source()
    made.PatientComments, made.ImageComments = "", "  "
    leaves = list(_leaves(made))
    assert gathered(recipe, leaves).values.get(recipe.lists[0], frozenset()) == expected


def _leaves(dataset: Dataset, path: tuple[int, ...] = ()) -> Any:
    for element in dataset:
        here = (*path, int(element.tag))
        if element.VR == "SQ":
            for item in element.value:
                yield from _leaves(item, here)
            continue
        made = Dataset()
        made.add(element)
        raw = planting.encoded(made, planting.IMPLICIT)[8:]
        creator = "ACME" if element.tag.is_private else ""
        yield Leaf(Where(here, element.VR, creator), element.VR, raw)


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("LO", b"a\\b ", ["a", "b"]),
        ("LT", b"a\\b ", ["a\\b"]),
        ("LO", b" \\ ", []),
        ("US", b"\1\2\3\0", ["513", "3"]),
        ("FD", b"\0\0\0\0\0\0\xf8\x3f", ["1.5"]),
        ("AT", b"\x10\0\x20\0", ["(0010,0020)"]),
        ("US", b"\1", []),
        ("OW", b"an", []),
        ("OB", b"an\xff\0", ["an\xff"]),
        ("PN", "Zoë".encode("latin-1"), ["Zoë"]),
    ],
)
def test_values_as_texts(vr: str, raw: bytes, expected: list[str]) -> None:
    assert texts(Leaf(Where((0x00100020,), vr), vr, raw, b"ISO_IR 100")) == expected


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        ("ISO_IR 100", "Zoë^Müller"),
        ("ISO_IR 144", "Люкceмбypг"),  # noqa: RUF001
        ("ISO_IR 192", "山田^Müller"),
        ("GB18030", "王^小东"),
        (["", "ISO 2022 IR 87"], "山田^太郎"),
        (["", "ISO 2022 IR 149"], "김^희중"),
    ],
)
def test_names_are_found_in_the_character_set_of_the_instance(
    tmp_path: Path, terms: str | list[str], name: str
) -> None:
    made = source()
    made.SpecificCharacterSet, made.PatientName = terms, name
    made.ImageComments = f"of {name.split('^', maxsplit=1)[0].upper()} today"
    text = '%header\nREMOVE values:mine\n%values mine\nSPLIT PatientName by="^"\n'
    assert "ImageComments" not in cleaned(tmp_path, text, made)


def test_an_item_has_a_character_set_of_its_own(tmp_path: Path) -> None:
    made = source()
    made.SpecificCharacterSet, made.PatientName = "ISO_IR 100", "Müller"
    items = [Dataset(), Dataset()]
    items[0].SpecificCharacterSet, items[0].CodeMeaning = "ISO_IR 192", "Müller"
    items[1].CodeMeaning = "Müller"
    made.ProcedureCodeSequence = Sequence(items)
    found = cleaned(tmp_path, "%header\nREPLACE values:mine NEW\n%values mine\nFIELD PatientName\n", made)
    assert [item.CodeMeaning for item in found.ProcedureCodeSequence] == ["NEW", "NEW"]


def test_what_was_found_in_one_instance_says_nothing_of_the_next(tmp_path: Path) -> None:
    """Instances of one series, with other values in their lists, through one memory and apart."""
    text = f"{_LIST}%header\nREMOVE values:mine\nADD PatientComments Ann\n"
    remembering = work_of(tmp_path, text)._replace(memories={})
    for number in range(24):
        made = source()
        made.SOPInstanceUID = f"1.2.3.{number}"
        made.PatientName = ("Ann", "Knee^X", "Ann")[number // 3 % 3]
        made.SeriesDescription = ("annotated", "knee", "told")[number % 3]
        data = planting.file_of(made, planting.SYNTAXES[number // 12])
        kept, out = rewritten(tmp_path, data, remembering)
        alone, expected = rewritten(tmp_path, data, work_of(tmp_path, text))
        assert out == expected
        assert alone.found <= kept.found
        assert alone.done == kept.done


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%values mine\nSPLIT PatientName by=", 2),
        ('%values mine\nSPLIT PatientName by=""', 2),
        ("%values mine\nSPLIT PatientName minlength=0", 2),
        ("%values mine\nSPLIT PatientName minlength=few", 2),
        ('%values mine\nSPLIT PatientName by="^" by=" "', 2),
        ('%values mine\nSPLIT PatientName by="^";by=" "', 2),
        ("%values mine\nSPLIT PatientName most=4", 2),
        ("%values mine\nSPLIT", 2),
        ("%values mine\nTAKE PatientName", 2),
        ("%values mine\nFIELD values:mine", 2),
        ("%values mine\nFIELD SourceApplicationEntityTitle", 2),
        ("%values\nFIELD PatientName", 1),
        ("%fields mine\nSPLIT PatientName", 2),
        ("%fields mine\nFIELD values:other\n%values other\nFIELD PatientName", 2),
        ("%values mine\nFIELD PatientID\n%header\nKEEP values:mine", 4),
        ("%values mine\nFIELD PatientID\n%header\nADD values:mine x", 4),
        ("%values mine\nFIELD PatientID\n%header\nREMOVE values:other", 4),
        ("%header\nREMOVE values:mine\n%values mine", 2),
    ],
)
def test_lists_that_cannot_be_honoured_are_refused(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError) as refused:
        work_of(tmp_path, text)
    assert [problem for problem in refused.value.problems if f"line {line} of" in problem]


def test_labels_are_refused_once_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        work_of(tmp_path, "%labels\nADD PatientComments x\nADD ImageComments y\n")
    assert len(refused.value.problems) == 1
    assert "%header" in refused.value.problems[0]


@pytest.mark.parametrize(
    ("line", "is_weaker", "temporal"),
    [
        ("REMOVE values:mine", False, ""),
        ("BLANK values:mine", False, ""),
        ("REPLACE values:mine NEW", False, ""),
        ("REPLACE values:mine func:uid", True, ""),
        ("JITTER values:mine 5", True, "MODIFIED"),
    ],
)
def test_whether_a_recipe_is_weaker_than_the_profile(tmp_path: Path, line: str, is_weaker: bool, temporal: str) -> None:
    recipe = work_of(tmp_path, f"{_LIST}%header\n{line}\n").rules.recipe
    assert recipe.is_weaker == is_weaker
    assert recipe.temporal(is_basic=True) == temporal


# -- in the stage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comments", "is_held"), [(("4711815", ""), True), (("", "4711815"), True), (("4711815", "4711815"), False)]
)
def test_what_went_by_its_value_is_an_original_also_without_a_profile(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], comments: tuple[str, str], is_held: bool
) -> None:
    collection = Collection(tmp_path)
    recipe = tmp_path / "deid"
    recipe.write_text("%header\nREMOVE values:mine\n%values mine\nFIELD PatientComments\n")
    for path, comment in zip(collection.add(0, 1, 2), comments, strict=True):
        made = source()
        made.PatientID, made.PatientComments = "4711815", comment
        made.StudyInstanceUID, made.SeriesInstanceUID = collection.study(), collection.uid(0)
        made.SOPInstanceUID = pydicom.dcmread(path).SOPInstanceUID
        path.write_bytes(planting.file_of(made, planting.EXPLICIT))
    collection.end()
    assert collection.deidentify("once", "--recipe", str(recipe), "--profile", "none") == int(is_held)
    assert ["PatientID" in one for one in collection.datasets()] == ([] if is_held else [False, False])
    collection.deidentify("held", "--json")
    told = capfd.readouterr()
    assert ('"residual"' in told.out) == is_held
    assert "4711815" not in told.out + told.err


def test_the_profile_does_the_rest_and_no_value_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    collection = Collection(tmp_path)
    recipe = tmp_path / "deid"
    recipe.write_text(f"{_LIST}%header\nREMOVE values:mine\nREPLACE BodyPartExamined checked\n")
    (path,) = collection.add(0, 1)
    made = source()
    made.BodyPartExamined, made.AcquisitionType = "ANN", "PLANTAGENET"
    del made.Rows
    made.StudyInstanceUID, made.SeriesInstanceUID = collection.study(), collection.uid(0)
    made.SOPInstanceUID = pydicom.dcmread(path).SOPInstanceUID
    path.write_bytes(planting.file_of(made, planting.EXPLICIT))
    collection.end()
    assert collection.deidentify("once", "--recipe", str(recipe)) == 0
    (passed,) = collection.datasets()
    assert passed.BodyPartExamined == "checked"
    assert "AcquisitionType" not in passed
    assert [code.CodeValue for code in passed.DeidentificationMethodCodeSequence] == ["113100"]
    collection.deidentify("evidence", "--json", "--recipe", str(recipe))
    told = capfd.readouterr()
    assert "plantagenet" not in (told.out + told.err).lower()

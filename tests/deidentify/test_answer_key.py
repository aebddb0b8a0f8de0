"""Each row of the answer key is met: 100 per cent, in every transfer syntax and at every depth, and no planted string
stands in the bytes. The teams of the MIDI-B challenge had 97.9 to 99.9.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.deidentify import planting
from tests.deidentify.answer_key import WORDS, Grading, key_of, with_innocent
from tests.deidentify.rewriting_bench import KEYS, SUBJECT, job, rewritten

_OPTIONS = ("retain-modified-dates", "clean-descriptors", "clean-structured-content", "clean-graphics")


def test_every_row_of_the_answer_key_is_met(tmp_path: Path) -> None:
    grading = Grading(SUBJECT.days)
    work = job(*_OPTIONS)
    for depth in range(6):
        for syntax in planting.SYNTAXES:
            for undefined in (False, True):
                source = with_innocent(planting.instance(depth, undefined=undefined))
                _, out = rewritten(tmp_path, planting.file_of(source, syntax), work)
                assert planting.found_in(planting.dataset_bytes(out, syntax)) == []
                grading.grade(pydicom.dcmread(planting.buffer(out)), key_of(source, depth))
    assert grading.wrong == []
    assert set(WORDS) == {word for word, count in grading.counted.items() if count >= 48}


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("ISO_IR 100", "latin-1", "Plantagenêt^Jörg"),
        ("ISO_IR 144", "iso8859-5", "Люксембург^Роза"),
        ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", "utf-8", "Wang^XiaoDong=王^小东"),
        ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
        ("\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
        ("\\ISO 2022 IR 149", "euc_kr", "Hong^Gildong=홍^길동"),
    ],
)
@pytest.mark.parametrize("syntax", planting.SYNTAXES)
def test_a_name_in_any_character_set_goes(tmp_path: Path, charset: str, codec: str, name: str, syntax: str) -> None:
    source = planting.instance(2)
    for dataset in (source, source[planting.PATH[0]].value[0]):
        dataset.SpecificCharacterSet = charset.split("\\")
        dataset.PatientName = dataset.ReferringPhysicianName = dataset.PerformingPhysicianName = name
    data = planting.file_of(source, syntax)
    _, out = rewritten(tmp_path, data, job(*_OPTIONS))
    before, after = (planting.dataset_bytes(one, syntax) for one in (data, out))
    for part in name.replace("=", "^").split("^"):
        if len(part.encode(codec)) > 3:
            assert part.encode(codec) in before
            assert part.encode(codec) not in after
    assert pydicom.dcmread(planting.buffer(out)).get("SpecificCharacterSet") == source.SpecificCharacterSet


def test_another_key_has_nothing_in_common(tmp_path: Path) -> None:
    """UIDs and pseudonyms of one key say nothing of those of another one."""
    data = planting.file_of(planting.instance(3), planting.EXPLICIT)
    first = pydicom.dcmread(planting.buffer(rewritten(tmp_path, data)[1]))
    other = job()._replace(replacer=job().replacer.__class__(KEYS.__class__(bytes(range(1, 33))), SUBJECT, frozenset()))
    second = pydicom.dcmread(planting.buffer(rewritten(tmp_path, data, other)[1]))
    uids = [
        {str(element.value) for element in one.iterall() if element.VR == "UI" and "2.25." in str(element.value)}
        for one in (first, second)
    ]
    assert uids[0]
    assert not uids[0] & uids[1]
    assert first.AccessionNumber != second.AccessionNumber

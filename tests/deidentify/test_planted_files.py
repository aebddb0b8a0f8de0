"""A patient planted into real files: all that pydicom ships and can be understood, and a series of a scanner. No
planted string is left, and pixels stay byte for byte.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from listener.deidentify.faults import NotUnderstood
from tests.conftest import SHARED_DATA
from tests.deidentify import planting
from tests.deidentify.rewriting_bench import job, rewritten

_OPTIONS = ("retain-modified-dates", "clean-descriptors", "clean-structured-content", "clean-graphics")

#: What pydicom has on disk, without fetching anything.
_FILES = sorted(Path(pydicom.__file__).parent.joinpath("data/test_files").rglob("*.dcm"))

#: Identities of these are not where they would be replaced; the rest of each of them is the file's own.
_OWN = frozenset({0x00080016, 0x00020010, 0x00080005})


def _planted(path: Path) -> tuple[bytes, str] | None:
    """The bytes of a file into which a patient is planted, with its transfer syntax; None where pydicom itself cannot
    write it again.
    """
    try:
        made = pydicom.dcmread(path)
        syntax = str(made.file_meta.TransferSyntaxUID)
        found = Dataset()
        for element in planting.identity():
            if element.tag not in _OWN:
                found.add(element)
        for element in found:
            made.add(element)
        item = planting.identity(1)
        made.add_new(planting.PATH[0], "SQ", [item])
        made.SOPInstanceUID = UID(f"{planting.ROOT}.1")
        made.StudyInstanceUID, made.SeriesInstanceUID = f"{planting.ROOT}.2", f"{planting.ROOT}.3"
        if "SpecificCharacterSet" in made:
            del made.SpecificCharacterSet
        form = syntax if syntax in planting.SYNTAXES else planting.EXPLICIT
        data = planting.file_of(made, form)
    except Exception:  # noqa: BLE001 - what pydicom ships is partly broken on purpose.
        return None
    if form != syntax:  # Encapsulated: the form is explicit VR in little endian, under another name.
        return _renamed(made, syntax), syntax
    return data, syntax


def _renamed(made: Dataset, syntax: str) -> bytes:
    data = planting.file_of(made, planting.EXPLICIT)
    length = int.from_bytes(data[140:144], "little")
    body = data[144 + length :]
    head = planting.file_of(_empty(made), syntax if syntax != planting.DEFLATED else planting.EXPLICIT)
    return head[: 144 + int.from_bytes(head[140:144], "little")] + body


def _empty(made: Dataset) -> Dataset:
    bare = Dataset()
    bare.SOPClassUID, bare.SOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    return bare


def _cleaned(folder: Path, path: Path) -> bool:
    """Clean a file into which a patient is planted; return whether it was understood."""
    made = _planted(path)
    if made is None:
        return False
    data, syntax = made
    try:
        _, out = rewritten(folder, data, job(*_OPTIONS))
    except NotUnderstood:
        return False
    bytes_of = planting.dataset_bytes(out, syntax)
    assert planting.found_in(out[:132] + out[144:] if syntax != planting.DEFLATED else bytes_of) == []
    assert planting.found_in(bytes_of) == []
    before, after = (pydicom.dcmread(planting.buffer(one)) for one in (data, out))
    assert before.get("PixelData") == after.get("PixelData")
    return True


def test_whatever_pydicom_ships_is_clean_or_not_understood(tmp_path: Path) -> None:
    understood = [path.name for path in _FILES if _cleaned(tmp_path, path)]
    print(f"{len(understood)} of {len(_FILES)} files")
    assert len(understood) > len(_FILES) // 2
    assert {"CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "image_dfl.dcm"} <= set(understood)


def test_a_series_of_a_scanner_is_clean(tmp_path: Path) -> None:
    series = sorted(SHARED_DATA.joinpath("SAG-anon").glob("*.dcm"))
    if not series:
        pytest.skip("SAG-anon is not at hand")
    assert all(_cleaned(tmp_path, path) for path in series[::16])

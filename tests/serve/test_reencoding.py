"""Instances written again in Explicit VR Little Endian."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from listener.serve.reencoding import write_explicit
from listener.serve.tables import stamp_of
from tests.frames.judge import expected
from tests.frames.making import BIG, Maker

#: Files in Explicit VR Big Endian, of pixels with 8, 16 and 32 bits, and words of other values.
NAMES = ("ExplVR_BigEnd.dcm", "MR_small_bigendian.dcm", "SC_rgb_expb_2frame.dcm", "SC_rgb_expb_16bit_2frame.dcm",
         "SC_rgb_expb_32bit_2frame.dcm", "rtdose_expb.dcm", "rtdose_expb_1frame.dcm", "image_dfl.dcm",
         "MR_small_implicit.dcm")  # fmt: skip
FILES = sorted(path for path in get_testdata_files() if os.path.basename(path) in NAMES and os.path.isfile(path))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_values_and_frames_are_those_of_the_file(path: str, tmp_path: Path) -> None:
    target = str(tmp_path / "made.dcm")
    assert write_explicit(path, stamp_of(os.stat(path)), target)
    made, wanted = pydicom.dcmread(target), pydicom.dcmread(path)
    assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert expected(target) == expected(path)
    big = wanted.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    for element in wanted:
        if element.tag.element and not (big and element.VR in ("OW", "OF", "OD", "OL", "OV")):
            assert made[element.tag] == element
    assert set(made.keys()) == {element.tag for element in wanted if element.tag.element}, (
        "lengths of groups are not written"
    )


def test_words_in_sequences_are_turned_too(tmp_path: Path) -> None:
    maker = Maker(BIG)
    item = maker.element(0x00280006, "US", b"\0\1") + maker.element(0x00283006, "OW", b"\1\2\3\4")
    inner = maker.element(0xFFFEE000, "UN", b"")[:4] + len(item).to_bytes(4, "big") + item
    value = b"SQ\0\0" + len(inner).to_bytes(4, "big") + inner
    uids = maker.text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7") + maker.text(0x00080018, "UI", "1.2.3.4")
    path = tmp_path / "big.dcm"
    path.write_bytes(maker.file(uids + b"\x00\x28\x30\x10" + value))
    assert write_explicit(str(path), stamp_of(os.stat(path)), str(tmp_path / "made.dcm"))
    made = pydicom.dcmread(tmp_path / "made.dcm")
    assert made[0x00283010][0][0x00283006].value == b"\2\1\4\3"
    assert made[0x00283010][0][0x00280006].value == 1


def test_another_file_is_not_written(tmp_path: Path) -> None:
    assert not write_explicit(FILES[0], (0, 0, 0, 0), str(tmp_path / "made.dcm"))
    assert not (tmp_path / "made.dcm").exists()

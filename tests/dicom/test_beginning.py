"""The quick look at a file says what reading its whole header says, or nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.attributes import Limits
from listener.dicom.beginning import read_beginning
from listener.dicom.reader import Identity, Wanted, read_identity
from listener.dicom.syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from listener.reasons import FileFault
from tests.dicom.mutating import FILES, mutated
from tests.instances import descriptor, element, part10, write_instance

WANTED = Wanted(("SOPClassUID", "SOPInstanceUID"))
CLASS, UID = b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.3\0"

SEEDS = [path.read_bytes() for path in FILES if path.stat().st_size < 100_000]


def both(data: bytes) -> tuple[Identity | None, Identity | None]:
    """What the quick look says, and what the whole header does; None of a file that is not whole."""
    with descriptor(data) as (fd, size):
        quick = read_beginning(fd, size)
        try:
            return quick, read_identity(fd, size, WANTED, Limits())
        except FileFault:
            return quick, None


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"])
def test_usual_files_are_known_by_their_beginning(syntax: str, tmp_path: Path) -> None:
    for number in range(3):
        data = write_instance(tmp_path / "one", number=number, transfer_syntax=syntax).read_bytes()
        quick, whole = both(data)
        assert quick is not None
        assert quick == whole


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_are_what_their_header_says(path: Path) -> None:
    quick, whole = both(path.read_bytes())
    assert quick is None or whole is None or quick == whole


@given(st.integers(min_value=0))
def test_changed_files_are_what_their_header_says(seed: int) -> None:
    quick, whole = both(mutated(random.Random(seed), SEEDS))
    if quick and whole and quick.SOPInstanceUID == whole.SOPInstanceUID:
        assert quick == whole


ODD = {
    "big endian": part10(bytes(100), EXPLICIT_BIG),
    "deflated": part10(bytes(100), DEFLATED),
    "no class": part10(element(0x00080018, "UI", UID) + bytes(2000), EXPLICIT_LITTLE),
    "out of order": part10(
        element(0x00080017, "UI", UID) + element(0x00080016, "UI", CLASS) + element(0x00080018, "UI", UID),
        EXPLICIT_LITTLE,
    ),
    "a long element before": part10(
        element(0x00080001, "OB", bytes(10)) + element(0x00080016, "UI", CLASS) + element(0x00080018, "UI", UID),
        EXPLICIT_LITTLE,
    ),
    "the tag within a value": part10(
        element(0x00080008, "CS", b"\x08\0\x18\0UI\2\0") + element(0x00080016, "UI", CLASS), EXPLICIT_LITTLE
    ),
    "cut within the UID": part10(
        element(0x00080016, "UI", CLASS) + element(0x00080018, "UI", UID)[:-3], EXPLICIT_LITTLE
    ),
    "another encoding than it says": part10(
        element(0x00080016, "UI", CLASS) + element(0x00080018, "UI", UID), IMPLICIT_LITTLE
    ),
    "text": b"text" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", ODD)
def test_of_others_nothing_is_said(name: str) -> None:
    with descriptor(ODD[name]) as (fd, size):
        assert read_beginning(fd, size) is None

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from pydicom.uid import UID

from listener.dicom.syntaxes import DEFLATED, EXPLICIT_LITTLE
from listener.errors import Unsendable
from listener.network.contexts import Pair
from listener.network.instance import Instance
from tests.instances import ABSENT, MR_STORAGE, element, instance, part10, save, write_instance
from tests.network.peers import content_of

UIDS = element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.4\0") + element(0x00080018, "UI", b"1.2.3\0")


def test_it_is_what_its_data_set_says_whatever_the_file_meta_information_says(tmp_path: Path) -> None:
    dataset = instance()
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.4")
    with Instance(str(save(dataset, tmp_path / "one"))) as one:
        assert one.pair == Pair(MR_STORAGE, EXPLICIT_LITTLE)
        assert dataset.SOPInstanceUID == one.SOPInstanceUID


def deflated(dataset: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(dataset) + engine.flush()


@pytest.mark.parametrize("size", [2, 100, 1 << 20])
def test_pieces_are_the_data_set_and_a_deflated_one_is_padded(size: int, tmp_path: Path) -> None:
    path, rests = tmp_path / "one", set()
    for number in range(20):
        dataset = UIDS + element(0x00104000, "LT", bytes(range(2 * number)))
        for written, syntax in ((dataset, EXPLICIT_LITTLE), (deflated(dataset), DEFLATED)):
            path.write_bytes(part10(written, syntax))
            with Instance(str(path)) as one:
                content = content_of(one, size)
                assert len(content) == one.size
            assert content == written + b"\0" * (len(written) % 2)
            rests.add(len(written) % 2)
    assert rests == {0, 1}


def test_what_cannot_be_sent_says_why(tmp_path: Path) -> None:
    whole = write_instance(tmp_path / "whole").read_bytes()
    cases = {
        "does not say its transfer syntax": UIDS + element(0x00100020, "LO", b"ID"),
        "odd number": part10(UIDS + element(0x00100020, "LO", b"odd")),
        "not whole": whole[:-10],
        "cannot be read as DICOM": b"text" * 100,
        "has no bytes": b"",
        "no valid SOP Class UID": save(instance(SOPClassUID=ABSENT), tmp_path / "absent").read_bytes(),
    }
    for told, content in cases.items():
        path = tmp_path / "one"
        path.write_bytes(content)
        with pytest.raises(Unsendable, match=told):
            Instance(str(path))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(write_instance(tmp_path / "one"))
    for path, error in ((tmp_path / "fifo", Unsendable), (tmp_path, Unsendable), (tmp_path / "link", OSError)):
        with pytest.raises(error):
            Instance(str(path))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"no")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsendable):
        Instance(str(path))
    assert len(os.listdir("/proc/self/fd")) == before

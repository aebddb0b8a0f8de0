"""Frames read from files: pydicom's own, and generated ones of each encoding."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from pydicom.data import get_testdata_files

from listener.frames.errors import FrameChanged, FramesFault, FramesUnclear, NoFrames, NoSingleFrames
from listener.frames.image import ImageFile
from listener.reasons import FileFault, TooLarge
from tests.frames.judge import expected
from tests.frames.making import BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG, RLE, Maker, cut, header, jpeg, written

FILES = sorted({path for path in get_testdata_files() if os.path.isfile(path) and "dicomdirtests" not in path})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_each_frame_of_a_file_of_pydicom_is_what_pydicom_reads(path: str) -> None:
    frames = expected(path)
    if frames is None:
        with pytest.raises((FramesFault, FileFault)):
            ImageFile(path)
        return
    if os.path.basename(path) == "MR_truncated.dcm":
        with pytest.raises(FileFault):
            ImageFile(path)
        return
    with ImageFile(path) as image:
        assert [image.read(number) for number in range(image.count)] == frames


STREAMS = [jpeg(number, 31 + number) for number in range(4)]


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("table", ["none", "basic", "wrapped", "lying", "extended", "short"])
def test_fragments_of_streams_are_joined_whatever_the_table_says(parts: int, table: str, tmp_path: Path) -> None:
    data = Maker(JPEG).encapsulated(header(frames=4), [cut(stream, parts) for stream in STREAMS], table)
    with ImageFile(written(tmp_path / "f", data)) as image:
        exact = table == "extended" and parts == 1
        assert [image.read(number) for number in range(image.count)] == [
            stream if exact else stream + b"\0" * (len(stream) % 2) for stream in STREAMS
        ]


@pytest.mark.parametrize("table", ["none", "lying", "short"])
def test_fragments_that_cannot_be_told_apart_are_no_frames(table: str, tmp_path: Path) -> None:
    data = Maker(RLE).encapsulated(header(frames=2), [[b"ab", b"cd"], [b"ef"]], table)
    with pytest.raises(FramesUnclear):
        ImageFile(written(tmp_path / "f", data))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("bits", [1, 8, 16, 32])
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_native_frames_are_little_endian_whatever_the_file_is(syntax: str, bits: int, vr: str, tmp_path: Path) -> None:
    rows, columns, frames = 3, 5, 3
    total = (rows * columns * bits * frames + 7) // 8
    little = bytes((7 * index + 1) % 256 for index in range(total + total % 2 + 2 * (total % 4)))
    word = max(bits // 8, 2 if vr == "OW" else 1)
    stored = little
    if syntax == BIG and word > 1:
        stored = b"".join(little[at : at + word][::-1] for at in range(0, len(little) // word * word, word))
    maker = Maker(EXPLICIT if syntax == DEFLATED else syntax, vr=vr)
    data = maker.native(header(rows, columns, bits, frames), stored)
    if syntax == DEFLATED:
        data = deflated(data)
    number = int.from_bytes(little, "little")
    size = rows * columns * bits
    with ImageFile(written(tmp_path / "f", data)) as image:
        assert image.count == frames
        for index in range(frames):
            wanted = number >> (index * size) & ((1 << size) - 1)
            assert image.read(index) == wanted.to_bytes((size + 7) // 8, "little")


def deflated(data: bytes) -> bytes:
    """The same instance, its data set deflated."""
    begin = data.index(b"\x08\x00\x16\x00UI")
    engine = zlib.compressobj(wbits=-15)
    body = engine.compress(data[begin:]) + engine.flush()
    return Maker(DEFLATED).file(body)


@pytest.mark.parametrize(("tag", "vr", "bits"), [(0x7FE00008, "OF", 32), (0x7FE00009, "OD", 64)])
def test_float_pixels_have_frames(tag: int, vr: str, bits: int, tmp_path: Path) -> None:
    pixels = bytes(range(2 * 4 * bits // 8))
    for syntax in (EXPLICIT, BIG):
        word = bits // 8
        stored = (
            pixels if syntax == EXPLICIT else b"".join(pixels[i : i + word][::-1] for i in range(0, len(pixels), word))
        )
        with ImageFile(
            written(tmp_path / vr, Maker(syntax, vr=vr).native(header(bits=bits, frames=2), stored, tag))
        ) as image:
            assert [image.read(0), image.read(1)] == [pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]]


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = written(tmp_path / "f", deflated(Maker().native(header(1000, 1000), bytes(1_000_000))))
    with pytest.raises(TooLarge):
        ImageFile(path, cap=500_000)
    with ImageFile(path, folder=str(tmp_path)) as image:
        assert image.read(0) == bytes(1_000_000)
    assert os.listdir(tmp_path) == ["f"]


def test_video_and_what_has_no_pixels_say_so(tmp_path: Path) -> None:
    video = Maker("1.2.840.10008.1.2.4.102").encapsulated(header(frames=9), [[b"ab"]])
    with pytest.raises(NoSingleFrames):
        ImageFile(written(tmp_path / "video", video))
    with pytest.raises(NoFrames):
        ImageFile(written(tmp_path / "none", Maker().file(Maker().header(1, 1, 8, 1))))


def test_encapsulated_pixels_of_a_known_length_are_unclear(tmp_path: Path) -> None:
    with pytest.raises(FramesUnclear):
        ImageFile(written(tmp_path / "f", Maker(JPEG).native(header(), b"abcd")))


@pytest.mark.parametrize("table", ["none", "extended"])
def test_a_file_that_changed_under_its_layout_gives_no_wrong_frame(table: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = Maker(JPEG).encapsulated(header(frames=4), [[stream] for stream in STREAMS], table)
    with ImageFile(written(path, data)) as image:
        path.write_bytes(data[:-60])
        assert image.read(0)[:4] == b"\xff\xd8\xff\xe0"
        with pytest.raises(FrameChanged):
            image.read(3)
        path.write_bytes(data[:200] + data[198:])
        with pytest.raises(FrameChanged):
            image.read(3)


def test_each_cut_of_a_file_gives_a_named_fault_or_true_frames(tmp_path: Path) -> None:
    data = Maker(JPEG).encapsulated(header(frames=4), [cut(stream, 2) for stream in STREAMS], "basic")
    for length in range(0, len(data), 3):
        with pytest.raises((FileFault, FramesFault)):
            ImageFile(written(tmp_path / "f", data[:length]))

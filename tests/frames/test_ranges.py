"""Frames that are read by ranges are those that are read from the file, and few reads are made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_files

from listener.dicom.attributes import Limits
from listener.frames.errors import FrameChanged, FramesFault
from listener.frames.image import ImageFile, stored, taken
from listener.frames.layout import Run, Spans
from listener.frames.ranges import RangeSource, joined, look_by_ranges
from listener.reasons import FileFault
from tests.frames.making import JPEG, RLE, Maker, cut, header, jpeg

FILES = sorted({path for path in get_testdata_files() if os.path.isfile(path) and "dicomdirtests" not in path})
STREAMS = [jpeg(number, 31 + number) for number in range(4)]


class Ranged:
    """Something that is read by ranges, and how often it was."""

    def __init__(self, data: bytes) -> None:
        self.data, self.reads = data, 0

    def fetch(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + length]

    def frames(self, *, by_table: bool = True) -> list[bytes]:
        image = look_by_ranges(RangeSource(self.fetch, len(self.data)), Limits(), by_table=by_table)
        return [taken(image.layout, index, self.fetch) for index in range(image.layout.count)]


@pytest.mark.parametrize("by_table", [True, False])
@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_frames_of_pydicom_s_files(path: str, by_table: bool) -> None:
    ranged = Ranged(Path(path).read_bytes())
    try:
        with ImageFile(path) as image:
            if image.image.inflated:
                return
            wanted = [image.read(index) for index in range(image.count)]
    except (FramesFault, FileFault):
        with pytest.raises((FramesFault, FileFault)):
            ranged.frames(by_table=by_table)
        return
    assert ranged.frames(by_table=by_table) == wanted


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("table", ["none", "basic", "wrapped", "lying", "extended", "short"])
def test_frames_of_several_fragments_whatever_the_table_says(parts: int, table: str) -> None:
    data = Maker(JPEG).encapsulated(header(frames=4), [cut(stream, parts) for stream in STREAMS], table)
    exact = table == "extended"
    assert Ranged(data).frames() == [stream if exact else stream + b"\0" * (len(stream) % 2) for stream in STREAMS]


def test_a_table_that_looks_right_and_lies_gives_no_frame() -> None:
    data = Maker(RLE).encapsulated(header(frames=3), [[b"a" * 20], [b"b" * 20], [b"c" * 20]], "basic")
    at = data.index(b"\x1c\0\0\0\x38\0\0\0")
    lying = Ranged(data[:at] + b"\x1e\0\0\0" + data[at + 4 :])
    with pytest.raises(FrameChanged):
        lying.frames()
    assert lying.frames(by_table=False) == [b"a" * 20, b"b" * 20, b"c" * 20]


def test_a_slide_with_a_table_is_not_walked() -> None:
    frames = [[jpeg(number, 2000)] for number in range(2000)]
    ranged = Ranged(Maker(JPEG).encapsulated(header(frames=2000), frames, "basic"))
    image = look_by_ranges(RangeSource(ranged.fetch, len(ranged.data)), Limits(), by_table=True)
    assert isinstance(image.layout, Spans)
    assert ranged.reads <= 3
    assert taken(image.layout, 1234, ranged.fetch) == frames[1234][0]


RUNS = st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)), max_size=30).map(
    lambda pairs: sorted({Run(*pair) for pair in pairs})
)


@given(RUNS)
def test_joined_reads_hold_each_run_once(runs: list[Run]) -> None:
    reads = list(joined(runs))
    assert [run for one in reads for run in one.runs] == runs
    for one in reads:
        assert all(one.offset <= run.offset and run.offset + run.length <= one.offset + one.length for run in one.runs)


def test_close_runs_are_read_together() -> None:
    assert len(list(joined([Run(0, 100), Run(200, 100), Run(10**6, 100)]))) == 2
    image = look_by_ranges(
        RangeSource(
            Ranged(data := Maker(JPEG).encapsulated(header(frames=4), [[one] for one in STREAMS])).fetch, len(data)
        ),
        Limits(),
        by_table=True,
    )
    assert len(list(joined([run for index in range(4) for run in stored(image.layout, index)]))) == 1

"""Where frames lie: words, bits, fragments and tables, compared with what a plain reading of the standard gives."""

from __future__ import annotations

import struct
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.frames.errors import FramesUnclear, NoSingleFrames
from listener.frames.layout import Encapsulated, Facts, Fragments, Native, Run, encapsulated, is_video, needs_edges

JPEG = "1.2.840.10008.1.2.4.50"


def fragments(lengths: list[int], basic: bytes = b"") -> Fragments:
    """Items behind each other, the first one's head at 1008."""
    starts = [1008 + before + 8 * number for number, before in enumerate([0, *accumulate(lengths)][:-1])]
    return Fragments(basic, 1000, starts, lengths)


def facts(frames: int, syntax: str = JPEG) -> Facts:
    return Facts(4, 4, 8, NumberOfFrames=frames, TransferSyntaxUID=syntax)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_native_frames_lie_behind_each_other(bits: int) -> None:
    layout = Native(Facts(3, 5, bits, 3, NumberOfFrames=4), 100, 3 * 5 * 3 * 4 * bits // 8)
    size = 45 * bits // 8
    assert [layout.frame(number).runs for number in range(4)] == [(Run(100 + size * i, size),) for i in range(4)]
    assert (layout.count, layout.length()) == (4, size)


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), frames=st.integers(1, 9), data=st.randoms())
def test_frames_of_single_bits_begin_within_bytes(rows: int, columns: int, frames: int, data: object) -> None:
    bits = rows * columns
    layout = Native(Facts(rows, columns, 1, NumberOfFrames=frames), 0, (bits * frames + 7) // 8)
    for number in range(frames):
        frame = layout.frame(number)
        (run,) = frame.runs
        assert run.offset * 8 + frame.skip == number * bits
        assert run.offset + run.length == (number * bits + bits + 7) // 8
        assert frame.bits in (bits, 0)


@pytest.mark.parametrize(("length", "count"), [(16, 1), (31, 1), (32, 2), (47, 2), (48, 3), (1000, 3)])
def test_frames_that_are_not_there_do_not_count(length: int, count: int) -> None:
    layout = Native(facts(3, ""), 0, length)
    assert layout.count == count
    for index in (-1, count):
        with pytest.raises(IndexError):
            layout.frame(index)


@pytest.mark.parametrize(
    "wrong",
    [
        Facts(4, 4, 12),
        Facts(4, 4, 0),
        Facts(0, 4, 8),
        Facts(4, 0, 8),
        Facts(4, 4, 8, 3, PhotometricInterpretation="YBR_PARTIAL_420"),
        Facts(40, 40, 8),
    ],
)
def test_a_native_frame_of_no_known_length_is_unclear(wrong: Facts) -> None:
    with pytest.raises(FramesUnclear):
        Native(wrong, 0, 100)


def test_chroma_of_every_second_pixel_makes_two_samples() -> None:
    assert Native(Facts(4, 4, 8, 3, PhotometricInterpretation="YBR_FULL_422"), 0, 32).length() == 32


@pytest.mark.parametrize(
    ("bits", "vr", "word"), [(1, b"OW", 2), (1, b"OB", 1), (8, b"OW", 2), (8, b"OB", 1), (8, b"", 2), (16, b"OW", 2)]
)
def test_big_endian_words_are_reversed(bits: int, vr: bytes, word: int) -> None:
    layout = Native(Facts(4, 4, bits, little=False, vr=vr), 0, 64)
    assert layout.frame(0).word == word
    assert Native(Facts(4, 4, bits, vr=vr), 0, 64).frame(0).word == 1


def test_an_odd_frame_of_words_is_cut_out_of_whole_words() -> None:
    layout = Native(Facts(3, 3, 8, NumberOfFrames=3, little=False, vr=b"OW"), 10, 28)
    assert [layout.frame(i).runs[0] for i in range(3)] == [Run(10, 10), Run(18, 10), Run(28, 10)]
    assert [(layout.frame(i).skip, layout.frame(i).bits) for i in range(3)] == [(0, 72), (8, 72), (0, 72)]


def test_as_many_fragments_as_frames_need_no_table() -> None:
    layout = encapsulated(facts(3), fragments([4, 6, 8]))
    assert [layout.frame(i).runs for i in range(3)] == [(Run(1008, 4),), (Run(1020, 6),), (Run(1034, 8),)]


def test_all_fragments_are_the_only_frame() -> None:
    assert len(encapsulated(facts(1), fragments([4, 6, 8])).frame(0).runs) == 3


def test_the_basic_table_groups_fragments() -> None:
    layout = encapsulated(facts(2), fragments([4, 6, 8], struct.pack("<2L", 0, 12)))
    assert [[run.length for run in layout.frame(i).runs] for i in range(2)] == [[4], [6, 8]]


@pytest.mark.parametrize(
    "offsets",
    [(), (0,), (0, 0), (12, 0), (0, 11), (0, 10**6), (0, 12, 26), (8, 20), (0, 12, 26, 42)],
    ids=str,
)
def test_a_basic_table_that_does_not_fit_is_not_believed(offsets: tuple[int, ...]) -> None:
    with pytest.raises(FramesUnclear):
        encapsulated(facts(2), fragments([4, 6, 8], struct.pack(f"<{len(offsets)}L", *offsets)))


def test_no_table_of_numbers_is_no_table() -> None:
    with pytest.raises(FramesUnclear):
        encapsulated(facts(2), fragments([4, 6, 8], b"\0\0\0"))


@pytest.mark.parametrize(
    ("offsets", "lengths", "exact"),
    [
        ((0, 12), (3, 6), True),
        ((0, 12), (4, 5), True),
        ((0, 12), (2, 6), False),
        ((0, 12), (5, 6), False),
        ((0, 10), (4, 6), False),
        ((8, 20), (4, 6), False),
        ((0,), (4,), False),
        ((0, 12), (4,), False),
    ],
)
def test_the_extended_table_tells_lengths_without_padding(
    offsets: tuple[int, ...], lengths: tuple[int, ...], exact: bool
) -> None:
    packed = [struct.pack(f"<{len(numbers)}Q", *numbers) for numbers in (offsets, lengths)]
    layout = encapsulated(facts(2), fragments([4, 6]), *packed)
    found = [layout.frame(i) for i in range(2)]
    assert [frame.runs[0].length for frame in found] == (list(lengths) if exact else [4, 6])
    assert [frame.runs[0].length + frame.padded for frame in found] == [4, 6]


@given(st.data())
def test_any_true_table_gives_the_frames_that_were_put_in(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    lengths = data.draw(st.lists(st.integers(1, 50).map(lambda n: 2 * n), min_size=sum(counts), max_size=sum(counts)))
    items = fragments(lengths)
    first = [0, *accumulate(counts)][:-1]
    table = struct.pack(f"<{len(first)}L", *[items.starts[number] - 1008 for number in first])
    layout = encapsulated(facts(len(counts)), items._replace(basic=table))
    got = [[run.length for run in layout.frame(i).runs] for i in range(len(counts))]
    assert got == [lengths[begin : begin + count] for begin, count in zip(first, counts, strict=True)]


@given(st.data())
def test_no_table_whatever_gives_anything_but_whole_items_in_order(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 20).map(lambda n: 2 * n), max_size=8))
    basic = data.draw(st.binary(max_size=40))
    offsets, sizes = data.draw(st.binary(max_size=64)), data.draw(st.binary(max_size=64))
    items = fragments(lengths, basic)
    try:
        layout = encapsulated(facts(data.draw(st.integers(0, 9))), items, offsets, sizes)
    except FramesUnclear:
        return
    runs = [run.offset for i in range(layout.count) for run in layout.frame(i).runs]
    assert runs == list(items.starts)


START, MIDDLE, END = (b"\xff\xd8\xff\xe0", b"abcd"), (b"abcd", b"efgh"), (b"abcd", b"\1\xff\xd9\0")
WHOLE = (b"\xff\xd8\xff\xe0", b"ab\xff\xd9")


@pytest.mark.parametrize(
    ("edges", "counts"),
    [
        ([START, END, WHOLE], [2, 1]),
        ([WHOLE, START, END], [1, 2]),
        ([START, MIDDLE, END, WHOLE], [3, 1]),
        ([START, END, START, END, WHOLE], None),
        ([START, WHOLE, END], None),
        ([WHOLE, MIDDLE, WHOLE], None),
        ([START, END, START], None),
        ([MIDDLE, MIDDLE, MIDDLE], None),
    ],
)
def test_streams_are_told_apart_by_their_marks(edges: list[tuple[bytes, bytes]], counts: list[int] | None) -> None:
    items = fragments([8] * len(edges))._replace(edges=edges)
    assert needs_edges(facts(2), items)
    if counts is None:
        with pytest.raises(FramesUnclear):
            encapsulated(facts(2), items)
        return
    layout = encapsulated(facts(2), items)
    assert [len(layout.frame(i).runs) for i in range(layout.count)] == counts


def test_edges_are_looked_at_only_where_they_tell_something() -> None:
    for frames, lengths, basic in (
        (1, [2, 2], b""),
        (2, [2, 2], b""),
        (3, [2, 2], b""),
        (2, [4, 6, 8], b"\0" * 4 + b"\x0c\0\0\0"),
    ):
        assert not needs_edges(facts(frames), fragments(lengths, basic))


@pytest.mark.parametrize(
    ("syntax", "video"),
    [
        ("1.2.840.10008.1.2.4.100", True),
        ("1.2.840.10008.1.2.4.100.1", True),
        ("1.2.840.10008.1.2.4.108", True),
        ("1.2.840.10008.1.2.7.1", True),
        ("1.2.840.10008.1.2.4.50", False),
        ("1.2.840.10008.1.2.4.90", False),
        ("1.2.840.10008.1.2.4.201", False),
        ("", False),
    ],
)
def test_video_has_no_single_frames(syntax: str, video: bool) -> None:
    assert is_video(syntax) == video
    if video:
        with pytest.raises(NoSingleFrames):
            encapsulated(facts(1, syntax), fragments([4]))


def test_a_frame_that_is_not_there_has_no_place() -> None:
    layout = Encapsulated([8], [2])
    for index in (-1, 1):
        with pytest.raises(IndexError):
            layout.frame(index)

"""Multipart messages, however they are cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.frames.multipart import NoMessage, boundary_of, parts

BOUNDARY = b"0123abc"


def message(contents: list[bytes], *, lengths: bool, preamble: bytes = b"") -> bytes:
    text = preamble
    for number, content in enumerate(contents):
        length = b"Content-Length: %d\r\n" % len(content) if lengths else b""
        begin = b"\r\n" if number or preamble else b""
        text += begin + b"--" + BOUNDARY + b"\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + content
    return text + b"\r\n--" + BOUNDARY + b"--\r\n"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    yield from (data[begin : begin + size] for begin in range(0, len(data), size))


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5), st.integers(1, 50), st.booleans())
def test_parts_are_what_was_put_in(contents: list[bytes], size: int, lengths: bool) -> None:
    assert list(parts(pieces(message(contents, lengths=lengths), size), BOUNDARY)) == contents


@given(st.integers(1, 50))
def test_a_boundary_within_a_part_that_says_its_length_is_content(size: int) -> None:
    planted = b"a\r\n--" + BOUNDARY + b"--\r\nb"
    assert list(parts(pieces(message([planted], lengths=True), size), BOUNDARY)) == [planted]


@given(st.data())
def test_a_message_that_was_cut_is_none(data: st.DataObject) -> None:
    whole = message([b"abc", b"def"], lengths=data.draw(st.booleans()))
    cut = whole[: data.draw(st.integers(0, len(whole) - 5))]
    with pytest.raises(NoMessage):
        list(parts(pieces(cut, 7), BOUNDARY))


def test_what_stands_before_the_first_part_is_passed_over() -> None:
    whole = message([b"abc"], lengths=False, preamble=b"This is a message in several parts.")
    assert list(parts(pieces(whole, 9), BOUNDARY)) == [b"abc"]
    with pytest.raises(NoMessage):
        list(parts([b"--0123abc\r\n" + b"x" * 100_000], BOUNDARY))


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ('multipart/related; type="image/jpeg"; boundary=abc', b"abc"),
        ('Multipart/Related; boundary="a b;c"; type=x', b"a b;c"),
        ("image/jpeg", b""),
        ("", b""),
    ],
)
def test_the_boundary_is_the_field_s(field: str, wanted: bytes) -> None:
    assert boundary_of(field) == wanted


def test_a_message_without_a_boundary_is_none() -> None:
    with pytest.raises(NoMessage):
        boundary_of("multipart/related; type=x")

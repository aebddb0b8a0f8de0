"""Ranges and entity tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.serve.faults import RangeOutside
from listener.serve.ranges import is_known, part


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=0-99", (0, 10)),
        ("bytes=3-", (3, 7)),
        ("bytes=-3", (7, 3)),
        ("bytes=-99", (0, 10)),
        ("BYTES = 2-4", (2, 3)),
        ("", None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
    ],
)
def test_one_range_is_a_part(field: str, wanted: tuple[int, int] | None) -> None:
    assert part(field, 10) == wanted


@pytest.mark.parametrize(("field", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_outside_is_refused(field: str, size: int) -> None:
    with pytest.raises(RangeOutside) as refused:
        part(field, size)
    assert refused.value.fields == (("content-range", f"bytes */{size}"),)


@given(st.integers(1, 1000), st.integers(0, 2000), st.integers(0, 2000))
def test_a_part_is_what_the_bytes_are(size: int, first: int, last: int) -> None:
    data = bytes(index % 256 for index in range(size))
    try:
        found = part(f"bytes={first}-{last}", size)
    except RangeOutside:
        assert first >= size
        return
    if found is None:
        assert last < first
        return
    offset, length = found
    assert data[offset : offset + length] == data[first : last + 1]


def test_an_entity_tag_is_known_in_any_list() -> None:
    assert is_known('"a", W/"b"', '"b"')
    assert is_known("*", '"b"')
    assert not is_known("", '"b"')
    assert not is_known('"a"', '"b"')

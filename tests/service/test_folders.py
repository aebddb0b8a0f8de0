"""What a folder's name and looks say."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.service.folders import (
    FINAL,
    REFUSED,
    UNFINISHED,
    FileEntry,
    Signature,
    is_refused_of,
    quiet_in,
    refused_names,
    standing,
)

NAMES = {
    "A0001": FINAL,
    "A 1\nB": FINAL,
    "tmp": FINAL,
    "X.tmp": UNFINISHED,
    "X.TMP": UNFINISHED,
    "X.tmp-1234": UNFINISHED,
    "X.Tmp.1": UNFINISHED,
    "X.part": UNFINISHED,
    "X.PART": UNFINISHED,
    "X.part.1": FINAL,
    ".X": UNFINISHED,
    ".X.err": REFUSED,
    "X.err": REFUSED,
    "X.Err": REFUSED,
    "X.1.err": REFUSED,
    "X.tmp.err": REFUSED,
    "err": FINAL,
    "\udcff": FINAL,
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_what_a_name_says(name: str) -> None:
    assert standing(name) == NAMES[name]


def test_a_folder_with_an_error_gets_the_first_name_that_is_free() -> None:
    assert list(itertools.islice(refused_names(b"X"), 3)) == [b"X.err", b"X.1.err", b"X.2.err"]


@given(st.binary(min_size=1, max_size=255), st.integers(0, 11))
def test_refused_names_fit_and_are_known_again(name: bytes, which: int) -> None:
    refused = next(itertools.islice(refused_names(name), which, None))
    assert len(refused) <= 255
    assert standing(os.fsdecode(refused)) == REFUSED
    assert is_refused_of(refused, name) or which == 0


def entry(number: int, size: int = 1, mtime_ns: int = 1) -> FileEntry:
    return FileEntry(f"/b/X/{number}", str(number), size, mtime_ns, 1, number)


@given(st.lists(st.integers(0, 1000), min_size=1, unique=True))
def test_a_signature_does_not_depend_on_the_order(numbers: list[int]) -> None:
    first, second, other = Signature(), Signature(), Signature()
    for number in numbers:
        first.add(entry(number).mark)
    for number in sorted(numbers, reverse=True):
        second.add(entry(number).mark)
        other.add(entry(number, mtime_ns=2 if number == numbers[0] else 1).mark)
    assert str(first) == str(second) != str(other)


def test_a_folder_without_files_has_no_signature() -> None:
    assert str(Signature()) == ""


@pytest.mark.parametrize(
    ("newest", "now", "wait"),
    [(0, 100, -40.0), (90, 100, 50.0), (40, 100, 0.0), (500, 100, 60.0)],
    ids=["long ago", "a while ago", "just quiet", "the clock was set back"],
)
def test_when_a_folder_is_quiet(newest: int, now: int, wait: float) -> None:
    assert quiet_in(newest * 10**9, now * 10**9, 60.0) == wait

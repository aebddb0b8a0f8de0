"""SeaHash must never change: directory names of all that was ever repacked hold it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.planning.seahash import seahash, seahash_hex, seahashes

SERIES = "1.3.12.2.1107.5.2.19.45152.2013030808061520200285270.0.0.0"

#: From PyPI's seahash 0.2.0, the binding to the reference implementation that pypx 3.12 uses.
PINNED = {
    b"": 0xC920CA43256FDCB9,
    b"a": 0x29C401B26A16E94D,
    b"xxxxxxx": 0xDDADFBEEC38F80CE,
    b"12345678": 0x79476D25D4C6DFC4,
    b"123456789": 0xB9020583EFDE7FF9,
    b"to be or not to be": 0x1B993A826F4AE575,
    b"love is a wonderful terrible thing": 0x426531339A1CD0AE,
    b"x" * 31: 0x258CE40AE1A9611C,
    b"x" * 32: 0x6FEE94FA708A7415,
    bytes(range(33)): 0x4E44CD0F57422A14,
    bytes(range(64)): 0xB667F87C9CA0DB70,
}

NEVER = (
    "series directories of trees written by rx-repack, pypx 3.12 and earlier listeners end with this hash; "
    "with another one a series that goes on arriving is torn into two directories"
)


@pytest.mark.parametrize(("data", "expected"), PINNED.items())
def test_pinned(data: bytes, expected: int) -> None:
    assert seahash(data) == expected, NEVER


def test_the_series_of_the_oracles() -> None:
    assert seahash_hex(SERIES) == "a27cf06a782e3aad", NEVER
    assert seahash_hex(SERIES)[:7] == "a27cf06", NEVER


@pytest.mark.parametrize(
    ("text", "digits"),
    [("1.2.0", "91782ef50abc616"), ("1.2.7", "94a4ba731af2938"), ("1.2.20", "99a2a1a85804d97")],
)
def test_leading_zeros_are_not_printed(text: str, digits: str) -> None:
    assert seahash_hex(text) == digits, NEVER


def test_text_is_hashed_as_utf_8() -> None:
    assert seahash_hex("日本 ü") == f"{seahash('日本 ü'.encode()):x}"


@given(st.binary(max_size=100))
def test_it_is_a_number_of_64_bits(data: bytes) -> None:
    assert 0 <= seahash(data) < 2**64


@given(st.binary(max_size=40), st.integers(1, 8))
def test_trailing_zero_bytes_count(data: bytes, zeros: int) -> None:
    assert seahash(data) != seahash(data + bytes(zeros))


@given(st.lists(st.binary(max_size=100), max_size=50))
def test_many_at_once_have_the_hashes_that_each_has(texts: list[bytes]) -> None:
    assert list(seahashes(texts)) == [seahash(text) for text in texts]


def test_many_at_once_have_the_pinned_hashes() -> None:
    assert dict(zip(PINNED, seahashes(list(PINNED)), strict=True)) == PINNED, NEVER


@given(st.text(st.characters(codec=None), max_size=40))
def test_any_text_has_a_hash(text: str) -> None:
    assert 1 <= len(seahash_hex(text)) <= 16

"""Dummies, ages, texts of allowed words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.deidentify import values
from listener.dicom.encoding import LONG_VRS, SHORT_VRS


@pytest.mark.parametrize("vr", sorted(vr.decode() for vr in LONG_VRS | SHORT_VRS if vr not in (b"SQ", b"UI")))
def test_there_is_a_dummy_of_even_length_for_each_vr(vr: str) -> None:
    assert len(values.dummy(vr)) % 2 == 0
    assert values.dummy(vr)


@pytest.mark.parametrize(
    ("age", "capped"),
    [
        (b"045Y", b"045Y"),
        (b"089Y", b"089Y"),
        (b"090Y", b"090Y"),
        (b"101Y", b"090Y"),
        (b"999M", b"999M"),
        (b"012M", b"012M"),
        (b"", b""),
        (b"45", None),
        (b"old", None),
    ],
)
def test_ages(age: bytes, capped: bytes | None) -> None:
    assert values.capped_age(age) == capped


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("t1_mprage sag 0.9 iso", True),
        ("", True),
        ("T1 DOE", False),
        ("t1 20130308", False),
        ("555 123 456 789", False),
        ("t1 Müller", False),
        ("T1W+C", True),
    ],
)
def test_cleaning_knows_words(text: str, clean: bool) -> None:
    assert values.is_clean(text, {"t", "w", "c", "mprage", "sag", "iso"}) is clean


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ^", min_size=1))
def test_a_word_that_is_not_allowed_is_never_kept(name: str) -> None:
    assert values.is_clean(f"t1 {name}", {"t"}) is all(word == "t" for word in name.replace("^", " ").split())


@pytest.mark.parametrize(
    ("vr", "raw", "made"),
    [
        ("US", b"\1\0\2\0", bytes(4)),
        ("FD", b"\1" * 24, bytes(24)),
        ("US", b"", bytes(2)),
        ("DS", b"1.5\\2\\3 ", b"0\\0\\0"),
        ("LO", b"one\\two ", b"ANONYMIZED\\ANONYMIZED"),
        ("LT", b"C:\\scans", b"ANONYMIZED"),
        ("OB", b"12345678", bytes(2)),
    ],
)
def test_a_dummy_has_as_many_values_as_there_were(vr: str, raw: bytes, made: bytes) -> None:
    assert values.dummy(vr, raw) == made

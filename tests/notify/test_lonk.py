"""Messages of LONK: subjects are CUBE's, and always are subjects."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.notify import lonk


@pytest.mark.parametrize(
    ("pacs", "series", "subject"),
    [
        ("MYPACS", "1.2.3", "oxidicom.MYPACS.1_2_3"),
        ("MY PACS", "1.2", "oxidicom.MY_PACS.1_2"),
        ("A.B*C>D", "1.2", "oxidicom.A_B_C_D.1_2"),
        ("A\0B", "1\0.2", "oxidicom.AB.1_2"),
        ("", "1", "oxidicom._.1"),
        ("A\r\nPUB x 1", "1\t2", "oxidicom.A__PUB_x_1.1_2"),
    ],
)
def test_subjects_are_those_that_cube_subscribes_to(pacs: str, series: str, subject: str) -> None:
    assert lonk.subject("oxidicom", pacs, series) == subject


@given(st.text(), st.text())
def test_any_text_gives_a_subject_of_three_parts(pacs: str, series: str) -> None:
    parts = lonk.subject("oxidicom", pacs, series).split(".")
    assert len(parts) == 3
    assert all(part and not re.search(r"[\s*>\0]", part) for part in parts)


def test_messages() -> None:
    assert lonk.done() == b"\x00"
    assert lonk.number(192) == b"\x01\xc0\x00\x00\x00"
    assert lonk.number(2**40) == b"\x01\xff\xff\xff\xff"
    assert lonk.error("ü") == b"\x02\xc3\xbc"

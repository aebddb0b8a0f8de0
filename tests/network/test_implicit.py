from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.syntaxes import EXPLICIT_BIG
from listener.errors import Unsendable
from listener.network.implicit import implicit
from tests.instances import descriptor, element, part10

UIDS = [(0x00080016, "UI", b"1.2\0"), (0x00080018, "UI", b"1.3\0")]


def encoded(elements: list[tuple[int, str, bytes]], *, little: bool = True) -> bytes:
    laid = b"".join(element(*one, little=little) for one in elements)
    with descriptor(part10(laid) if little else part10(laid, EXPLICIT_BIG)) as (fd, _):
        return implicit(fd)


def expected(elements: list[tuple[int, str, bytes]]) -> bytes:
    return b"".join(element(tag, "", value) for tag, _, value in elements)


#: Texts that break their character set, a private element, an unknown one, a number.
VALUES = st.fixed_dictionaries(
    {
        (0x00080005, "CS"): st.sampled_from((b"ISO_IR 192", b"ISO_IR 6", b"ISO 2022 IR 6\\ISO 2022 IR 87")),
        (0x00081030, "LO"): st.binary(max_size=20).map(lambda one: one + b" " * (len(one) % 2)),
        (0x00090010, "LO"): st.just(b"PRIVATE "),
        (0x00091001, "UN"): st.binary(max_size=20).map(lambda one: one + b"\0" * (len(one) % 2)),
        (0x00280103, "US"): st.sampled_from((b"\0\0", b"\1\0")),
        (0x7FE00010, "OW"): st.binary(max_size=40).map(lambda one: one * 2),
    }
)


@given(VALUES)
def test_values_keep_their_bytes_whatever_they_are(values: dict[tuple[int, str], bytes]) -> None:
    elements = sorted(UIDS + [(*about, value) for about, value in values.items()])
    assert encoded(elements) == expected(elements)


def test_words_of_big_endian_are_turned_and_texts_are_not() -> None:
    big = [
        *UIDS,
        (0x00280006, "US", b"\0\1"),
        (0x00280009, "AT", b"\0\x18\x10\x63"),
        (0x00289001, "UL", b"\0\0\0\1"),
        (0x00720074, "FD", bytes(range(8))),
        (0x00081030, "LO", b"text"),
        (0x7FE00010, "OW", b"\0\1\0\2"),
    ]
    little = {
        0x00280006: b"\1\0",
        0x00280009: b"\x18\0\x63\x10",
        0x00289001: b"\1\0\0\0",
        0x00720074: bytes(range(7, -1, -1)),
        0x7FE00010: b"\1\0\2\0",
    }
    big.sort()
    assert encoded(big, little=False) == expected([(tag, "", little.get(tag, value)) for tag, _, value in big])


def test_sequences_group_lengths_and_odd_values() -> None:
    item = element(0x00081150, "UI", b"1.2\0") + element(0x00081155, "UI", b"1.3")
    inner = element(0xFFFEE000, "", item)
    elements = [(0x00080000, "UL", b"\4\0\0\0"), *UIDS, (0x00081140, "SQ", inner), (0x00081140, "SQ", b"")]
    plain = element(0x00081150, "", b"1.2\0") + element(0x00081155, "", b"1.3\0")
    after = [*UIDS, (0x00081140, "", element(0xFFFEE000, "", plain))]
    assert encoded(elements[:-1]) == expected(after)
    assert encoded([*UIDS, elements[-1]]) == expected([*UIDS, (0x00081140, "", b"")])


def test_what_pydicom_cannot_read_is_unsendable() -> None:
    with descriptor(b"no DICOM") as (fd, _), pytest.raises(Unsendable, match="re-encoded"):
        implicit(fd)

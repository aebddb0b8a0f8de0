from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RSP, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode, encode

from listener.errors import PeerFault
from listener.network import dimse
from tests.network.peers import command

uids = st.from_regex(r"[12](\.[1-9][0-9]{0,8}){1,6}", fullmatch=True)
numbers = st.integers(0, 0xFFFF)


@given(numbers, uids, uids, st.sampled_from((dimse.LOW, dimse.MEDIUM, dimse.HIGH)))
def test_an_independent_library_reads_a_store(number: int, sop_class: str, sop: str, priority: int) -> None:
    written = dimse.store_request(number, sop_class, sop, priority)
    # Implicit VR, little endian.
    read = decode(BytesIO(written), True, True)
    assert read.CommandGroupLength == len(written) - 12
    assert (read.CommandField, read.MessageID, read.Priority) == (dimse.STORE, number, priority)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (sop_class, sop)
    assert read.CommandDataSetType != 0x0101


@given(numbers)
def test_an_independent_library_reads_an_echo(number: int) -> None:
    read = decode(BytesIO(dimse.echo_request(number)), True, True)
    assert (read.CommandField, read.MessageID, read.CommandDataSetType) == (dimse.ECHO, number, 0x0101)
    assert read.AffectedSOPClassUID == dimse.VERIFICATION


def answered(kind: Any, primitive: Any) -> bytes:
    message = kind()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded
    return encoded


@given(st.integers(1, 0xFFFF), numbers, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64))
def test_what_an_independent_library_answers_is_read(number: int, status: int, comment: str) -> None:
    primitive: Any = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = number, status
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = "1.2.3", "1.2.4"
    primitive.ErrorComment = comment
    read = dimse.response(answered(C_STORE_RSP, primitive))
    assert (read.field, read.message_id, read.status, read.has_dataset) == (dimse.STORE, number, status, False)
    assert read.comment.split() == comment.replace("\\", " \\ ").split() or read.comment.strip() == comment.strip()
    echo: Any = C_ECHO()
    echo.MessageIDBeingRespondedTo, echo.Status = number, 0
    assert dimse.response(answered(C_ECHO_RSP, echo)) == dimse.Response(dimse.ECHO, number, 0)


def test_every_cut_is_refused_or_lacks_nothing() -> None:
    whole = command()
    for count in range(len(whole)):
        with pytest.raises(PeerFault):
            dimse.response(whole[:count])


@pytest.mark.fuzz
@given(st.binary(max_size=120), st.integers(0, 60))
def test_noise_in_a_command_set_is_a_fault_of_the_peer(noise: bytes, where: int) -> None:
    whole = command()
    for content in (noise, whole[:where] + noise + whole[where:]):
        with suppress(PeerFault):
            assert dimse.response(content).comment.isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        command(e0100=0x0001),
        command()[:10],
        command() + b"\0\0\x02\x09\xff\xff\xff\xff",
        b"\0\0\0\x09\x04\0\0\0\0\0\0\0" + command()[:30],
        b"\x08\0\0\x09\x02\0\0\0\0\0" + command(),
    ],
)
def test_what_is_no_response_is_refused(wrong: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        dimse.response(wrong)
    assert caught.value.cause == "protocol"


def test_a_comment_is_printable_and_short() -> None:
    comment = b"\x1b[31mred\n" + b"x" * 200
    element = b"\0\0\x02\x09" + len(comment).to_bytes(4, "little") + comment
    shown = dimse.response(command() + element).comment
    assert shown.isprintable()
    assert len(shown) <= 64
    assert shown.startswith("[31mred xxx")

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as judge
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import PresentationContext

from listener.errors import PeerFault
from listener.network import pdu
from tests.network.peers import accepting, command, data, item

uids = st.from_regex(r"[12](\.[1-9][0-9]{0,8}){1,6}", fullmatch=True)
titles = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16)

ANSWERS = {
    "accepted": accepting({1: "1.2.840.10008.1.2", 3: "1.2.840.10008.1.2.1", 5: ""}),
    "rejected": bytes((pdu.REJECT, 0, 0, 0, 0, 4, 0, 1, 1, 7)),
    "data": data(1, command()),
    "release": bytes((pdu.RELEASE, 0, 0, 0, 0, 4, 0, 0, 0, 0)),
    "released": pdu.released(),
    "aborted": bytes((pdu.ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 6)),
}


def is_refused(answer: bytes | bytearray) -> bool:
    """Whether an answer is refused; False if it is read, or is not whole."""
    try:
        taken = pdu.take(answer)
    except PeerFault:
        return True
    assert taken is None or taken[1] <= len(answer)
    return False


@given(titles, titles, st.lists(st.tuples(uids, uids), max_size=127))
def test_an_independent_library_reads_the_request(called: str, calling: str, pairs: list[tuple[str, str]]) -> None:
    proposals = [pdu.Proposal(2 * index + 1, *pair) for index, pair in enumerate(pairs)]
    read: Any = judge.A_ASSOCIATE_RQ()
    read.decode(pdu.associate(called, calling, proposals))
    assert (read.called_ae_title, read.calling_ae_title) == (called, calling)
    assert read.application_context_name == "1.2.840.10008.3.1.1.1"
    contexts = read.presentation_context
    assert [(one.context_id, one.abstract_syntax, *one.transfer_syntax) for one in contexts] == [*map(tuple, proposals)]
    assert read.user_information.maximum_length == pdu.OURS
    assert len(read.user_information.implementation_class_uid) <= 64
    assert 1 <= len(read.user_information.implementation_version_name) <= 16


@given(
    st.dictionaries(st.integers(0, 127).map(lambda one: 2 * one + 1), st.tuples(uids, st.integers(0, 4)), max_size=9)
)
def test_what_an_independent_library_accepts_is_read(contexts: dict[int, tuple[str, int]]) -> None:
    primitive: Any = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.called_ae_title, primitive.calling_ae_title = "A", "B"
    primitive.result, primitive.result_source = 0, 1
    results = []
    for number, (syntax, result) in contexts.items():
        context = PresentationContext()
        context.context_id, context.result, context.transfer_syntax = number, result, [syntax]
        results.append(context)
    primitive.presentation_context_definition_results_list = results
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received, implementation.implementation_class_uid = 12345, "1.2.3"
    primitive.user_information = [longest, implementation]
    written: Any = judge.A_ASSOCIATE_AC()
    written.from_primitive(primitive)
    encoded = written.encode()
    answer = pdu.Accepted({one: syntax for one, (syntax, result) in contexts.items() if result == 0}, 12345)
    assert pdu.take(encoded + b"more") == (answer, len(encoded))


@pytest.mark.parametrize(
    ("kind", "ours"), [("A_RELEASE_RQ", pdu.release()), ("A_RELEASE_RP", pdu.released()), ("A_ABORT_RQ", pdu.abort())]
)
def test_short_ones_are_what_an_independent_library_writes(kind: str, ours: bytes) -> None:
    written: Any = getattr(judge, kind)()
    if kind == "A_ABORT_RQ":
        written.source = written.reason_diagnostic = 0
    assert written.encode() == ours


def test_codes_are_read() -> None:
    assert pdu.take(ANSWERS["rejected"]) == (pdu.Rejected(1, 1, 7), 10)
    assert pdu.take(ANSWERS["aborted"]) == (pdu.Aborted(2, 6), 10)
    assert pdu.take(ANSWERS["release"]) == (pdu.ReleaseRequested(), 10)
    assert pdu.take(ANSWERS["released"]) == (pdu.Released(), 10)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_cut_is_waited_for(name: str) -> None:
    whole = ANSWERS[name]
    assert [pdu.take(whole[:count]) for count in range(len(whole))] == [None] * len(whole)
    assert pdu.take(whole)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_whose_length_lies_is_refused_or_read(name: str) -> None:
    """Each body cut at each byte, with a head that says so."""
    whole = ANSWERS[name]
    refused = 0
    for count in range(6, len(whole)):
        cut = whole[:2] + (count - 6).to_bytes(4, "big") + whole[6:count]
        refused += is_refused(cut)
    assert refused


@pytest.mark.fuzz
@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4))
def test_whatever_is_answered_it_is_read_or_refused(name: str, changes: list[tuple[int, int]]) -> None:
    answer = bytearray(ANSWERS[name])
    for where, what in changes:
        answer[where % len(answer)] = what
    is_refused(answer)


@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_noise_is_no_answer(noise: bytes) -> None:
    is_refused(noise)


def test_a_length_that_nobody_could_send_is_refused_at_once() -> None:
    with pytest.raises(PeerFault, match="4294967295"):
        pdu.take(bytes((pdu.DATA, 0, 255, 255, 255, 255)))


def test_what_is_not_dicom_is_refused_at_its_first_byte() -> None:
    with pytest.raises(PeerFault, match="type 72"):
        pdu.take(b"HTTP/1.1 400 Bad Request")


def test_a_context_is_accepted_once_and_with_one_transfer_syntax() -> None:
    body = accepting({})[6:]
    for content in (
        item(0x21, bytes((1, 0, 0, 0))),
        item(0x21, bytes((1, 0, 0, 0)) + 2 * item(0x40, b"1.2")),
        2 * item(0x21, bytes((1, 0, 0, 0)) + item(0x40, b"1.2")),
    ):
        whole = bytes((pdu.ACCEPT, 0)) + len(body + content).to_bytes(4, "big") + body + content
        with pytest.raises(PeerFault, match="transfer syntax"):
            pdu.take(whole)


@pytest.mark.parametrize(
    ("longest", "content"), [(0, 131066), (16384, 16378), (4096, 4090), (4097, 4090), (2**32 - 1, 131066), (8, 2)]
)
def test_no_more_is_sent_than_the_peer_takes(longest: int, content: int) -> None:
    assert pdu.content_limit(longest) == content


@pytest.mark.parametrize("longest", range(1, 8))
def test_a_peer_that_takes_nothing_is_refused(longest: int) -> None:
    with pytest.raises(PeerFault, match="at most"):
        pdu.content_limit(longest)

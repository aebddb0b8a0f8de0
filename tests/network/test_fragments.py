from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from listener.network import pdu
from listener.network.fragments import Bytes, Fragments


def read(sent: bytes) -> list[pdu.Fragment]:
    found: list[pdu.Fragment] = []
    while sent:
        taken = pdu.take(sent)
        assert taken
        assert isinstance(taken[0], pdu.Data)
        found += taken[0].fragments
        sent = sent[taken[1] :]
    return found


@given(st.integers(1, 400), st.lists(st.tuples(st.binary(min_size=1, max_size=2500), st.integers(0, 2)), max_size=5))
def test_data_sets_are_read_back(half: int, datasets: list[tuple[bytes, int]]) -> None:
    """One after the other from the same buffer, in several presentation contexts, a piece or more each."""
    fragments = Fragments(2 * half)
    for content, number in datasets:
        even = content * 2
        context = 2 * number + 1
        found = read(b"".join(map(bytes, fragments.pieces(Bytes(even), context))))
        assert b"".join(fragment.content for fragment in found) == even
        assert all(len(fragment.content) == 2 * half for fragment in found[:-1])
        assert {fragment.context for fragment in found} == {context}
        assert [fragment.is_last for fragment in found] == [False] * (len(found) - 1) + [True]
        assert not any(fragment.is_command for fragment in found)


@given(st.integers(1, 400), st.lists(st.tuples(st.binary(min_size=1, max_size=2500), st.integers(0, 2)), max_size=5))
def test_what_was_read_ahead_changes_nothing(half: int, datasets: list[tuple[bytes, int]]) -> None:
    """Whether it is what is sent next, something else, or for another presentation context."""
    fragments = Fragments(2 * half)
    contents = [Bytes(content * 2) for content, _ in datasets]
    for number, (content, context) in enumerate(datasets):
        if context:
            fragments.load(contents[-1 if context == 2 else number], 1)
        found = read(b"".join(map(bytes, fragments.pieces(contents[number], 2 * (number % 2) + 1))))
        assert b"".join(fragment.content for fragment in found) == content * 2
        assert [fragment.is_last for fragment in found] == [False] * (len(found) - 1) + [True]
        assert {fragment.context for fragment in found} == {2 * (number % 2) + 1}


def test_what_is_larger_than_the_buffer_comes_in_pieces() -> None:
    content = bytes(range(256)) * 20_000
    pieces = [bytes(piece) for piece in Fragments(1024).pieces(Bytes(content), 7)]
    assert len(pieces) == -(-len(content) // (480 * 1024))
    assert b"".join(fragment.content for fragment in read(b"".join(pieces))) == content

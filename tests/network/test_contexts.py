from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from listener.errors import PeerFault
from listener.network.contexts import MOST, VERIFYING, Agreement, Pair, proposals

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
JPEG = "1.2.840.10008.1.2.4.70"

pairs_ = st.lists(
    st.builds(
        Pair, st.integers(1, 200).map(lambda n: f"1.2.{n}"), st.sampled_from((IMPLICIT_LITTLE, EXPLICIT_LITTLE, JPEG))
    ),
    max_size=300,
)


@given(pairs_)
def test_ids_are_odd_and_no_pair_is_asked_for_twice(pairs: list[Pair]) -> None:
    asked = proposals(pairs)
    assert [one.id for one in asked] == list(range(1, 2 * len(asked), 2))
    assert len(asked) <= MOST
    assert len({one[1:] for one in asked}) == len(asked)
    agreed = Agreement(asked, {one.id: one.transfer_syntax for one in asked})
    assert VERIFYING in agreed.proposed
    # The first ones are always among them, and what is not compressed has its plain sister.
    for pair in pairs[:60]:
        assert agreed.context(pair) == (agreed.accepted[pair], False)
        if pair.TransferSyntaxUID != JPEG:
            assert Pair(pair.SOPClassUID, IMPLICIT_LITTLE) in agreed.proposed


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_what_is_not_compressed_may_go_as_implicit(syntax: str) -> None:
    asked = proposals([Pair(CT, syntax)])
    plain = next(one for one in asked if one[1:] == (CT, IMPLICIT_LITTLE))
    agreed = Agreement(asked, {plain.id: IMPLICIT_LITTLE})
    assert agreed.context(Pair(CT, syntax)) == (plain.id, True)
    assert agreed.context(Pair(MR, syntax)) is None


def test_what_is_compressed_is_never_decoded() -> None:
    asked = proposals([Pair(CT, JPEG), Pair(CT, EXPLICIT_LITTLE)])
    plain = next(one for one in asked if one[1:] == (CT, IMPLICIT_LITTLE))
    assert Agreement(asked, {plain.id: IMPLICIT_LITTLE}).context(Pair(CT, JPEG)) is None


@pytest.mark.parametrize("accepted", [{9: IMPLICIT_LITTLE}, {2: IMPLICIT_LITTLE}, {3: JPEG}, {3: ""}])
def test_what_was_never_proposed_cannot_be_accepted(accepted: dict[int, str]) -> None:
    with pytest.raises(PeerFault, match="never proposed"):
        Agreement(proposals([Pair(CT, EXPLICIT_LITTLE)]), accepted)

"""Presentation contexts (PS3.8 section 7.1.1.13): what is proposed for the instances to be sent, and in which of
the accepted ones an instance goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from listener.dicom.syntaxes import IMPLICIT_LITTLE, NATIVE
from listener.errors import PeerFault
from listener.network.dimse import VERIFICATION
from listener.network.pdu import Proposal

#: Most presentation contexts of an association: their ids are odd, 1 to 255.
MOST = 128


class Pair(NamedTuple):
    """What an instance needs: its SOP class and its transfer syntax."""

    SOPClassUID: str
    TransferSyntaxUID: str


#: Proposed in every association.
VERIFYING = Pair(VERIFICATION, IMPLICIT_LITTLE)


class Agreement:
    """The presentation contexts of an association, by pair.

    `proposed` are the pairs that were asked for, `accepted` the id of each that was accepted. Verification is always
    among them. Raises PeerFault when the peer accepts what was never proposed.
    """

    def __init__(self, proposals: Iterable[Proposal], accepted: Mapping[int, str]) -> None:
        asked = {proposal.id: Pair(proposal.abstract_syntax, proposal.transfer_syntax) for proposal in proposals}
        self.proposed = frozenset(asked.values())
        self.accepted: dict[Pair, int] = {}
        for number, syntax in accepted.items():
            pair = asked.get(number)
            if pair is None or pair.TransferSyntaxUID != syntax:
                raise PeerFault("protocol", f"it accepted presentation context {number} as it was never proposed")
            self.accepted[pair] = number

    def context(self, pair: Pair) -> tuple[int, bool] | None:
        """Return the id of the context for an instance, and whether it must be re-encoded to Implicit VR Little Endian
        for it; None when there is none. What is compressed is never decoded.
        """
        number = self.accepted.get(pair)
        if number is not None:
            return number, False
        plain = self.accepted.get(_plain(pair)) if pair.TransferSyntaxUID in NATIVE else None
        return None if plain is None else (plain, True)


def _plain(pair: Pair) -> Pair:
    return pair._replace(TransferSyntaxUID=IMPLICIT_LITTLE)


def proposals(pairs: Iterable[Pair]) -> list[Proposal]:
    """Return the contexts to be proposed: Verification, one for each pair, and Implicit VR Little Endian for the SOP
    classes of what is not compressed (PS3.5 section 10.1). Of more than MOST the first ones.
    """
    wanted = {VERIFYING: None}
    for pair in pairs:
        own = {pair: None} | ({_plain(pair): None} if pair.TransferSyntaxUID in NATIVE else {})
        if len(wanted | own) <= MOST:
            wanted |= own
    return [Proposal(2 * index + 1, *pair) for index, pair in enumerate(wanted)]

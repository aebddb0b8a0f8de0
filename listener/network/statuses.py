"""PURE. What a response's status says of an instance (PS3.7 annex C, PS3.4 annex B.2.3): delivered or not, and what is
to be done next.
"""

from __future__ import annotations

from typing import NamedTuple

#: Outcomes. `delivered`: the peer has it. `full`: the peer is out of resources and is to rest. `refused`: the peer does
#: not want this instance. `failed`: anything else. `unavailable`: there was no response.
DELIVERED, FULL, REFUSED, FAILED, UNAVAILABLE = OUTCOMES = ("delivered", "full", "refused", "failed", "unavailable")


class Meaning(NamedTuple):
    """`outcome` is one of OUTCOMES; after `attempts` of them the instance is a dead letter, 0: never."""

    outcome: str
    attempts: int = 0


#: Success; warnings: requested optional attributes not supported, attribute list error, attribute value out of range;
#: and duplicate SOP instance, which the peer has already.
_HAS_IT = frozenset({0x0000, 0x0001, 0x0107, 0x0116, 0x0111})

#: PS3.7 annex C: about this instance, and the same at each attempt (no such attribute, invalid attribute value, invalid
#: argument, invalid object instance, no such SOP class, class-instance conflict, missing attribute, missing attribute
#: value, SOP class not supported, mistyped argument).
_NOT_THIS = frozenset({0x0105, 0x0106, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0212})

_RESOURCES = 0x0213

#: Another answer than a status that is as final: no presentation context for it was accepted.
NOT_ACCEPTED = Meaning(REFUSED, 3)

#: It was not sent, because its file could not be read: tried as often as after any other failure.
UNREADABLE = Meaning(FAILED, 20)

#: No answer at all: one failure of the peer, not one of each instance.
NO_ANSWER = Meaning(UNAVAILABLE)


def meaning(status: int) -> Meaning:
    """Return what a status of C-STORE-RSP means; every number has a meaning."""
    high = status >> 8
    if status in _HAS_IT or high >> 4 == 0xB:
        return Meaning(DELIVERED)
    if high == 0xA7 or status == _RESOURCES:
        return Meaning(FULL)
    # A8xx: SOP class not supported, in editions before 2008.
    if high in (0xA8, 0xA9) or high >> 4 == 0xC or status in _NOT_THIS:
        return Meaning(REFUSED, 3)
    return Meaning(FAILED, UNREADABLE.attempts)

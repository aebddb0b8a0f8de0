"""PURE. Protocol data units of the DICOM upper layer (PS3.8 section 9.3): what a requestor sends, and what it is
answered.

Integers are big endian. Answers come from whoever listens there: every length is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from listener.errors import PeerFault

#: Types of PDU (PS3.8 section 9.3.1).
ACCEPT, REJECT, DATA, RELEASE, RELEASED, ABORT = range(2, 8)
_REQUEST = 1

#: Most bytes of an answer that are read, and most bytes of a P-DATA-TF that are sent, whatever the peer would take.
LONGEST = 128 * 1024

#: What this side announces to take at most in a P-DATA-TF (PS3.8 annex D.1): responses have about 150 bytes.
OURS = 16 * 1024

#: PS3.7 annex A.2.1.
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"

_IMPLEMENTATION = b"2.25.15476627485598383699428749316025846250"
_IMPLEMENTATION_VERSION = b"DICOM_LISTENER"

_head = Struct(">BxL")
_item = Struct(">BxH")
_titles = Struct(">HH16s16s32x")
_value = Struct(">LBB")
_fragment = Struct(">BxLLBB")

#: Bytes that stand before the content of a P-DATA-TF of one fragment.
HEAD = _fragment.size

#: Bits of a presentation data value's control header (PS3.8 annex E.2).
_COMMAND, _LAST = 1, 2


class Proposal(NamedTuple):
    """A presentation context that is proposed: `id` is odd, 1 to 255."""

    id: int
    abstract_syntax: str
    transfer_syntax: str


class Accepted(NamedTuple):
    """A-ASSOCIATE-AC. `contexts` maps the id of each accepted presentation context to its transfer syntax; `longest` is
    the most bytes that the peer takes in a P-DATA-TF, 0 for no limit.
    """

    contexts: dict[int, str]
    longest: int = 0


class Rejected(NamedTuple):
    """A-ASSOCIATE-RJ: the codes of PS3.8 table 9-21."""

    result: int
    source: int
    reason: int


class Fragment(NamedTuple):
    """A presentation data value: a part of a command set or data set."""

    context: int
    is_command: bool
    is_last: bool
    content: bytes


class Data(NamedTuple):
    """P-DATA-TF."""

    fragments: tuple[Fragment, ...]


class ReleaseRequested(NamedTuple):
    """A-RELEASE-RQ: the peer wants to end the association."""


class Released(NamedTuple):
    """A-RELEASE-RP: the peer agrees to the end."""


class Aborted(NamedTuple):
    """A-ABORT: the codes of PS3.8 table 9-26."""

    source: int
    reason: int


Pdu: TypeAlias = Accepted | Rejected | Data | ReleaseRequested | Released | Aborted


# -- sent ------------------------------------------------------------------------------------------------------------


def associate(called: str, calling: str, proposals: Sequence[Proposal]) -> bytes:
    """Return an A-ASSOCIATE-RQ. AE titles have 1 to 16 characters of ASCII."""
    titles = _titles.pack(1, 0, _title(called), _title(calling))
    contexts = b"".join(_proposed(proposal) for proposal in proposals)
    user = _packed(0x51, OURS.to_bytes(4, "big")) + _packed(0x52, _IMPLEMENTATION)
    user += _packed(0x55, _IMPLEMENTATION_VERSION)
    body = titles + _packed(0x10, _APPLICATION_CONTEXT) + contexts + _packed(0x50, user)
    return _head.pack(_REQUEST, len(body)) + body


def _title(text: str) -> bytes:
    return text.encode("ascii").ljust(16)


def _packed(kind: int, content: bytes) -> bytes:
    return _item.pack(kind, len(content)) + content


def _proposed(proposal: Proposal) -> bytes:
    syntaxes = _packed(0x30, proposal.abstract_syntax.encode("ascii"))
    syntaxes += _packed(0x40, proposal.transfer_syntax.encode("ascii"))
    return _packed(0x20, bytes((proposal.id, 0, 0, 0)) + syntaxes)


def fragment_head(context: int, length: int, *, is_command: bool = False, is_last: bool) -> bytes:
    """Return what stands before `length` bytes of content, so that both are a P-DATA-TF of one fragment."""
    return _fragment.pack(DATA, length + 6, length + 2, context, _COMMAND * is_command | _LAST * is_last)


def content_limit(longest: int) -> int:
    """Return the most bytes of content in a P-DATA-TF for a peer that takes `longest` (0: no limit): an even number, as
    every fragment has (PS3.8 annex E.1). Raises PeerFault when the peer takes none.
    """
    limit = (min(longest or LONGEST, LONGEST) - 6) // 2 * 2
    if limit < 2:
        raise PeerFault("protocol", f"it takes at most {longest} bytes at a time")
    return limit


def release() -> bytes:
    """Return an A-RELEASE-RQ."""
    return _head.pack(RELEASE, 4) + bytes(4)


def released() -> bytes:
    """Return an A-RELEASE-RP."""
    return _head.pack(RELEASED, 4) + bytes(4)


def abort() -> bytes:
    """Return an A-ABORT by the service user."""
    return _head.pack(ABORT, 4) + bytes(4)


# -- answered --------------------------------------------------------------------------------------------------------


def take(received: bytes | bytearray) -> tuple[Pdu, int] | None:
    """Return the first PDU of what was received, and its size in bytes; None while it is not whole.

    Raises PeerFault for what is none, as soon as that is seen.
    """
    if not received:
        return None
    if received[0] not in _DECODERS:
        raise PeerFault("protocol", f"an answer of type {received[0]}, which is none of DICOM's")
    if len(received) < _head.size:
        return None
    kind, length = _head.unpack_from(received)
    if length > LONGEST:
        raise PeerFault("protocol", f"an answer of {length} bytes")
    size = _head.size + length
    if len(received) < size:
        return None
    return _DECODERS[kind](bytes(received[_head.size : size])), size


def _accepted(body: bytes) -> Accepted:
    if len(body) < _titles.size:
        raise _cut("A-ASSOCIATE-AC")
    contexts: dict[int, str] = {}
    longest = 0
    for kind, content in _items(body, _titles.size):
        if kind == 0x21:
            _add_context(contexts, content)
        elif kind == 0x50:
            for inner, value in _items(content, 0):
                if inner == 0x51:
                    longest = int.from_bytes(value, "big")
    return Accepted(contexts, longest)


def _add_context(contexts: dict[int, str], content: bytes) -> None:
    if len(content) < 4:
        raise _cut("presentation context")
    number, result = content[0], content[2]
    if result != 0:
        return  # Refused: its transfer syntax has no meaning (PS3.8 section 9.3.3.2).
    syntaxes = [value for kind, value in _items(content, 4) if kind == 0x40]
    if len(syntaxes) != 1 or number in contexts:
        raise PeerFault("protocol", f"presentation context {number} is accepted without exactly one transfer syntax")
    contexts[number] = syntaxes[0].rstrip(b"\0 ").decode("ascii", "replace")


def _items(data: bytes, pos: int) -> list[tuple[int, bytes]]:
    """Return type and content of the items from `pos` to the end."""
    found: list[tuple[int, bytes]] = []
    while pos < len(data):
        if pos + _item.size > len(data):
            raise _cut("item")
        kind, length = _item.unpack_from(data, pos)
        pos += _item.size
        if pos + length > len(data):
            raise _cut("item")
        found.append((kind, data[pos : pos + length]))
        pos += length
    return found


def _data(body: bytes) -> Data:
    found: list[Fragment] = []
    pos = 0
    while pos < len(body):
        if pos + _value.size > len(body):
            raise _cut("P-DATA-TF")
        length, context, control = _value.unpack_from(body, pos)
        end = pos + 4 + length
        if length < 2 or end > len(body):
            raise _cut("P-DATA-TF")
        content = body[pos + _value.size : end]
        found.append(Fragment(context, bool(control & _COMMAND), bool(control & _LAST), content))
        pos = end
    return Data(tuple(found))


def _rejected(body: bytes) -> Rejected:
    return Rejected(*_codes(body, "A-ASSOCIATE-RJ")[1:])


def _aborted(body: bytes) -> Aborted:
    return Aborted(*_codes(body, "A-ABORT")[2:])


def _release_requested(body: bytes) -> ReleaseRequested:
    _codes(body, "A-RELEASE-RQ")
    return ReleaseRequested()


def _released(body: bytes) -> Released:
    _codes(body, "A-RELEASE-RP")
    return Released()


def _codes(body: bytes, name: str) -> bytes:
    if len(body) != 4:
        raise _cut(name)
    return body


def _cut(name: str) -> PeerFault:
    return PeerFault("protocol", f"the lengths within its {name} are wrong")


_DECODERS: dict[int, Callable[[bytes], Pdu]] = {
    ACCEPT: _accepted,
    REJECT: _rejected,
    DATA: _data,
    RELEASE: _release_requested,
    RELEASED: _released,
    ABORT: _aborted,
}

"""PURE. Command sets of DIMSE messages (PS3.7 sections 6.3, 9.3 and annex E): C-STORE and C-ECHO, as their user sends
them, and the responses.

A command set is always in Implicit VR Little Endian.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from listener.errors import PeerFault

VERIFICATION = "1.2.840.10008.1.1"

#: Command fields (PS3.7 annex E.1).
STORE, ECHO = 0x0001, 0x0030
_RESPONSE = 0x8000

#: Priorities (PS3.7 annex E.1).
MEDIUM, HIGH, LOW = 0, 1, 2

#: Command Data Set Type: there is no data set behind the command; any other value says that there is one.
_NO_DATASET, _A_DATASET = 0x0101, 0x0000

#: Elements of group 0000.
_CLASS, _FIELD, _ID, _ANSWERED = 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _DATASET, _STATUS, _COMMENT, _INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000

#: What a response has, and what has two bytes.
_ANSWER = frozenset((_FIELD, _ANSWERED, _STATUS))
_NUMBERS = _ANSWER | {_DATASET}

_element = Struct("<HHL")
_short = Struct("<H")

_NOTHING_BEHIND = _short.pack(_NO_DATASET)

#: Most characters of an Error Comment (PS3.7 annex C: LO).
_COMMENT_LENGTH = 64


class Response(NamedTuple):
    """A response. `status` is the code (PS3.7 annex C), `comment` what the peer says of it, printable, "" for nothing:
    that may name a patient.
    """

    field: int
    message_id: int
    status: int
    comment: str = ""
    has_dataset: bool = False


def store_request(message_id: int, SOPClassUID: str, SOPInstanceUID: str, priority: int = MEDIUM) -> bytes:
    """Return the command set of a C-STORE-RQ; its data set follows."""
    return _command(
        {
            _CLASS: _uid(SOPClassUID),
            _FIELD: _short.pack(STORE),
            _ID: _short.pack(message_id),
            _PRIORITY: _short.pack(priority),
            _DATASET: _short.pack(_A_DATASET),
            _INSTANCE: _uid(SOPInstanceUID),
        }
    )


def echo_request(message_id: int) -> bytes:
    """Return the command set of a C-ECHO-RQ."""
    return _command(
        {
            _CLASS: _uid(VERIFICATION),
            _FIELD: _short.pack(ECHO),
            _ID: _short.pack(message_id),
            _DATASET: _short.pack(_NO_DATASET),
        }
    )


def _command(elements: dict[int, bytes]) -> bytes:
    """Encode elements of group 0000 with their group length."""
    body = b"".join(_element.pack(0, number, len(value)) + value for number, value in elements.items())
    return _element.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _uid(text: str) -> bytes:
    data = text.encode("ascii")
    return data + b"\0" * (len(data) % 2)


def response(command: bytes) -> Response:
    """Decode the command set of a response. Raises PeerFault for anything else."""
    values = _elements(command)
    if not values.keys() >= _ANSWER:
        raise PeerFault("protocol", "a command set that is no response")
    field = _number(values[_FIELD])
    if not field & _RESPONSE:
        raise PeerFault("protocol", "a request instead of a response")
    has_dataset = values.get(_DATASET, _NOTHING_BEHIND) != _NOTHING_BEHIND
    comment = _printable(values[_COMMENT]) if _COMMENT in values else ""
    return Response(field & ~_RESPONSE, _number(values[_ANSWERED]), _number(values[_STATUS]), comment, has_dataset)


def _number(value: bytes) -> int:
    return value[0] | value[1] << 8


def _printable(comment: bytes) -> str:
    text = comment.decode("utf-8", "replace")
    return "".join(one if one.isprintable() else " " for one in text).strip()[:_COMMENT_LENGTH]


def _elements(command: bytes) -> dict[int, bytes]:
    """Return the values of a command set by element number; those of two bytes exactly where they are US."""
    values: dict[int, bytes] = {}
    pos, size = 0, len(command)
    while pos < size:
        if pos + _element.size > size:
            raise PeerFault("protocol", "a command set that is cut")
        group, number, length = _element.unpack_from(command, pos)
        pos += _element.size
        end = pos + length
        if group or end > size:
            raise PeerFault("protocol", "a command set whose lengths are wrong")
        if length != _short.size and number in _NUMBERS:
            raise PeerFault("protocol", "a command set with a number of another length than two bytes")
        values[number] = command[pos:end]
        pos = end
    return values

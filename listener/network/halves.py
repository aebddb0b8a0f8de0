"""Answers that come in two halves: DCMTK sends the first 12 bytes of each by themselves.

Where the peer leaves Nagle's algorithm on, the second half comes only when the first is acknowledged: at once, if that
is asked for, or 40 ms later. Where it does not, the second follows by itself; then it is enough to be woken once, for
both, which saves either side work.
"""

from __future__ import annotations

import socket

#: Bytes that wake us where halves follow each other: one more than a head of DCMTK's.
_BOTH = 13

#: Seconds within which a second half comes by itself.
_BY_ITSELF = 0.005

#: Seconds after which a few bytes are heard, too, since an abort has only ten; less than the 40 ms after which the
#: kernel acknowledges by itself.
_HEARS_ALL = 0.03


class Halves:
    """When a TCP connection's peer is acknowledged, and from how many bytes on it is heard, which its first answer in
    parts tells (of one with TLS it is not asked). Before each wait for bytes: expect(); when they came: came().
    """

    def __init__(self, connection: socket.socket, *, is_tls: bool) -> None:
        self._connection = connection
        #: Whether a second half waits until the first is acknowledged; None: not known yet.
        self._waits = True if is_tls else None
        self._least = 1
        self._acknowledge(at_once=is_tls)

    def expect(self, *, has_part: bool) -> float | None:
        """Prepare to wait for bytes of an answer, of which a part is there or nothing. Return the seconds after which
        late() is to be called if nothing came, or None.
        """
        if self._waits is None:
            return _BY_ITSELF if has_part else None
        if self._waits:
            self._acknowledge(at_once=True)
            return None
        self._hear_from(1 if has_part else _BOTH)
        return None if has_part else _HEARS_ALL

    def late(self) -> None:
        """Take in that nothing came so soon."""
        self.hear_all()
        if self._waits is None or self._has_come():
            self._waits = True
            self._acknowledge(at_once=True)

    def came(self, *, has_part: bool) -> None:
        """Take in that bytes came, as in expect()."""
        if has_part and self._waits is None:
            self._waits = False

    def hear_all(self) -> None:
        """Let a single byte be enough, until an answer is expected."""
        self._hear_from(1)

    def _has_come(self) -> bool:
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False  # It is told when the connection is read.

    def _acknowledge(self, *, at_once: bool) -> None:
        # The kernel forgets that it is to be at once: it is said again each time.
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, at_once)

    def _hear_from(self, count: int) -> None:
        if count != self._least:
            self._least = count
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

"""A connection to a DICOM peer: PDUs over TCP or TLS, each wait with a limit."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence

from listener.errors import PeerFault
from listener.network import pdu
from listener.network.halves import Halves

#: Bytes of one receive.
_RECEIVE = 16 * 1024

#: Most buffers of one sendmsg (IOV_MAX is 1,024).
_BUFFERS = 1000

_INTERRUPTED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Buffers = Sequence[bytes | memoryview]


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Return a connection to `host`, of whose addresses each is tried for so long. Raises PeerFault."""
    try:
        connection = socket.create_connection((host, port), seconds)
    except socket.gaierror as error:
        raise PeerFault("unresolved", error.strerror or "") from None
    except UnicodeError:  # An empty label, or one of more than 63 characters.
        raise PeerFault("unresolved", "this is no name of a host") from None
    except ConnectionRefusedError:
        raise PeerFault("refused", "nobody listens there") from None
    except TimeoutError:
        raise PeerFault("timeout", f"not connected within {seconds:g} s") from None
    except OSError as error:
        raise PeerFault("unreachable", error.strerror or "") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def tls_context(ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """Return the settings of a TLS client. Its arguments are files in PEM: who may have signed the peer's certificate
    (the system's own list if not given), and our certificate with its key, for peers that ask for one.

    Raises OSError (ssl.SSLError is one) for a file that cannot be used.
    """
    context = ssl.create_default_context(cafile=ca or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


def secured(connection: socket.socket, context: ssl.SSLContext, host: str, seconds: float) -> ssl.SSLSocket:
    """Return the connection with TLS on it; closes it when that fails. Raises PeerFault."""
    try:
        connection.settimeout(seconds)
        return context.wrap_socket(connection, server_hostname=host)
    except TimeoutError:
        connection.close()
        raise PeerFault("timeout", f"no TLS within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise PeerFault("tls", error.verify_message) from None
    except OSError as error:
        connection.close()
        raise PeerFault("tls", getattr(error, "reason", "") or error.strerror or "") from None


class Stream:
    """Sends buffers and receives PDUs on a connection, which it owns. Failures are PeerFault."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._is_tls = isinstance(connection, ssl.SSLSocket)
        self._halves = Halves(connection, is_tls=self._is_tls)
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def send(self, parts: Buffers, silence: float) -> None:
        """Send all of `parts`; gives up after `silence` seconds in which the peer took nothing."""
        pending: list[bytes | memoryview] = [b"".join(parts)] if self._is_tls else list(parts)
        deadline = time.monotonic() + silence
        self._check_received()
        while pending:
            try:
                sent = self._sent(pending)
            except _INTERRUPTED as error:
                self._halves.hear_all()
                is_blocked = not isinstance(error, ssl.SSLWantReadError)
                if self._wait(deadline, select.POLLIN | select.POLLOUT if is_blocked else select.POLLIN, sends=True):
                    self._receive_early()
            except OSError as error:
                self._receive_early()  # An abort may have come before the end.
                raise _closed(error) from None
            else:
                pending = _without(pending, sent)
                deadline = time.monotonic() + silence

    def _sent(self, parts: Buffers) -> int:
        if self._is_tls:  # It has no sendmsg.
            return self._connection.send(parts[0])
        return self._connection.sendmsg(parts[:_BUFFERS])

    def receive(self, deadline: float) -> pdu.Pdu:
        """Return the next PDU, which must be whole at `deadline`, by the monotonic clock."""
        while (taken := pdu.take(self._received)) is None:
            self._fill(deadline)
        found, size = taken
        del self._received[:size]
        return found

    def _fill(self, deadline: float) -> None:
        """Wait for bytes and add them to what was received."""
        has_part = bool(self._received)
        wants = 0 if self._is_tls else select.POLLIN  # What TLS has in its buffer, poll() does not see.
        while True:
            self._wait_for_answer(deadline, wants, has_part=has_part)
            try:
                data = self._connection.recv(_RECEIVE)
            except _INTERRUPTED as error:
                wants = select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else select.POLLIN
                continue
            except OSError as error:
                raise _closed(error) from None
            if not data:
                raise PeerFault("closed", "it closed the connection")
            self._halves.came(has_part=has_part)
            self._received += data
            return

    def _wait_for_answer(self, deadline: float, wants: int, *, has_part: bool) -> None:
        """Wait for what `wants` says (0: only prepare to receive)."""
        soon = self._halves.expect(has_part=has_part)
        if soon is not None:
            if self._poll.poll(soon * 1000):
                return
            self._halves.late()
        if wants:
            self._wait(deadline, wants)

    def _receive_early(self) -> None:
        """Take in what the peer says while it is still sent to. Raises PeerFault when that is the end."""
        try:
            data = self._connection.recv(_RECEIVE)
        except _INTERRUPTED:
            return
        except OSError as error:
            raise _closed(error) from None
        if not data:
            raise PeerFault("closed", "it closed the connection")
        self._received += data
        self._check_received()

    def _check_received(self) -> None:
        """Raise PeerFault when what was received ends the association, or is too much."""
        taken = pdu.take(self._received)
        if taken:
            fail_at_end(taken[0])
        if len(self._received) > pdu.LONGEST:
            raise PeerFault("protocol", f"it sends more than {pdu.LONGEST} bytes unasked")

    def _wait(self, deadline: float, wants: int, *, sends: bool = False) -> bool:
        """Wait until the connection is ready for what `wants` says; return whether there is something to be received.
        Raises PeerFault at the deadline.
        """
        if wants != select.POLLIN:
            self._poll.modify(self._connection, wants)
        ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if wants != select.POLLIN:
            self._poll.modify(self._connection, select.POLLIN)
        if not ready:
            raise PeerFault("timeout", "it does not take what is sent" if sends else "it does not answer")
        return bool(ready[0][1] & ~select.POLLOUT)

    def interrupt(self) -> None:
        """End what waits on the connection; from any thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def send_and_close(self, last: bytes = b"") -> None:
        """Send `last` if that needs no waiting, and close the connection."""
        with contextlib.suppress(OSError), self._connection:
            if last:
                self._connection.send(last)


def fail_at_end(answer: pdu.Pdu) -> None:
    """Raise PeerFault for a PDU that ends the association."""
    if isinstance(answer, pdu.Aborted):
        raise PeerFault("aborted", f"source {answer.source}, reason {answer.reason}")
    if isinstance(answer, pdu.ReleaseRequested):
        raise PeerFault("closed", "it released the association")


def _without(parts: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """Return what is left of `parts` when so many bytes of them were sent."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []


def _closed(error: OSError) -> PeerFault:
    cause = "tls" if isinstance(error, ssl.SSLError) else "closed"
    return PeerFault(cause, getattr(error, "reason", "") or error.strerror or "")

"""An association with a storage peer (PS3.8 section 7): C-STORE and C-ECHO, one after the other."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from listener.errors import NotAccepted, PeerFault
from listener.network import dimse, pdu
from listener.network.contexts import VERIFYING, Agreement, Pair, proposals
from listener.network.dimse import Response
from listener.network.fragments import Bytes, Content, Fragments
from listener.network.instance import Instance
from listener.network.stream import Stream, connect, fail_at_end, secured

#: Bytes for which a peer gets a second more to answer: it may be writing them to a slow disk.
_BYTES_A_SECOND = 10_000_000

#: Most bytes of a response's command set.
_LONGEST_COMMAND = 16 * 1024

#: Message ids count up to this.
_IDS = 0xFFFF

#: Reasons of the service user that concern AE titles (PS3.8 table 9-21).
_TITLES = {3: "the calling AE title is not recognized", 7: "the called AE title is not recognized"}


class Peer(NamedTuple):
    """Where to send to. `called` and `calling` are AE titles; `tls` is None for plain TCP."""

    host: str
    port: int
    called: str
    calling: str = "LISTENER"
    tls: ssl.SSLContext | None = None


class Patience(NamedTuple):
    """Seconds to wait: for the connection (each of the host's addresses), for the association, and for a response or
    any progress in sending; a response gets a second more for each 10 MB.
    """

    connect: float = 5.0
    associate: float = 10.0
    response: float = 15.0


class Stored(NamedTuple):
    """The response to a C-STORE, and whether the instance was re-encoded for it."""

    response: Response
    is_reencoded: bool = False


class Association:
    """An open association. Raises PeerFault when the peer is unavailable; after that, it is over.

    `pairs` are those that will be sent; `agreement` says which were proposed and accepted.
    """

    def __init__(self, peer: Peer, pairs: Iterable[Pair], patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._messages = 0
        connection = connect(peer.host, peer.port, self._patience.connect)
        if peer.tls:
            connection = secured(connection, peer.tls, peer.host, self._patience.associate)
        self._stream = Stream(connection)
        self.is_open = True
        proposed = proposals(pairs)
        with self._ending_on_failure():
            deadline = time.monotonic() + self._patience.associate
            self._stream.send([pdu.associate(peer.called, peer.calling, proposed)], self._patience.associate)
            accepted = _accepted(self._stream.receive(deadline))
            self.agreement = Agreement(proposed, accepted.contexts)
            self._most = pdu.content_limit(accepted.longest)
        self._fragments = Fragments(self._most)

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.abort()
            raise

    def store(
        self, instance: Instance, priority: int = dimse.MEDIUM, meanwhile: Callable[[], None] = lambda: None
    ) -> Stored:
        """Send one instance and return the response, whatever its status. `meanwhile` is called when all is sent.

        Raises NotAccepted when the peer has no context for it, Unsendable (both leave the association open, if nothing
        was sent yet), PeerFault.
        """
        found = self.agreement.context(instance.pair)
        if found is None:
            raise NotAccepted(f"{instance.pair.SOPClassUID} in {instance.pair.TransferSyntaxUID}")
        context, reencodes = found
        content: Content = instance
        if reencodes:
            from listener.network.implicit import implicit

            content = Bytes(implicit(instance.descriptor))
        number = self._next_id()
        command = dimse.store_request(number, instance.pair.SOPClassUID, instance.SOPInstanceUID, priority)
        with self._ending_on_failure():
            self._send(context, command, content)
            meanwhile()
            seconds = self._patience.response + content.size / _BYTES_A_SECOND
            answer = self._response(context, dimse.STORE, number, seconds)
        return Stored(answer, reencodes)

    def preload(self, instance: Instance) -> None:
        """Read the beginning of what is stored next, while a response is awaited. Raises Unsendable, OSError."""
        found = self.agreement.context(instance.pair)
        if found and not found[1]:
            self._fragments.load(instance, found[0])

    def echo(self) -> Response:
        """Send a C-ECHO and return the response. Raises NotAccepted, PeerFault."""
        found = self.agreement.context(VERIFYING)
        if found is None:
            raise NotAccepted("Verification")
        number = self._next_id()
        with self._ending_on_failure():
            self._stream.send(self._commanded(found[0], dimse.echo_request(number)), self._patience.response)
            return self._response(found[0], dimse.ECHO, number, self._patience.response)

    def _next_id(self) -> int:
        self._messages = self._messages % _IDS + 1
        return self._messages

    def _commanded(self, context: int, command: bytes) -> list[bytes | memoryview]:
        """Return the parts of a command set: one fragment, or more for a peer that takes very little."""
        view, parts = memoryview(command), list[bytes | memoryview]()
        for start in range(0, len(view), self._most):
            piece = view[start : start + self._most]
            last = start + self._most >= len(view)
            parts += (pdu.fragment_head(context, len(piece), is_command=True, is_last=last), piece)
        return parts

    def _send(self, context: int, command: bytes, content: Content) -> None:
        """Send a command and its data set; the first piece goes together with the command, in one call."""
        parts = self._commanded(context, command)
        for piece in self._fragments.pieces(content, context):
            self._stream.send([*parts, piece], self._patience.response)
            parts = []

    def _response(self, context: int, field: int, number: int, seconds: float) -> Response:
        """Return the response to message `number`, which must be there within so many seconds."""
        deadline = time.monotonic() + seconds
        command = b""
        while True:
            answer = self._stream.receive(deadline)
            fail_at_end(answer)
            if not isinstance(answer, pdu.Data):
                raise PeerFault("protocol", f"{type(answer).__name__} instead of a response")
            for index, fragment in enumerate(answer.fragments):
                if fragment.context != context or not fragment.is_command:
                    raise PeerFault("protocol", "a response in another context, or a data set")
                command += fragment.content
                if len(command) > _LONGEST_COMMAND:
                    raise PeerFault("protocol", f"a command set of more than {_LONGEST_COMMAND} bytes")
                if fragment.is_last:
                    return _matching(command, field, number, is_alone=index == len(answer.fragments) - 1)

    def release(self) -> None:
        """End the association in good order; a peer that does not answer is left."""
        if not self.is_open:
            return
        try:
            self._stream.send([pdu.release()], 1.0)
            self._stream.receive(time.monotonic() + 1.0)
        except PeerFault:
            pass  # Everything was answered before.
        self.is_open = False
        self._stream.send_and_close()

    def abort(self) -> None:
        """End the association at once, in the thread that uses it."""
        if self.is_open:
            self.is_open = False
            self._stream.send_and_close(pdu.abort())

    def interrupt(self) -> None:
        """Let what is under way fail; from any thread."""
        self._stream.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()


def _accepted(answer: pdu.Pdu) -> pdu.Accepted:
    fail_at_end(answer)
    if isinstance(answer, pdu.Rejected):
        is_title = answer.source == 1 and answer.reason in _TITLES
        codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
        raise PeerFault("title" if is_title else "rejected", _TITLES[answer.reason] if is_title else codes)
    if not isinstance(answer, pdu.Accepted):
        raise PeerFault("protocol", f"{type(answer).__name__} instead of an association")
    return answer


def _matching(command: bytes, field: int, number: int, *, is_alone: bool) -> Response:
    answer = dimse.response(command)
    if (answer.field, answer.message_id) != (field, number):
        raise PeerFault("protocol", "a response to another message")
    if answer.has_dataset or not is_alone:
        raise PeerFault("protocol", "something behind the response")
    return answer

"""A hook that is a URL: one POST, bounded in time, no redirect followed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from urllib.parse import urlsplit

import listener
from listener.errors import HookFailed
from listener.hooks.message import Message, fields, key_of

#: A POST ends after this many seconds, from the first to the last byte; and one pause within after this many.
DEADLINE, SILENCE = 15.0, 10.0


class Webhook:
    """Posts to `url`. The secret is read from its file each time, so that it can be changed without a restart."""

    name = "webhook"
    #: How long a delivery is leased, in seconds: longer than any attempt.
    lease = 2 * DEADLINE

    def __init__(self, url: str, secret_file: str) -> None:
        self._url = urlsplit(url)
        self._secret_file = secret_file
        self._connection: HTTPConnection | None = None

    def tell(self, told: Message) -> None:
        """Post it; HookFailed unless the answer is 2xx."""
        head = {"User-Agent": f"listener/{listener.__version__}", **fields(told, self._key(), int(time.time()))}
        self._connection = connection = self._connect()
        timer = Timer(DEADLINE, self.abort)
        timer.daemon = True
        begun = time.monotonic()
        timer.start()
        try:
            connection.request("POST", self._target(), told.body, head)
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            late = time.monotonic() - begun >= DEADLINE
            raise HookFailed(f"no whole answer within {DEADLINE:g} s" if late else _words(error)) from error
        finally:
            timer.cancel()
            connection.close()
            timer.join()
        if not 200 <= status < 300:
            raise HookFailed(f"it answered {status}")

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""
        connection = self._connection
        sock = connection.sock if connection else None
        if sock:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> HTTPConnection:
        host = self._url.hostname or ""
        if self._url.scheme == "https":
            return HTTPSConnection(host, self._url.port, timeout=SILENCE, context=ssl.create_default_context())
        return HTTPConnection(host, self._url.port, timeout=SILENCE)

    def _target(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path

    def _key(self) -> bytes:
        if not self._secret_file:
            return b""
        try:
            with open(self._secret_file, "rb") as file:
                key = key_of(file.read())
        except OSError as error:
            raise HookFailed(f"the secret cannot be read ({error.strerror})") from error
        if not key:
            raise HookFailed("the secret is empty, or no base64 follows its whsec_")
        return key


def _words(error: Exception) -> str:
    """Why it failed, without what the peer said."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'refused'}"
    return getattr(error, "strerror", None) or type(error).__name__

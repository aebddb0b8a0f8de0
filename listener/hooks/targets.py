"""The two kinds of hook: a URL that gets a POST, and a command that gets JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import ssl
import subprocess
import time
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from threading import Timer
from urllib.parse import urlsplit

import listener
from listener.errors import HookFailed, HookGone
from listener.hooks.payload import Payload, fields, key_of

#: A POST ends after this many seconds, from the first to the last byte; and one pause within after this many.
POST_SECONDS, SILENCE = 15.0, 10.0

#: A receiver may ask to be left alone for so long, in seconds: what asks for more is told after a day all the same.
LONGEST_PAUSE = 86_400.0

_NOT_NOW = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Webhook:
    """Posts to `url`. The secret is read from its file each time, so that it can be changed without a restart."""

    name = "webhook"
    #: How long a delivery is leased, in seconds: longer than any attempt.
    lease = 2 * POST_SECONDS

    def __init__(self, url: str, secret_file: str) -> None:
        self._url = urlsplit(url)
        self._secret_file = secret_file
        self._connection: HTTPConnection | None = None

    def tell(self, told: Payload) -> None:
        """Post it; HookFailed unless the answer is 2xx, HookGone when it is 410."""
        head = {"User-Agent": f"listener/{listener.__version__}", **fields(told, self._key(), int(time.time()))}
        self._connection = connection = self._connect()
        timer = Timer(POST_SECONDS, self.abort)
        timer.daemon = True
        begun = time.monotonic()
        timer.start()
        try:
            connection.request("POST", self._target(), told.body, head)
            with connection.getresponse() as answer:
                status, answered = answer.status, answer.headers
        except (OSError, HTTPException) as error:
            late = time.monotonic() - begun >= POST_SECONDS
            raise HookFailed(f"no whole answer within {POST_SECONDS:g} s" if late else _words(error)) from error
        finally:
            timer.cancel()
            connection.close()
            timer.join()
        _judge(status, answered)

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


def _judge(status: int, head: HTTPMessage) -> None:
    """Raise for what is not 2xx. 410 means for good (Standard Webhooks), and Retry-After is obeyed (RFC 9110, 10.2.3)
    with the statuses that say "not now".
    """
    if status == HTTPStatus.GONE:
        raise HookGone("it answered 410, which means for good")
    if not 200 <= status < 300:
        pause = _retry_after(head) if status in _NOT_NOW else 0.0
        asked = f", to be asked again after {pause:.0f} s" if pause else ""
        raise HookFailed(f"it answered {status}{asked}", pause)


def _retry_after(head: HTTPMessage) -> float:
    """Seconds that the answer asks to wait; 0 where it does not say or cannot be understood. A date is compared with
    the answer's own, so that no clock need agree with another.
    """
    text = head.get("Retry-After", "").strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            now = parsedate_to_datetime(head.get("Date") or formatdate(usegmt=True))
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_PAUSE)


def _words(error: Exception) -> str:
    """Why it failed, without what the peer said."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'refused'}"
    return getattr(error, "strerror", None) or type(error).__name__


#: A program that runs for longer is killed, in seconds; and how long it gets to end itself.
COMMAND_SECONDS, GRACE = 600.0, 2.0

#: How long a killed one is waited for, in seconds: a busy machine takes its time to end a process.
_KILLED = 10.0


class CommandHook:
    """Runs `command`: words as a shell would split them, but no shell. Its standard output goes nowhere (ours is
    events), its standard error is ours.
    """

    name = "exec"
    #: How long a delivery is leased, in seconds: longer than any attempt.
    lease = COMMAND_SECONDS + 60.0

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, told: Payload) -> None:
        """Run it to its end; HookFailed unless its exit status is 0."""
        environment = {**os.environ, "HOOK_EVENT": told.event, "HOOK_KEY": told.key}
        try:
            process = subprocess.Popen(
                self._words,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise HookFailed(f"cannot be started ({error.strerror})") from error
        self._process = process
        try:
            process.communicate(told.body, COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self.abort()
            raise HookFailed(f"it ran for more than {COMMAND_SECONDS:g} s") from None
        finally:
            self._process = None
            # What the program did not read is still to be written, which is why closing may fail.
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if process.returncode:
            raise HookFailed(_status(process.returncode))

    def abort(self) -> None:
        """End what runs, with all that it started; from any thread."""
        process = self._process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, _KILLED)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"killed by signal {-code}"

"""The two kinds of hook: a webhook gets a POST, a command gets JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import ssl
import subprocess
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from threading import Timer
from urllib.parse import quote, urlsplit

import listener
from listener.errors import ConsumerGone, NotTaken
from listener.hook_config import HookConfig, header_fields_of
from listener.hooks.payload import Payload, cloud_event_fields, header_fields, key_of
from listener.ledger.delivery_retry import NOT_NOW, retry_after
from listener.ledger.interests import text_of

#: Limits of a POST in seconds: from the first to the last byte, and for one pause within.
POST_SECONDS, SILENCE_SECONDS = 15.0, 10.0


class Webhook:
    """Posts to a URL. Secret and header fields are read for each attempt, so that they can be changed without a
    restart. `lease`: how long a delivery is leased, in seconds: longer than any attempt.
    """

    #: Whether the receiver is this machine's own.
    is_local = False

    def __init__(self, config: HookConfig) -> None:
        self._url = urlsplit(config.url)
        self._config = config
        self._seconds = config.timeout or POST_SECONDS
        self._silence = config.timeout or SILENCE_SECONDS
        self._connection: HTTPConnection | None = None
        #: Of all that this machine tells: a key is unique within one collection.
        self._source = f"/listener/{quote(socket.gethostname(), safe='')}"
        self.name, self.wants = config.name, text_of(config.wants)
        self.lease = 2 * max(self._seconds, POST_SECONDS)

    def send(self, payload: Payload) -> None:
        """Post a payload. Raises NotTaken unless the answer is 2xx, ConsumerGone if it is 410."""
        head = {
            "User-Agent": f"listener/{listener.__version__}",
            **self._header_fields(),
            **cloud_event_fields(payload, self._source),
            **header_fields(payload, self._key(), int(time.time())),
        }
        self._connection = connection = self._connect()
        timer = Timer(self._seconds, self.abort)
        timer.daemon = True
        begun = time.monotonic()
        timer.start()
        try:
            connection.request("POST", self._target(), payload.body, head)
            with connection.getresponse() as answer:
                status, answered = answer.status, answer.headers
        except (OSError, HTTPException) as error:
            late = time.monotonic() - begun >= self._seconds
            text = f"no whole answer within {self._seconds:g} s" if late else _error_text(error, self._silence)
            raise NotTaken(text) from error
        finally:
            timer.cancel()
            connection.close()
            timer.join()
        _require_success(status, answered)

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
            return HTTPSConnection(host, self._url.port, timeout=self._silence, context=ssl.create_default_context())
        return HTTPConnection(host, self._url.port, timeout=self._silence)

    def _target(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path

    def _key(self) -> bytes:
        if not self._config.secret_file:
            return b""
        try:
            with open(self._config.secret_file, "rb") as file:
                key = key_of(file.read())
        except OSError as error:
            raise NotTaken(f"the secret cannot be read ({error.strerror})") from error
        if not key:
            raise NotTaken("the secret is empty, or no base64 follows its whsec_")
        return key

    def _header_fields(self) -> dict[str, str]:
        if not self._config.headers_file:
            return {}
        try:
            with open(self._config.headers_file, encoding="latin-1") as file:
                return header_fields_of(file.read())
        except OSError as error:
            raise NotTaken(f"the file of header fields cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise NotTaken(f"in the file of header fields {error}") from error


def _require_success(status: int, head: HTTPMessage) -> None:
    """Raise NotTaken for a status other than 2xx, ConsumerGone for 410 (Standard Webhooks). Retry-After (RFC 9110,
    10.2.3) is obeyed with 429 and 503.
    """
    if status == HTTPStatus.GONE:
        raise ConsumerGone("it answered 410, which means for good")
    if not 200 <= status < 300:
        pause = retry_after(head) if status in NOT_NOW else 0.0
        asked = f", to be asked again after {pause:.0f} s" if pause else ""
        raise NotTaken(f"it answered {status}{asked}", pause)


def _error_text(error: Exception, silence: float) -> str:
    """Return why a request failed, without text of the peer's."""
    if isinstance(error, TimeoutError):
        return f"no answer within {silence:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'refused'}"
    return getattr(error, "strerror", None) or type(error).__name__


#: Seconds after which a command is terminated, and that it then has until it is killed.
COMMAND_SECONDS, GRACE_SECONDS = 600.0, 2.0

#: Seconds to wait for a killed command: on a busy machine its end takes time.
_KILL_SECONDS = 10.0


class CommandHook:
    """Runs a command, split into words as by a shell, without a shell. Its standard output is discarded (the service's
    carries events), its standard error is the service's.
    """

    #: Whether the receiver is this machine's own.
    is_local = True

    def __init__(self, config: HookConfig) -> None:
        self._argv = shlex.split(config.command)
        self._seconds = config.timeout or COMMAND_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self.name, self.wants = config.name, text_of(config.wants)
        self.lease = self._seconds + 60.0

    def send(self, payload: Payload) -> None:
        """Run the command to its end. Raises NotTaken unless its exit status is 0."""
        environment = {**os.environ, "HOOK_EVENT": payload.event, "HOOK_KEY": payload.key}
        try:
            process = subprocess.Popen(
                self._argv,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise NotTaken(f"cannot be started ({error.strerror})") from error
        self._process = process
        try:
            process.communicate(payload.body, self._seconds)
        except subprocess.TimeoutExpired:
            self.abort()
            raise NotTaken(f"it ran for more than {self._seconds:g} s") from None
        finally:
            self._process = None
            # Closing flushes what the command did not read, and may fail.
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if process.returncode:
            raise NotTaken(_exit_text(process.returncode))

    def abort(self) -> None:
        """Terminate the command and all that it started; from any thread."""
        process = self._process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return


def _exit_text(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"killed by signal {-code}"

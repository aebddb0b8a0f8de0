"""A connection to NATS in a thread of its own: ends that the server confirmed, and progress, which may be lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from listener.diagnostics import log
from listener.errors import ConfigError, NotTaken
from listener.notify import lonk
from listener.notify.addresses import checked, reason_of, refuse_secret, shown

T = TypeVar("T")

#: Schemes of servers.
SCHEMES = ("nats", "tls")

#: Seconds: to wait for a connection, for the server's answer, between two attempts, and beyond all of these.
_CONNECT, _ANSWER, _AGAIN, _MARGIN = 5.0, 5.0, 1.0, 5.0

#: Seconds between two questions whether a silent server lives, and how many it may leave unanswered.
_PING, _UNANSWERED = 10, 2

#: Series whose end is remembered, so that no progress is told after it.
_MOST_ENDED = 10_000


def server_url(text: str) -> str:
    """Return the URL of a server; ValueError tells what is wrong and what to give."""
    checked(text, SCHEMES, "is no NATS server; give nats://HOST:4222 or tls://HOST:4222")
    return text


def open_url(text: str) -> str:
    """Return the URL of a server without user or token. Raises HoldsSecret, ValueError."""
    refuse_secret(urlsplit(server_url(text)).username, "a user or token", "--nats-file")
    return text


class Progress(NamedTuple):
    """How many instances of a generation are there. `key` is the series, whose generations are counted from 1."""

    key: int
    generation: int
    subject: str
    instances: int


class Nats:
    """Publishes to a cluster of servers. `changed` is called in its thread when the connection comes or goes."""

    def __init__(self, urls: Sequence[str], changed: Callable[[], None]) -> None:
        self._nats = library()
        self._urls, self._changed = list(urls), changed
        self.shown = ", ".join(map(shown, urls))
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._stopped, self._tried = Event(), Event()
        self._told_fault = ""
        self._ended: OrderedDict[int, int] = OrderedDict()
        self._advancing: concurrent.futures.Future[None] | None = None
        self._thread = Thread(target=self._run, name="listener-nats", daemon=True)

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Return whether messages reach a server."""
        client = self._client
        return bool(client and client.is_connected)

    def tell_end(self, key: int, generation: int, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages, subject and data, in their order on one connection, after which no progress of this
        generation is told. Raises NotTaken unless a server answered afterwards on that connection. Waits for the first
        attempt to connect, so that one who tells at once need not come again.
        """
        self._tried.wait(_CONNECT)
        self._wait(self._tell(key, generation, messages))

    def tell_progress(self, progress: Sequence[Progress]) -> bool:
        """Publish numbers of instances soon; return False if none is, for no server takes them. For one thread."""
        if not self.is_connected or not (self._advancing is None or self._advancing.done()):
            return False  # A server that hangs still counts as connected, and what it does not take would pile up.
        self._advancing = asyncio.run_coroutine_threadsafe(self._advance(progress), self._loop)
        return True

    def close(self) -> None:
        """Disconnect, and end the thread."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        self._stopped.set()
        with contextlib.suppress(NotTaken):
            self._wait(self._disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_MARGIN)
        self._loop.close()

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        connecting = self._loop.create_task(self._connect())
        self._loop.run_forever()
        left = [connecting, *asyncio.all_tasks(self._loop)]
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    async def _connect(self) -> None:
        """Connect. The library connects again by itself, but not after some errors of a server (a password was changed,
        say), of which it does not always tell: then anew.
        """
        while not self._stopped.is_set():
            if self._client is None or self._client.is_closed:
                with contextlib.suppress(*self._errors()):  # Told by _failed().
                    self._client = await self._nats.connect(self._urls, **self._manner())
                    await self._come()
            await asyncio.sleep(_AGAIN)

    def _manner(self) -> dict[str, Any]:
        """Return how it is connected."""
        return {
            "name": "listener notify",
            "connect_timeout": _CONNECT,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": _AGAIN,
            "ping_interval": _PING,
            "max_outstanding_pings": _UNANSWERED,
            "disconnected_cb": self._lost,
            "reconnected_cb": self._come,
            "error_cb": self._failed,
        }

    async def _lost(self) -> None:
        if not self._stopped.is_set():
            log.warning("%s: the connection is lost; progress is dropped, and ends wait", self.shown)
        self._changed()

    async def _come(self) -> None:
        self._tried.set()
        self._told_fault = ""
        log.info("%s: connected", self.shown)
        self._changed()

    async def _failed(self, error: Exception) -> None:
        reason = reason_of(error)
        if reason != self._told_fault:
            log.warning("%s: %s; it is tried again each second", self.shown, reason)
        self._told_fault = reason
        self._tried.set()

    async def _tell(self, key: int, generation: int, messages: Sequence[tuple[str, bytes]]) -> None:
        client = self._client
        if not (client and client.is_connected):
            raise NotTaken(f"{self.shown}: not connected")
        self._ended[key] = generation
        self._ended.move_to_end(key)
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)
        # A message that is published while the server is away is only buffered, and flush() then says nothing.
        before = client.stats["reconnects"]
        try:
            for subject, data in messages:
                await client.publish(subject, data)
            await client.flush(int(_ANSWER))
        except self._errors() as error:
            raise NotTaken(f"{self.shown}: {reason_of(error)}") from None
        if not client.is_connected or client.stats["reconnects"] != before:
            raise NotTaken(f"{self.shown}: the connection was lost meanwhile")

    async def _advance(self, progress: Sequence[Progress]) -> None:
        client = self._client
        for one in progress:
            if not (client and client.is_connected):
                return
            if one.generation > self._ended.get(one.key, 0):
                with contextlib.suppress(*self._errors()):
                    await client.publish(one.subject, lonk.number(one.instances))

    async def _disconnect(self) -> None:
        if self._client:
            with contextlib.suppress(*self._errors()):
                await asyncio.wait_for(self._client.close(), _CONNECT)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER + _MARGIN)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise NotTaken(f"{self.shown}: no answer in time") from None

    def _errors(self) -> tuple[type[Exception], ...]:
        return (self._nats.errors.Error, OSError, asyncio.TimeoutError)


def library() -> Any:
    """Return the module nats. Raises ConfigError without the extra."""
    try:
        import nats
        import nats.errors
    except ImportError:
        raise ConfigError(["--nats needs the extra 'chris': pip install 'dicom-listener[chris]'"]) from None
    return nats

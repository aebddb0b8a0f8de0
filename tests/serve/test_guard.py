"""Limits of connections, with uvicorn's protocol and the application in front of answers that do not end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from listener.serve import guard
from listener.serve.answers import Answer, Part, fixed
from listener.serve.app import Application, Rules
from listener.serve.figures import Told
from listener.serve.guard import Begun, Connections, Gathering, protocol
from listener.telemetry.access import Access

FRAME = b"GET /dicom-web/studies/1/series/2/instances/3/frames/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SIZE, PIECE = 2**40, bytes(128 * 1024)


class Written:
    """What stands for a transport: what is written to it, each apart."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended


def gathering() -> tuple[Written, Gathering]:
    written = Written()
    return written, Gathering(written)  # type: ignore[arg-type]


def test_small_pieces_of_an_answer_are_sent_at_once() -> None:
    written, transport = gathering()
    transport.write(b"head")
    transport.write(b"body")
    assert written.sent == []
    transport.flush()
    transport.flush()
    assert written.sent == [b"headbody"]


def test_much_is_sent_without_a_wait_and_nothing_is_left_at_the_end() -> None:
    written, transport = gathering()
    transport.write(b"head")
    transport.write(PIECE)
    assert written.sent == [b"head" + PIECE]
    transport.write(b"end")
    transport.close()
    assert written.sent[1:] == [b"end"]
    assert transport.is_closing()


class Endless:
    """A service of which a frame never ends, in this process; `told` are the answers that have ended."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.connections = Connections()
        self._ended = asyncio.Event()

    def _tell(self, told: Told) -> None:
        self.told.append(told)
        self._ended.set()

    async def answer(self, *_: object) -> Answer:
        async def read() -> AsyncIterator[bytes]:
            while True:
                yield PIECE
                await asyncio.sleep(0)

        return Answer(200, [], [Part(SIZE, read)], 1)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[tuple[str, int]]:
        rules: Any = Rules("/dicom-web", open_to_all=True)
        ends: Any = SimpleNamespace(answer=self.answer)
        app = Application(rules, ends, ends, Access(), None, self._tell)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        made = protocol(self.connections)
        server = await asyncio.get_running_loop().create_server(
            lambda: made(config, ServerState(), {}), "127.0.0.1", 0, family=socket.AF_INET
        )
        async with server:
            yield server.sockets[0].getsockname()

    async def ended(self) -> None:
        """Wait until an answer has ended; its connection has before it."""
        await asyncio.wait_for(self._ended.wait(), 60)
        assert self.connections.count == 0


@contextlib.contextmanager
def asking(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(FRAME)
        yield client


def test_a_reader_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "STALL_SECONDS", 0.05)
    service = Endless()

    async def stall() -> None:
        async with service.listening() as address:
            with asking(address):
                await service.ended()

    asyncio.run(stall())
    assert service.told[0].status == 200
    assert service.told[0].bytes < SIZE


def test_nothing_more_is_read_for_a_client_that_is_gone() -> None:
    service = Endless()

    async def leave() -> None:
        async with service.listening() as address:
            with asking(address) as client:
                assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 200")
            await service.ended()

    asyncio.run(leave())


class Numbered(Endless):
    """A service that answers at once, or once the loop has turned, in turn."""

    async def answer(self, *_: object) -> Answer:
        number = len(self.told)
        if number % 2:
            await asyncio.sleep(0)
        return Answer(200, [], [fixed(b"<%d>" % number)])


def test_requests_that_come_together_are_answered_in_their_order() -> None:
    """Also so many that answers begun within another would be too deep."""
    count = 700

    async def ask() -> bytes:
        async with Numbered().listening() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(FRAME * count)
            got = await asyncio.wait_for(reader.readuntil(b"<%d>" % (count - 1)), 60)
            writer.close()
            return got

    got = asyncio.run(ask())
    assert [int(one.partition(b">")[0]) for one in got.split(b"<")[1:]] == list(range(count))


async def waiting(log: list[str]) -> None:
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    finally:
        log.append("ended")


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_what_has_begun_outside_of_a_task_ends_with_the_task(turns: int) -> None:
    log: list[str] = []

    async def cancel() -> None:
        running = waiting(log)
        task = asyncio.get_running_loop().create_task(Begun(running.send(None), running))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert log == ["cancelled", "ended"]

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from listener.network.halves import Halves
from tests.waiting import PATIENCE

HEAD, REST = bytes(12), bytes(142)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs


def least(connection: socket.socket) -> int:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


def is_heard(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def learned(halves: Halves) -> Halves:
    """What has seen a second half that came by itself."""
    for has_part in (False, True):
        halves.expect(has_part=has_part)
        halves.came(has_part=has_part)
    return halves


def test_halves_that_follow_each_other_wake_once(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    halves = Halves(ours, is_tls=False)
    assert halves.expect(has_part=False) is None
    theirs.sendall(HEAD)
    assert is_heard(ours, 10 * PATIENCE)  # Nothing is known yet.
    learned(halves)
    ours.recv(100)
    assert halves.expect(has_part=False) is not None
    theirs.sendall(HEAD)
    assert not is_heard(ours, 0.05)
    theirs.sendall(REST)
    assert is_heard(ours, 10 * PATIENCE)
    assert len(ours.recv(1000)) == len(HEAD + REST)


def test_of_an_answer_that_has_begun_each_byte_is_heard(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    halves = learned(Halves(ours, is_tls=False))
    halves.expect(has_part=False)
    assert least(ours) == 13
    assert halves.expect(has_part=True) is None
    assert least(ours) == 1


def test_a_half_that_does_not_come_is_waited_for_at_once_from_then_on(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = ends
    halves = Halves(ours, is_tls=False)
    halves.expect(has_part=False)
    halves.came(has_part=False)
    assert halves.expect(has_part=True) is not None
    halves.late()
    for has_part in (True, False, True):
        halves.came(has_part=has_part)
        assert halves.expect(has_part=has_part) is None
        assert least(ours) == 1


def test_an_abort_of_ten_bytes_is_heard_later_and_changes_nothing_else(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    halves = learned(Halves(ours, is_tls=False))
    assert halves.expect(has_part=False) is not None
    halves.late()
    assert least(ours) == 1
    assert halves.expect(has_part=False) is not None
    assert least(ours) == 13
    halves.hear_all()
    theirs.sendall(bytes(10))
    assert is_heard(ours, 10 * PATIENCE)


def test_a_half_that_lay_there_shows_a_peer_that_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    halves = learned(Halves(ours, is_tls=False))
    halves.expect(has_part=False)
    theirs.sendall(HEAD)
    halves.hear_all()
    assert is_heard(ours, 10 * PATIENCE)
    halves.late()
    assert halves.expect(has_part=False) is None
    assert least(ours) == 1


def test_of_tls_nothing_is_asked(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    halves = learned(Halves(ours, is_tls=True))
    assert halves.expect(has_part=False) is None
    assert least(ours) == 1

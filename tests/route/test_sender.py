"""The threads that send to one target, against peers that say what a test tells them to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from listener.network.association import Patience, Peer
from listener.network.statuses import meaning
from listener.route.health import DOWN, FULL, UP, Health
from listener.route.queue import File, Send
from listener.route.report import Report, settle
from listener.route.schema import DEAD, DELIVERED, PENDING
from listener.route.sender import Line, Sender
from tests.instances import uid, write_instance
from tests.network.peers import Script, accept, accepting, command, data, peer, proposed, read_message, read_pdu
from tests.waiting import until


class Bench:
    """A sender and what it reports, over files in a folder."""

    def __init__(self, folder: Path, port: int, echo: float = 60.0, response: float = 60.0) -> None:
        self.folder, self.reports = folder, list[Report]()
        line = Line(str(folder), 3.0, echo, self.reports.append, lambda: None)
        self.sender = Sender(Peer("127.0.0.1", port, "CALLED"), Patience(60, 60, response), line, Health(3.0))

    def send(self, number: int, *, attempts: int = 0, study: int = 1) -> Send:
        path = write_instance(self.folder / f"{number}.dcm", number=number)
        return Send(
            number, 1, "gpu1", "worker", "all", study, "1.1", uid("instance", 0, 0, 0, number), path.name,
            *File.of(path.stat()), 1, attempts, time.time_ns(),
        )  # fmt: skip

    def wait(self, count: int = 1) -> list[Report]:
        until(lambda: len(self.reports) >= count, 10)
        return self.reports


@contextlib.contextmanager
def bench(folder: Path, *scripts: Script, echo: float = 60.0, response: float = 60.0) -> Iterator[Bench]:
    with peer(*scripts) as port:
        made = Bench(folder, port, echo, response)
        try:
            yield made
        finally:
            made.sender.abort()
            assert made.sender.is_finished()


def only_storing(*statuses: int) -> Script:
    """An association in which nothing is asked by C-ECHO."""

    def script(connection: socket.socket) -> None:
        accept(connection)
        for number, status in enumerate(statuses):
            read_message(connection, has_dataset=True)
            connection.sendall(data(3, command(e0120=number + 1, e0900=status)))
        with contextlib.suppress(ConnectionError, OSError):
            read_pdu(connection)

    return script


def echoing(connection: socket.socket) -> None:
    """Accept, answer one C-ECHO, and wait for the release."""
    accept(connection)
    read_message(connection, has_dataset=False)
    connection.sendall(data(1, command(e0100=0x8030, e0120=1)))
    with contextlib.suppress(ConnectionError, OSError):
        read_pdu(connection)


ANSWERS = {
    0x0000: (DELIVERED, 0),
    0xB000: (DELIVERED, 0),
    0x0111: (DELIVERED, 0),
    0xA900: (PENDING, 0),
    0xC123: (PENDING, 0),
    0x0110: (PENDING, 0),
}


@pytest.mark.parametrize("status", ANSWERS)
def test_an_answer_settles_an_instance(status: int, tmp_path: Path) -> None:
    with bench(tmp_path, echoing, only_storing(status)) as here:
        here.sender.start()
        here.sender.window.offer([here.send(1)])
        (report,) = here.wait()
        assert report.settled
        assert (report.status, report.settled.state) == (status, ANSWERS[status][0])
        assert report.settled.next_ns > time.time_ns() or report.settled.state == DELIVERED


@pytest.mark.parametrize(
    ("status", "attempts", "state"),
    [(0xA900, 1, PENDING), (0xA900, 2, DEAD), (0x0110, 2, PENDING), (0x0110, 19, DEAD)],
)
def test_attempts_come_to_an_end(status: int, attempts: int, state: str, tmp_path: Path) -> None:
    send = Bench(tmp_path, 1).send(1, attempts=attempts)
    settled = settle(send, meaning(status), status, "the peer's words", 0)
    assert (settled.state, settled.comment, settled.error) == (state, "the peer's words", "")


def test_a_full_one_keeps_its_instance_and_rests(tmp_path: Path) -> None:
    with bench(tmp_path, echoing, only_storing(0xA700), only_storing(0)) as here:
        here.sender.start()
        here.sender.window.offer([here.send(1)])
        (report,) = here.wait()
        assert report.settled is None
        until(lambda: here.sender.standing.state == FULL, 5)
        assert here.wait(2)[1].outcome == "delivered"
        until(lambda: here.sender.standing.state == UP, 5)


def replaced(path: Path) -> None:
    write_instance(path.with_suffix(".new"), number=1, StudyDescription="another one")
    os.replace(path.with_suffix(".new"), path)


def cut(path: Path) -> None:
    about = path.stat()
    path.write_bytes(b"x" * about.st_size)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


NEVER_SENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced": (replaced, "another file"),
    "gone": (Path.unlink, "gone"),
    "broken": (cut, ""),
}


@pytest.mark.parametrize("name", NEVER_SENT)
def test_what_is_not_the_file_that_was_queued_is_never_sent(name: str, tmp_path: Path) -> None:
    change, words = NEVER_SENT[name]
    with bench(tmp_path, echoing) as here:
        send = here.send(1)
        change(tmp_path / "1.dcm")
        here.sender.start()
        here.sender.window.offer([send])
        (report,) = here.wait()
        assert report.settled
        assert (report.settled.state, report.outcome) == (DEAD, "refused")
        assert words in report.settled.error


def refusing_contexts(connection: socket.socket) -> None:
    _, request = read_pdu(connection)
    contexts = {
        number: syntax if of == "1.2.840.10008.1.1" else "" for number, (of, syntax) in proposed(request).items()
    }
    connection.sendall(accepting(contexts))
    with contextlib.suppress(ConnectionError, OSError):
        read_pdu(connection)


def test_who_accepts_no_context_for_it_refuses_it(tmp_path: Path) -> None:
    with bench(tmp_path, echoing, refusing_contexts) as here:
        here.sender.start()
        here.sender.window.offer([here.send(1, attempts=2)])
        (report,) = here.wait()
        assert report.settled
        assert report.settled.state == DEAD
        assert "1.2.840.10008.5.1.4.1.1.4" in report.settled.error
        assert here.sender.standing.state == UP


def closing(connection: socket.socket) -> None:
    """Take one instance, and close."""
    accept(connection)
    read_message(connection, has_dataset=True)
    connection.sendall(data(3, command()))


def test_an_association_that_ends_after_each_instance_costs_no_pause(tmp_path: Path) -> None:
    with bench(tmp_path, echoing, *[closing] * 20) as here:
        here.sender.start()
        begun = time.monotonic()
        here.sender.window.offer([here.send(number) for number in range(1, 11)])
        reports = here.wait(10)
        assert [report.outcome for report in reports] == ["delivered"] * 10
        assert time.monotonic() - begun < 20, "each pause would be of 3 s"
        assert here.sender.standing.cause == ""


def test_silence_is_one_failure_and_the_instance_stays(tmp_path: Path) -> None:
    def silent(connection: socket.socket) -> None:
        accept(connection)
        read_message(connection, has_dataset=True)
        with contextlib.suppress(OSError):
            connection.recv(1)

    with bench(tmp_path, echoing, silent, only_storing(0, 0), response=2) as here:
        here.sender.start()
        here.sender.window.offer([here.send(1), here.send(2)])
        until(lambda: here.sender.standing.cause == "timeout", 10)
        assert not here.reports
        assert [report.outcome for report in here.wait(2)] == ["delivered", "delivered"]
        assert [report.send.id for report in here.reports] == [1, 2]


def test_who_does_not_answer_is_down_and_comes_back_by_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    changes = []
    line = Line(str(tmp_path), 0.2, 60.0, lambda _: None, lambda: changes.append(1))
    sender = Sender(Peer("127.0.0.1", port, "CALLED"), Patience(60, 60, 60), line, Health(0.2))
    sender.start()
    try:
        until(lambda: sender.standing.state == DOWN, 10)
        with socket.create_server(("127.0.0.1", port), reuse_port=False) as server:
            connection = server.accept()[0]
            with connection:
                echoing_thread = threading.Thread(target=echoing, args=(connection,))
                echoing_thread.start()
                until(lambda: sender.standing.state == UP, 20)
                sender.abort()
                echoing_thread.join()
        assert sender.standing.on_trial
        assert len(changes) == 2
    finally:
        sender.abort()


def test_an_end_lets_what_is_in_hand_be_sent_again(tmp_path: Path) -> None:
    held = threading.Event()

    def hanging(connection: socket.socket) -> None:
        accept(connection)
        read_message(connection, has_dataset=True)
        held.wait(120)

    with bench(tmp_path, echoing, hanging) as here:
        here.sender.start()
        here.sender.window.offer([here.send(1)])
        until(lambda: here.sender.standing.state == UP, 5)
        time.sleep(0.1)
        here.sender.abort()
        assert here.sender.is_finished()
        assert not here.reports
        held.set()


def test_what_was_answered_is_told_though_the_next_is_not(tmp_path: Path) -> None:
    held = threading.Event()

    def answering_once(connection: socket.socket) -> None:
        accept(connection)
        read_message(connection, has_dataset=True)
        connection.sendall(data(3, command()))
        read_message(connection, has_dataset=True)
        held.wait(120)

    with bench(tmp_path, echoing, answering_once) as here:
        here.sender.start()
        here.sender.window.offer([here.send(number) for number in range(1, 4)])
        assert [(report.send.id, report.outcome) for report in here.wait()] == [(1, "delivered")]
        here.sender.abort()
        held.set()
        assert len(here.reports) == 1


@pytest.mark.parametrize("cause", ["closed", "not taken up"])
def test_what_was_answered_is_told_before_the_next_one_s_fault(cause: str, tmp_path: Path) -> None:
    def answering_once(connection: socket.socket) -> None:
        accept(connection)
        read_message(connection, has_dataset=True)
        connection.sendall(data(3, command()))

    scripts = [answering_once, only_storing(0)] if cause == "closed" else [only_storing(0, 0)]
    with bench(tmp_path, echoing, *scripts) as here:
        sends = [here.send(1), here.send(2)]
        if cause != "closed":
            os.utime(tmp_path / "2.dcm", ns=(1, 1))  # Another file than the one that was queued.
        here.sender.start()
        here.sender.window.offer(sends)
        assert [report.send.id for report in here.wait(2)] == [1, 2]
        assert [report.outcome for report in here.reports] == [
            "delivered",
            "delivered" if cause == "closed" else "refused",
        ]
        assert here.reports[0].at_ns <= here.reports[1].at_ns

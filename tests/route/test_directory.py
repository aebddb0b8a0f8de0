"""A destination that is a directory."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from listener.route import directory
from listener.route.directory import DirectorySender, put
from listener.route.health import DOWN, UP
from listener.route.queue import File, Send
from listener.route.report import Report
from listener.route.sender import Line
from tests.instances import uid, write_instance
from tests.waiting import until


class Bench:
    """A sender to a directory, over files in another one."""

    def __init__(self, folder: Path) -> None:
        self.data, self.incoming, self.reports = folder / "data", folder / "incoming", list[Report]()
        self.data.mkdir()
        line = Line(str(self.data), 3.0, 60.0, self.reports.append, lambda: None)
        self.sender = DirectorySender(str(self.incoming), line)

    def send(self, number: int) -> Send:
        path = write_instance(self.data / f"{number}.dcm", number=number)
        identity = ("1.1", uid("instance", 0, 0, 0, number), path.name)
        return Send(number, 1, "b", "copy", "all", 1, *identity, *File.of(path.stat()), 1, 0, time.time_ns())


def test_each_file_is_copied_whole_under_a_name_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.incoming.mkdir()
    sends = [bench.send(number) for number in (1, 2)]
    bench.sender.start()
    try:
        bench.sender.window.offer(sends)
        until(lambda: len(bench.reports) == 2, 10)
        assert [report.outcome for report in bench.reports] == ["delivered", "delivered"]
        found = {path.read_bytes() for path in bench.incoming.iterdir()}
        assert found == {path.read_bytes() for path in bench.data.iterdir()}
        assert bench.sender.standing.state == UP
    finally:
        bench.sender.abort()
    assert bench.sender.is_finished()


def test_a_directory_that_is_not_there_is_down_and_the_file_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sender.start()
    try:
        bench.sender.window.offer([bench.send(1)])
        until(lambda: bench.sender.standing.state == DOWN, 10)
        assert not bench.reports
        assert bench.sender.standing.detail == "No such file or directory"
        bench.incoming.mkdir()
        until(lambda: len(bench.reports) == 1, 20)
    finally:
        bench.sender.abort()


def test_what_is_not_the_file_that_was_queued_is_not_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.incoming.mkdir()
    replaced, gone = bench.send(1), bench.send(2)
    write_instance(bench.data / "new", number=9)
    os.replace(bench.data / "new", bench.data / "1.dcm")
    (bench.data / "2.dcm").unlink()
    bench.sender.start()
    try:
        bench.sender.window.offer([replaced, gone])
        until(lambda: len(bench.reports) == 2, 10)
        assert [report.settled.state for report in bench.reports if report.settled] == ["dead", "dead"]
        assert not list(bench.incoming.iterdir())
    finally:
        bench.sender.abort()


def test_a_file_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not given up: it is the disk, or that too many files are open, and not the instance."""
    bench = Bench(tmp_path)
    bench.incoming.mkdir()

    def refuse(path: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    monkeypatch.setattr(directory, "open_regular", refuse)
    bench.sender.start()
    try:
        bench.sender.window.offer([bench.send(1)])
        until(lambda: bench.reports, 10)
    finally:
        bench.sender.abort()
    (report,) = bench.reports
    assert report.settled
    assert (report.outcome, report.settled.state) == ("failed", "pending")
    assert report.settled.error == "the file cannot be read (Too many open files)"
    assert report.settled.next_ns > time.time_ns() - 10**9


def test_a_file_system_without_unnamed_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.incoming.mkdir()

    def refuse(source: int, target: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), target)

    monkeypatch.setattr(directory, "put", refuse)
    bench.sender.start()
    try:
        bench.sender.window.offer([bench.send(1)])
        until(lambda: bench.sender.standing.state == DOWN, 10)
    finally:
        bench.sender.abort()
    assert "O_TMPFILE" in bench.sender.standing.detail
    assert not bench.reports, "it waits"


def test_what_was_put_there_before_a_kill_stays(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"whole")
    descriptor = os.open(source, os.O_RDONLY)
    try:
        put(descriptor, str(tmp_path / "target"))
        put(descriptor, str(tmp_path / "other"))
    finally:
        os.close(descriptor)
    assert (tmp_path / "target").read_bytes() == b"whole"
    assert (tmp_path / "other").read_bytes() == b"new"

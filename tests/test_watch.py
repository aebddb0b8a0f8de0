"""How arrivals are noticed: close-write events, walks that find the rest, and a watch that knows when it is blind."""

from __future__ import annotations

import logging
import os
import select
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.planning.names import OWN
from listener.service.inbox import Inbox
from listener.service.scan import in_byte_order, walk
from listener.service.watch import Watch
from tests.waiting import until


@contextmanager
def watching(*roots: Path, polling: bool = False) -> Iterator[tuple[Watch, Inbox]]:
    inbox = Inbox()
    watch = Watch(tuple(map(str, roots)), inbox, polling=polling)
    try:
        watch.ensure()
        yield watch, inbox
    finally:
        watch.close()
        inbox.close()


class Heard:
    """Everything that an inbox has told so far."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.paths: set[str] = set()

    def all(self, *paths: Path | str) -> bool:
        self.paths.update(self._inbox.drain())
        return {str(path) for path in paths} <= self.paths


def undecodable(folder: Path) -> str:
    return os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")


# -- events -----------------------------------------------------------------------------------------------------------


def test_a_file_is_noticed_when_it_is_closed(tmp_path: Path) -> None:
    with watching(tmp_path) as (_, inbox):
        heard = Heard(inbox)
        with (tmp_path / "open").open("wb") as file:
            file.write(b"x")
            file.flush()
            (tmp_path / "closed").write_bytes(b"x")
            until(lambda: heard.all(tmp_path / "closed"))
            assert not heard.all(tmp_path / "open")
        until(lambda: heard.all(tmp_path / "open"))


def test_directories_below_are_watched_too(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    with watching(tmp_path) as (_, inbox):
        heard = Heard(inbox)
        (tmp_path / "after").mkdir()

        def written() -> bool:
            # The watch of a directory that was just made may come later than the first file: the sweep's business.
            (tmp_path / "after/file").write_bytes(b"x")
            return heard.all(tmp_path / "after/file")

        until(written)
        (tmp_path / "before/file").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "before/file"))


def test_a_name_that_is_not_utf_8_does_not_kill_the_watch(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, inbox):
        heard = Heard(inbox)
        Path(undecodable(tmp_path)).write_bytes(b"x")
        until(lambda: heard.all(undecodable(tmp_path)))
        (tmp_path / "next").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "next"))
        assert watch.alive()


def test_two_roots(tmp_path: Path) -> None:
    roots = tmp_path / "a", tmp_path / "ab"
    for root in roots:
        root.mkdir()
    with watching(*roots) as (watch, inbox):
        heard = Heard(inbox)
        for root in roots:
            (root / "file").write_bytes(b"x")
        until(lambda: heard.all(*(root / "file" for root in roots)))
        assert watch.root_of(str(roots[0] / "file")) == 0
        assert watch.root_of(str(roots[1] / "file")) == 1
        assert watch.root_of(str(roots[1] / "deep/er")) == 1
        for stranger in (tmp_path / "file", roots[0], roots[0] / OWN / "claim/x"):
            assert watch.root_of(str(stranger)) == -1


# -- when it cannot be believed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["replaced", "renamed", "removed"])
def test_a_root_that_is_another_directory_now_is_watched_again(how: str, tmp_path: Path) -> None:
    root = tmp_path / "incoming"
    root.mkdir()
    with watching(root) as (watch, inbox):
        assert watch.alive()
        if how == "renamed":
            root.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(root)
        assert not watch.alive()
        watch.ensure()
        assert not watch.alive() or how != "removed"
        root.mkdir()
        assert not watch.alive()
        watch.ensure()
        assert watch.alive()
        assert not watch.polling
        heard = Heard(inbox)
        (root / "new").write_bytes(b"x")
        until(lambda: heard.all(root / "new"))


def test_a_dead_emitter_is_found(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, _):
        assert watch._observer is not None
        for emitter in watch._observer.emitters:
            emitter.stop()
            emitter.join(5)
        assert watch._observer.is_alive(), "watchdog says that all is well"
        assert not watch.alive()
        watch.ensure()
        assert watch.alive()


def test_polling_starts_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with watching(tmp_path, polling=True) as (watch, inbox):
        assert watch.polling
        assert threading.active_count() == before
        (tmp_path / "file").write_bytes(b"x")
        assert inbox.drain() == []


class Records(logging.Handler):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.levelname} {record.getMessage()}")


def test_without_inotify_sweeps_go_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of instances is the host's, so it is a fake here."""
    import errno

    from watchdog.observers.api import BaseObserver

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(BaseObserver, "start", exhausted)
    said = Records()
    monkeypatch.setattr(logging.getLogger("listener"), "handlers", [said])
    with watching(tmp_path) as (watch, _):
        assert watch.polling
        assert not watch.alive()
        watch.ensure()
        (text,) = said.texts  # Once, not at every sweep.
        assert text.startswith("WARNING inotify's limit")
        assert "raise fs.inotify.max_user_instances" in text
        monkeypatch.undo()
        watch.ensure()
        assert watch.alive()
        assert not watch.polling


def test_an_overflow_is_heard_from_watchdog_s_log(tmp_path: Path) -> None:
    with watching(tmp_path) as (_, inbox):
        logging.getLogger("watchdog.observers.inotify_c").warning("inotify event queue overflow")
        assert inbox.overflowed
        assert select.select([inbox.reader], [], [], 0)[0]
    assert logging.getLogger("watchdog.observers.inotify_c").handlers == []


def test_stopping_twice_is_no_error(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, _):
        watch.stop()
        watch.stop()
        assert not watch.alive()


# -- the inbox --------------------------------------------------------------------------------------------------------


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox(3)
    yield made
    made.close()


def ready(inbox: Inbox) -> bool:
    return bool(select.select([inbox.reader], [], [], 0)[0])


def test_an_inbox_wakes_and_tells_each_path_once_in_order(inbox: Inbox) -> None:
    assert not ready(inbox)
    for path in ("b", "a", "b"):
        inbox.put(path)
    assert ready(inbox)
    assert inbox.drain() == ["b", "a"]
    assert not ready(inbox)
    assert inbox.drain() == []
    inbox.wake()
    assert ready(inbox)


def test_what_does_not_fit_is_left_to_the_sweep(inbox: Inbox) -> None:
    for number in range(5):
        inbox.put(str(number))
    assert inbox.drain() == ["0", "1", "2"]
    assert inbox.overflowed


def test_no_path_is_left_lying_unseen() -> None:
    """Puts from other threads race with drains; after each wake-up everything put before it is there in the end."""
    inbox = Inbox()
    seen: list[str] = []

    def put(name: str) -> None:
        for number in range(2000):
            inbox.put(f"{name}{number}")

    threads = [threading.Thread(target=put, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    while len(seen) < 4000:
        assert select.select([inbox.reader], [], [], 5)[0], "a path was put and nobody was woken"
        seen += inbox.drain()
    for thread in threads:
        thread.join()
    inbox.close()
    assert sorted(seen) == sorted(f"{name}{number}" for name in "ab" for number in range(2000))


# -- walks ------------------------------------------------------------------------------------------------------------


def planted(root: Path) -> list[str]:
    """What a sweep must find: everything but directories, our own, and names that are not final."""
    for folder in ("study/series", f"{OWN}/claim", "empty", f"study/{OWN}"):
        (root / folder).mkdir(parents=True)
    found = ["a", "study/b", "study/series/c", "-rf", "new\nline"]
    for name in [*found, ".hidden", "d.part", "e.tmp", f"{OWN}/claim/f", f"study/{OWN}/g"]:
        (root / name).write_bytes(b"x")
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("study")
    Path(undecodable(root)).write_bytes(b"x")
    return [*(str(root / name) for name in [*found, "fifo", "link"]), undecodable(root)]


def test_a_walk_finds_what_is_finished_and_leaves_ours_alone(tmp_path: Path) -> None:
    assert list(walk(str(tmp_path))) == []
    expected = planted(tmp_path)
    assert sorted(walk(str(tmp_path))) == sorted(expected)


def test_a_walk_streams(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()
    paths = walk(str(tmp_path))
    first = next(paths)
    for path in tmp_path.iterdir():
        path.unlink()
    assert first
    assert len(list(paths)) <= 99


def test_a_walk_tells_of_troubles_and_goes_on(tmp_path: Path) -> None:
    troubles: list[OSError] = []
    assert list(walk(str(tmp_path / "absent"), troubles.append)) == []
    assert [one.strerror for one in troubles] == ["the directory is not there"]
    assert list(walk(str(tmp_path / "absent"))) == []


@given(names=st.sets(st.sampled_from(["a", "b", "B", "ä", "z/1", "z/2", "zz", "10", "9"])), most=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_windows_in_byte_order_are_the_whole_in_byte_order(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], most: int
) -> None:
    root = tmp_path_factory.mktemp("order")
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    got: list[str] = []
    after = b""
    while window := in_byte_order(str(root), after, most):
        assert len(window) <= most
        got += window
        after = os.fsencode(window[-1])
    assert got == sorted((f"{root}/{name}" for name in names), key=os.fsencode)

"""How arrivals are noticed: close-write events, walks that find the rest, and a watch that knows when it is blind."""

from __future__ import annotations

import logging
import os
import random
import selectors
import shutil
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watchdog import version
from watchdog.observers import inotify_c

from listener.planning.names import OWN
from listener.service import inotify, observers, rescan
from listener.service.rescan import in_byte_order, walk
from listener.service.watch import PUBLIC, RESCANS, SHORT, Watch
from tests.waiting import until


@pytest.fixture(params=["short", "public"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways by which events come."""
    if request.param == "public":
        monkeypatch.setattr(observers, "short_way", lambda: None)
    return str(request.param)


@contextmanager
def watching(*roots: Path, polling: bool = False, rest: float = 0.0) -> Iterator[tuple[Watch, Heard]]:
    selector = selectors.DefaultSelector()
    watch = Watch(tuple(map(str, roots)), selector, lambda: None, polling=polling, rest=rest)
    try:
        watch.ensure()
        yield watch, Heard(watch, selector)
    finally:
        watch.close()
        selector.close()


class Heard:
    """Everything that a watch has told so far."""

    def __init__(self, watch: Watch, selector: selectors.BaseSelector) -> None:
        self._watch = watch
        self._selector = selector
        self.paths: list[str] = []

    def listen(self) -> list[str]:
        """One round of the loop."""
        ready = self._selector.select(0)
        now = time.monotonic()
        taken = self._watch.take(now) if ready or (self._watch.opens and now >= self._watch.opens) else []
        self.paths += taken
        return taken

    def all(self, *paths: Path | str) -> bool:
        self.listen()
        return {str(path) for path in paths} <= set(self.paths)


def undecodable(folder: Path) -> str:
    return os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")


# -- events -----------------------------------------------------------------------------------------------------------


def test_a_file_is_noticed_when_it_is_closed(tmp_path: Path) -> None:
    with watching(tmp_path) as (_, heard):
        with (tmp_path / "open").open("wb") as file:
            file.write(b"x")
            file.flush()
            (tmp_path / "closed").write_bytes(b"x")
            until(lambda: heard.all(tmp_path / "closed"))
            assert not heard.all(tmp_path / "open")
        until(lambda: heard.all(tmp_path / "open"))


def test_directories_below_are_watched_too(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    with watching(tmp_path) as (_, heard):
        (tmp_path / "after").mkdir()

        def written() -> bool:
            # The watch of a directory that was just made may come later than the first file: the rescan's business.
            (tmp_path / "after/file").write_bytes(b"x")
            return heard.all(tmp_path / "after/file")

        until(written)
        (tmp_path / "before/file").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "before/file"))


def test_a_name_that_is_not_utf_8_does_not_kill_the_watch(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, heard):
        Path(undecodable(tmp_path)).write_bytes(b"x")
        until(lambda: heard.all(undecodable(tmp_path)))
        (tmp_path / "next").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "next"))
        assert watch.alive()


def test_two_roots(tmp_path: Path) -> None:
    roots = tmp_path / "a", tmp_path / "ab"
    for root in roots:
        root.mkdir()
    with watching(*roots) as (watch, heard):
        for root in roots:
            (root / "file").write_bytes(b"x")
        until(lambda: heard.all(*(root / "file" for root in roots)))
        assert watch.root_of(str(roots[0] / "file")) == 0
        assert watch.root_of(str(roots[1] / "file")) == 1
        assert watch.root_of(str(roots[1] / "deep/er")) == 1
        for stranger in (tmp_path / "file", roots[0], roots[0] / OWN / "claim/x"):
            assert watch.root_of(str(stranger)) == -1


# -- two ways ----------------------------------------------------------------------------------------------------------


def test_the_mode_says_how_files_are_found(tmp_path: Path, way: str) -> None:
    with watching(tmp_path) as (watch, _):
        assert watch.mode == {"short": SHORT, "public": PUBLIC}[way]
    with watching(tmp_path, polling=True) as (watch, _):
        assert watch.mode == RESCANS


def other_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(version, "VERSION_STRING", "7.2.0")


def without_a_class(patch: pytest.MonkeyPatch) -> None:
    other = ModuleType("inotify_c")
    vars(other).update({name: value for name, value in vars(inotify_c).items() if name != "InotifyFD"})
    patch.setitem(sys.modules, "watchdog.observers.inotify_c", other)
    patch.delitem(sys.modules, "listener.service.inotify")


def without_a_method(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(inotify._INNER, inotify_c.InotifyFD, ("a_method_that_is_gone",))


def other_arguments(patch: pytest.MonkeyPatch) -> None:
    def unexpected(_: object, *, other: int) -> None:
        """Another signature."""

    patch.setattr(inotify.CloseWriteObserver, "__init__", unexpected)


def other_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inotify._Reader, "_parse_event_buffer", lambda *_: [("three", "only", "values")], raising=False)


@pytest.mark.parametrize("how", [other_release, without_a_class, without_a_method, other_arguments, other_answer])
def test_where_the_inner_classes_are_others_the_public_observer_does(
    how: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "public":
        return
    said = Records()
    monkeypatch.setattr(logging.getLogger("listener"), "handlers", [said])
    how(monkeypatch)
    with watching(tmp_path) as (watch, heard):

        def found() -> bool:
            (tmp_path / "file").write_bytes(b"x")
            watch.ensure()
            return heard.all(tmp_path / "file")

        until(found)
        assert watch.mode == PUBLIC
        assert watch.alive()
        (tmp_path / "next").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "next"))
        watch.stop()
        watch.ensure()
    assert len([text for text in said.texts if "public observer" in text]) == 1, "told once"


# -- when it cannot be believed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["replaced", "renamed", "removed"])
def test_a_root_that_is_another_directory_now_is_watched_again(how: str, tmp_path: Path) -> None:
    root = tmp_path / "incoming"
    root.mkdir()
    with watching(root) as (watch, heard):
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
        (root / "new").write_bytes(b"x")
        until(lambda: heard.all(root / "new"))


def test_events_rest_and_come_together(tmp_path: Path) -> None:
    """After a reading the watch wakes nobody until its rest is over; then it tells all that came meanwhile, once."""
    with watching(tmp_path, rest=0.2) as (watch, heard):
        (tmp_path / "first").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "first"))
        opens = watch.opens
        assert opens is not None
        for name in ("b", "a", "b"):
            (tmp_path / name).write_bytes(b"x")
        while time.monotonic() < opens:
            assert heard.listen() == [] or time.monotonic() >= opens
        until(lambda: heard.all(tmp_path / "a"))
        assert heard.paths == [str(tmp_path / name) for name in ("first", "b", "a")]
        until(lambda: heard.listen() == [] and watch.opens is None)
        (tmp_path / "last").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "last"))


def test_a_watch_that_raises_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError

    with watching(tmp_path) as (watch, heard):
        monkeypatch.setattr(watch._observer, "read", fail)
        (tmp_path / "unseen").write_bytes(b"x")
        until(lambda: not heard.listen() and watch.overflowed)
        assert not watch.alive()
        watch.ensure()
        assert watch.alive()
        (tmp_path / "seen").write_bytes(b"x")
        until(lambda: heard.all(tmp_path / "seen"))


def test_a_dead_emitter_is_found(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, _):
        assert watch._observer is not None
        for emitter in watch._observer.emitters:
            emitter.stop()
            emitter.join(120)
        assert watch._observer.is_alive(), "watchdog says that all is well"
        assert not watch.alive()
        watch.ensure()
        assert watch.alive()


def test_polling_starts_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with watching(tmp_path, polling=True) as (watch, heard):
        assert watch.polling
        assert threading.active_count() == before
        (tmp_path / "file").write_bytes(b"x")
        assert heard.listen() == []
        assert watch.opens is None


class Records(logging.Handler):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.levelname} {record.getMessage()}")


def test_without_inotify_rescans_go_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (text,) = [text for text in said.texts if "public observer" not in text]  # Once, not at every rescan.
        assert text.startswith("WARNING inotify's limit")
        assert "raise fs.inotify.max_user_instances" in text
        monkeypatch.undo()
        watch.ensure()
        assert watch.alive()
        assert not watch.polling


def test_an_overflow_is_heard_from_watchdog_s_log(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, _):
        before = watch.overflowed
        logging.getLogger("watchdog.observers.inotify_c").warning("inotify event queue overflow")
        assert (before, watch.overflowed) == (False, True)
    assert logging.getLogger("watchdog.observers.inotify_c").handlers == []


def test_stopping_twice_is_no_error(tmp_path: Path) -> None:
    with watching(tmp_path) as (watch, _):
        watch.stop()
        watch.stop()
        assert not watch.alive()


# -- walks ------------------------------------------------------------------------------------------------------------


def planted(root: Path) -> list[str]:
    """What a rescan must find: everything but directories, our own, and names that are not final."""
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


@given(
    names=st.sets(st.sampled_from(["a", "b", "B", "ä", "z/1", "z/2", "zz", "10", "9", os.fsdecode(b"\xff")])),
    run=st.integers(1, 4),
    block=st.integers(1, 4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_however_many_there_are_they_come_in_byte_order(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], run: int, block: int
) -> None:
    root = tmp_path_factory.mktemp("order")
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(rescan, "RUN", run)
        small.setattr(rescan, "BLOCK", block)
        assert list(in_byte_order(str(root))) == sorted((f"{root}/{name}" for name in names), key=os.fsencode)


def test_what_waits_to_be_merged_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed, where names are as long and as alike as storescp's."""
    chance = random.Random(1)
    paths = [f"{tmp_path}/MR.1.2.826.0.1.3680043.10.1470.{chance.randrange(10**17):017d}" for _ in range(150_000)]
    monkeypatch.setattr(rescan, "walk", lambda _: iter(paths))
    tracemalloc.start()
    try:
        found = in_byte_order(str(tmp_path))
        first = next(found)
        kept, _ = tracemalloc.get_traced_memory()
        assert [first, *found] == sorted(paths)
    finally:
        tracemalloc.stop()
    assert kept < 150_000 * 25

"""What every test gets: no leaked thread or process, no settings from outside, and visible skips by name."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.waiting import alive, until

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.ledger_world import World
    from tests.service_process import Places

PROJECT = Path(__file__).resolve().parent.parent

#: Where shared/data is: LISTENER_SHARED_DATA names another place. Settings of a listener are kept from the tests.
SHARED_DATA = Path(os.environ.get("LISTENER_SHARED_DATA", os.environ.get("PYTEST_SHARED_DATA", "../shared/data")))
#: Inherited by every process that a test starts, so that orphans are found too.
MARK = ("PYTEST_LISTENER_MARK", str(os.getpid()))

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hunt", deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck))


def pytest_configure() -> None:
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
    os.environ["PYTEST_SHARED_DATA"] = str(SHARED_DATA)
    for name in [name for name in os.environ if name.startswith("LISTENER_") and not name.startswith("LISTENER_TEST_")]:
        del os.environ[name]
    # No file of options that the developer has in one of the places where it is looked for.
    os.environ["LISTENER_CONFIG"] = os.devnull
    os.environ.update([MARK])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: who starts real processes waits for a third of the time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """What a failed test had open hangs in its traceback, and is let go here: pytest's words about it, which are a
    traceback without the test's name, would be the last ones of the run.
    """
    if exitstatus:
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            if hasattr(sys, name):
                delattr(sys, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def _children() -> set[int]:
    """The processes that this one started and has not waited for."""
    pids: set[int] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # that thread has just ended
            pids.update(map(int, children.read_text().split()))
    return pids - _expected()


def _descendants() -> set[int]:
    """All living processes that carry our mark, orphans included."""
    mark = "=".join(MARK).encode()
    pids: set[int] = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            marked = mark in environ.read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(environ.parent.name)
        if marked and alive(pid):
            pids.add(pid)
    return pids - _expected()


def _expected() -> set[int]:
    """Ourselves, and the helper that multiprocessing starts once and keeps."""
    tracker = getattr(resource_tracker, "_resource_tracker", None)
    return {os.getpid(), getattr(tracker, "_pid", None) or os.getpid()}


def _named(pids: set[int]) -> dict[int, str]:
    named = {}
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            command = "gone"
        named[pid] = command if alive(pid) else "ended, and nobody waited for it"
    return named


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test leaves no thread and no process behind (a moment is granted to those on their way out)."""
    # Orphans are looked for where real processes are started; the look costs some milliseconds.
    processes = _descendants if request.node.get_closest_marker("real") else _children
    threads_before, processes_before = set(threading.enumerate()), processes() | _children()
    yield

    def leaked() -> list[object]:
        threads = [thread for thread in threading.enumerate() if thread not in threads_before]
        return [*threads, *_named((processes() | _children()) - processes_before).items()]

    with suppress(AssertionError):
        until(lambda: not leaked(), 5)
        return
    pytest.fail(f"left behind: {leaked()}", pytrace=False)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """The directories of one listener, below the test's own."""
    from tests.service_process import make_places  # It imports this module.

    return make_places(tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A ledger that was begun, and its writer with clocks that the test moves."""
    from tests.ledger_world import World  # It imports this module.

    with contextlib.closing(World(tmp_path)) as made:
        made.tick()
        yield made


@pytest.fixture(scope="session")
def dcmtk() -> None:
    """DCMTK's programs are on PATH."""
    for program in ("storescp", "storescu", "dcmsend"):
        if shutil.which(program) is None:
            pytest.skip(f"DCMTK's {program} is not installed (.ci/need dcmtk)")


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus's promtool."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (.ci/need promtool)")
    return path


@pytest.fixture(scope="session")
def prometheus_server() -> None:
    """Prometheus itself is on PATH."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (.ci/need prometheus)")


def _shared(name: str) -> Path:
    path = (PROJECT / SHARED_DATA / name).resolve()
    if not path.is_dir():
        pytest.skip(f"{name} is not there: {path} (LISTENER_SHARED_DATA names another place)")
    return path


@pytest.fixture(scope="session")
def sag_anon() -> Path:
    """The folder of the real series: 192 MR instances. Read only."""
    return _shared("SAG-anon")


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The folder with what the predecessors wrote for that series. Read only."""
    return _shared("oracle")


def script(name: str, folder: str = "docs") -> ModuleType:
    """A script of docs/, or of another folder, as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", PROJECT / folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    """A tab of a real Chromium."""
    from tests.browser import browser

    with browser(tmp_path / "profile") as one:
        yield one

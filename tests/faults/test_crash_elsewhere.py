"""Killed at each call that changes something, where bytes must be copied: into a patient's directory that is a link to
another file system, and out of a volume that is mounted below incoming.

A fork of the test is the worker: it ends, without a word, before its n-th such call. Then what an earlier run left is
done again by another worker, as after any crash, and the accounts must hold.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from listener.disk import moves
from listener.disk.directories import remove_leftovers
from listener.records import Outcome
from listener.repacking import claim
from listener.repacking.context import CLAIM, WorkerContext
from listener.repacking.repack import Repacker
from listener.service.recovery import Recovery
from listener.service.rescan import walk
from tests.repacking.tree import BAD, DIRECTORY, other_pixels
from tests.workbench import Bench, arrival_of, contents, tmpfs

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

CALLS: list[tuple[Any, str]] = [
    *((os, name) for name in ("link", "rename", "unlink", "mkdir", "sendfile", "write", "fdatasync", "fsync", "utime")),
    (moves, "renameat2"),
]

KILLED, DONE = 9, 0


def work_until(bench: Bench, paths: list[Path], last: int) -> bool:
    """Repack in a process that ends before its call number `last`; False where it had no so many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Other threads of the test runner hold nothing of ours.
        pid = os.fork()
    if not pid:
        try:
            _count_down(last)
            for path in paths:
                bench.repack(path)
        finally:
            os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED


def _count_down(last: int) -> None:
    left = [last]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)
            return real(*args, **more)

        return call

    for module, name in CALLS:
        setattr(module, name, counted(getattr(module, name)))


def go_on(bench: Bench) -> None:
    """The next start: temporaries are removed, claims are done again, then what lies in incoming."""
    remove_leftovers(bench.directories)
    repacker = Repacker(WorkerContext(bench.config, bench.directories))
    left = Recovery(bench.config, bench.directories, CLAIM).left_behind()
    for arrival in left:
        _finish(repacker.repack([arrival])[0])
    for path in sorted(walk(str(bench.incoming))):
        _finish(repacker.repack([arrival_of(path)])[0])


def _finish(result: Any) -> None:
    assert isinstance(result, Outcome), result
    assert result.kind in ("published", "duplicate"), result
    claim.release(result.claim)


def tree(directory: Path) -> dict[str, bytes]:
    """Every file of the tree, links followed, hidden names too."""
    found = {}
    for folder, _, names in os.walk(directory, followlinks=True):
        for name in names:
            path = Path(folder, name)
            found[os.path.relpath(path, directory)] = path.read_bytes()
    return {name: data for name, data in found.items() if not name.startswith(".listener/")}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "volume") as path:
        yield path


def test_a_directory_that_is_a_link(tmp_path: Path, volume: Path) -> None:
    """A new instance and its correction: the newer is in the tree, the older in set-aside, nothing beside them."""
    killed, number = True, 0
    while killed:
        number += 1
        bench = Bench(tmp_path / str(number), fsync="batch")
        (volume / str(number)).mkdir()
        (bench.data / DIRECTORY).symlink_to(volume / str(number))
        paths = [bench.put("1", patient=BAD), bench.put("2", patient=BAD, **other_pixels())]
        newer = paths[1].read_bytes()
        killed = work_until(bench, paths, number)
        go_on(bench)
        (data,) = tree(bench.data).values()
        assert data == newer, number
        assert len([name for name in contents(bench.log) if "-img/" in name]) == 1
        assert bench.claims() == []
        kept = [name for name in bench.set_aside("superseded") if not name.endswith((".json", ".lock"))]
        assert len(kept) == 1, number
    assert number > 20, "fewer calls than there must be"


def test_a_volume_below_incoming(tmp_path: Path) -> None:
    """The claim is a copy: whole, or not there."""
    killed, number = True, 0
    while killed:
        number += 1
        with ExitStack() as stack:
            bench = Bench(tmp_path / str(number), fsync="batch")
            site = stack.enter_context(tmpfs(bench.incoming / "site"))
            path = bench.put("site/1", patient=BAD)
            data = path.read_bytes()
            killed = work_until(bench, [path], number)
            go_on(bench)
            assert list(tree(bench.data).values()) == [data], number
            assert os.listdir(site) == bench.claims() == []
            assert bench.set_aside("") == {}
    assert number > 10, "fewer calls than there must be"

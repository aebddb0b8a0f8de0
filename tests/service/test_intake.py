"""What --keep-source has done is remembered over restarts, by name, inode, size and time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.service.intake import ProcessedFiles


@contextmanager
def kept(state: Path) -> Iterator[ProcessedFiles]:
    made = ProcessedFiles(str(state))
    try:
        yield made
    finally:
        made.close()


def do(memory: ProcessedFiles, path: Path) -> bool:
    """Offer a file, and finish it when it is new; whether it was done before."""
    known = memory.holds(str(path), os.stat(path))
    memory.add(str(path))
    return known


def test_a_file_is_done_once_even_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    with kept(tmp_path) as memory:
        assert [do(memory, file), do(memory, file)] == [False, True]
    with kept(tmp_path) as memory:
        assert do(memory, file)
    assert (tmp_path / "kept").stat().st_size == 16


def test_another_file_of_that_name_is_new(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    with kept(tmp_path) as memory:
        do(memory, file)
        file.write_bytes(b"xy")
        assert not do(memory, file)
        os.utime(file, ns=(1, 1))
        assert not do(memory, file)
        (tmp_path / "b").write_bytes(b"xy")
        os.utime(tmp_path / "b", ns=(1, 1))
        os.replace(tmp_path / "b", file)
        assert not do(memory, file)


def test_the_same_file_under_another_name_is_new(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with kept(tmp_path) as memory:
        do(memory, tmp_path / "a")
        os.rename(tmp_path / "a", tmp_path / "b")
        assert not do(memory, tmp_path / "b")


def test_what_was_offered_and_not_finished_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with kept(tmp_path) as memory:
        memory.holds(str(tmp_path / "a"), os.stat(tmp_path / "a"))
        memory.add("never offered")
    with kept(tmp_path) as memory:
        assert not memory.holds(str(tmp_path / "a"), os.stat(tmp_path / "a"))


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    Path(name).write_bytes(b"x")
    with kept(tmp_path) as memory:
        assert [do(memory, Path(name)), do(memory, Path(name))] == [False, True]


@given(torn=st.integers(0, 15), count=st.integers(0, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_torn_tail_costs_at_most_the_last_one(tmp_path: Path, torn: int, count: int) -> None:
    """A power cut while the last digest was written: the others stand, and what follows is aligned again."""
    files = [tmp_path / str(number) for number in range(count)]
    (tmp_path / "kept").unlink(missing_ok=True)
    for file in files:
        file.write_bytes(b"x")
    with kept(tmp_path) as memory:
        for file in files:
            do(memory, file)
    with (tmp_path / "kept").open("ab") as end:
        end.write(bytes(torn))
    with kept(tmp_path) as memory:
        assert all(do(memory, file) for file in files)
        (tmp_path / "new").write_bytes(b"x")
        do(memory, tmp_path / "new")
    with kept(tmp_path) as memory:
        assert do(memory, tmp_path / "new")

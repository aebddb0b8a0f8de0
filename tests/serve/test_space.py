"""The space of the index: what was not used for the longest time goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from listener.serve.space import taken, tidy


def put(folder: Path, number: int, size: int, age: float) -> Path:
    series = folder / "series" / f"{number:02x}" / str(number)
    series.mkdir(parents=True)
    for name in ("a.json.gz", "a.table"):
        (series / name).write_bytes(bytes(size // 2))
        os.utime(series / name, (time.time() - age, time.time() - age))
    return series


def test_the_oldest_go_until_there_is_some_space(tmp_path: Path) -> None:
    series = [put(tmp_path, number, 100, age=number * 60) for number in range(10)]
    (tmp_path / "catalogue.sqlite").write_bytes(bytes(50))
    assert taken(tmp_path.as_posix()) == 1050
    assert tidy(tmp_path.as_posix(), 1050) == 1050
    assert tidy(tmp_path.as_posix(), 0) == 1050
    assert tidy(tmp_path.as_posix(), 500) == 450
    assert [one.exists() for one in series] == [True] * 4 + [False] * 6
    assert taken(tmp_path.as_posix()) == 450


def test_what_killed_workers_left_goes(tmp_path: Path) -> None:
    old, new = tmp_path / "bulk-1", tmp_path / "bulk-2"
    for one in (old, new):
        one.write_bytes(b"x")
    os.utime(old, (1, 1))
    tidy(tmp_path.as_posix(), 0)
    assert (old.exists(), new.exists()) == (False, True)


def test_an_index_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert tidy((tmp_path / "none").as_posix(), 1) == 0

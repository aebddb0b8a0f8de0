"""A small archive to be brought in by parts."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from listener import cli
from listener.ledger.connection import open_reader, path_of
from tests.instances import write_instance
from tests.service_process import Places

BY_NAME = ("--part-by", "name", "--tolerate-set-aside", "--events", "off")
SMALL = ("--min-free", "0", "--fsync", "none", "--workers", "1")
#: What runs in the test's own process must not lower its priority, which does not come back.
NORMAL = ("--priority", "normal")


def archive(places: Places, series: int = 12, each: int = 3) -> list[Path]:
    """Series in directories of their own, one with a duplicate of an instance of another one, one with no DICOM."""
    paths = []
    for number in range(series):
        folder = places.incoming / f"P{number}/S{number}"
        folder.mkdir(parents=True)
        for instance in range(each):
            path = folder / f"IM{instance}"
            paths.append(write_instance(path, patient=number, study=number, series=number, number=instance + 1))
    last = paths[-1].parent
    shutil.copy(paths[0], last / "same")
    (last / "text").write_text("no DICOM\n" * 40)
    return [*paths, last / "same", last / "text"]


def part(places: Places, *words: str) -> int:
    return cli.main(["once", *places.flags(), *SMALL, *NORMAL, *words])


def total(places: Places) -> Counter[str]:
    """The sum of all accounts."""
    kinds = ("listed", "published", "duplicate", "set_aside", "vanished", "left")
    found: Counter[str] = Counter()
    for path in (places.state / "parts").glob("*/account.json"):
        one = orjson.loads(path.read_bytes())
        assert one["listed"] == sum(one[kind] for kind in kinds[1:]), one
        found.update({kind: one[kind] for kind in kinds})
    return +found


def parts(places: Places, count: int = 2) -> None:
    """All parts of what is in incoming; each series lies in several of them."""
    for number in range(count):
        assert part(places, "--part", f"{number}/{count}", *BY_NAME) == 0


def finish_all(places: Places, *words: str) -> int:
    return cli.main(["once", *places.flags(), *SMALL, "--finish", *words])


def rows(places: Places, query: str) -> list[Any]:
    with contextlib.closing(open_reader(path_of(str(places.state)))) as ledger:
        return ledger.execute(query).fetchall()

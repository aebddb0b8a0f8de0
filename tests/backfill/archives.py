"""A small archive to be brought in by parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from listener import cli
from tests.instances import write_instance
from tests.service_process import Places

SMALL = ("--min-free", "0", "--fsync", "none", "--workers", "1")


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
    return cli.main(["once", *places.flags(), *SMALL, *words])

"""Check a run: it counts only when every file came out once, complete, with its document."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from listener.planning.names import OWN


class Unfinished(Exception):
    """A run did not produce everything."""


class Produced(NamedTuple):
    """What a run produced: instances, their bytes, and documents; `alike`: each instance has the one of
    its name.
    """

    instances: int
    size: int
    documents: int
    alike: bool


def produced(data: Path, log: Path) -> Produced:
    """Count a tree and its logs. Names are added up as hashes, not kept: a million of them are 100 MB."""
    instances = size = documents = names = 0
    for entry in _files(data, ".dcm"):
        instances += 1
        size += entry.stat().st_size
        names += hash(entry.name)
    for folder in log.glob("seriesData/*-img"):
        for entry in _files(folder, ".json"):
            documents += 1
            names -= hash(entry.name.removesuffix(".json"))
    return Produced(instances, size, documents, names == 0)


def verify(data: Path, log: Path, files: int, size: int) -> None:
    """Raise Unfinished unless exactly `files` instances of `size` bytes in all came out, each with its document."""
    found = produced(data, log)
    if found != (files, size, files, True):
        alike = "" if found.alike else ", not of the same names"
        raise Unfinished(
            f"of {files} files ({size} bytes) {found.instances} instances ({found.size} bytes) "
            f"and {found.documents} documents came out{alike}"
        )


def _files(folder: Path, ending: str) -> Iterator[os.DirEntry[str]]:
    if not folder.is_dir():
        return
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != OWN:
                        pending.append(entry.path)
                elif entry.name.endswith(ending):
                    yield entry

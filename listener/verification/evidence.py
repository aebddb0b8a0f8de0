"""PURE. What `listener verify` reads of logs and tree, before it is judged."""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """What an instance's header says: who it is and the path that the layout gives it; or the `fault` that it has."""

    SOPInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    StudyInstanceUID: str = ""
    target: str = ""
    fault: str = ""
    text: str = ""


class Described(NamedTuple):
    """One instance's document at `document`: the instance is `name`, and lies at `path` with `size` bytes (-1: nothing
    is there); `told_size` is what the document says (-1: nothing). `reading` is there when the header was read.
    """

    name: str
    document: str
    readable: bool
    path: str = ""
    size: int = -1
    told_size: int = -1
    study: str = ""
    patient: str = ""
    moved: bool = False
    reading: Reading | None = None


class SharedState(NamedTuple):
    """A document that instances share: its kind, where it is, and the word for what is wrong with it ("" nothing)."""

    kind: str
    path: str
    word: str
    study: str = ""


class Series(NamedTuple):
    """What was read of one series. `base` is its SeriesBaseDir as it would be below --data ("" where none is told);
    `keeps_both`: by --on-conflict one instance may have more than one file.
    """

    series: str
    images: str
    documents: list[Described]
    foreign: list[str]
    shared: list[SharedState]
    base: str = ""
    base_moved: bool = False
    occupied: bool = False
    keeps_both: bool = False


class Stray(NamedTuple):
    """A file of a folder that no document is named after: its path, what it says, and whether it is somewhere else
    too.
    """

    path: str
    reading: Reading
    twin: bool = False

"""The records of one file on its way: its source, what each step found, and the job that gathers these."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from listener.dicom.attributes import SENDER, Header
from listener.disk import files
from listener.disk.json_file import Signature
from listener.planning.plan import Plan
from listener.records import Arrival
from listener.repacking.context import WorkerContext

#: Header and plan of a job until its file is read.
UNREAD = Header(values={}, size=0, dataset_offset=0)
UNPLANNED = Plan("", "")


class NotYet(Exception):
    """Try again a little later: the file is open for writing or changed a moment ago, or another worker has just
    described the same instance.
    """


class Claimed(NamedTuple):
    """The source as it was claimed: size in bytes, mtime in nanoseconds, device and inode, number of names."""

    size: int
    mtime_ns: int
    inode: tuple[int, int]
    links: int


#: Of a source that is not claimed yet.
UNCLAIMED = Claimed(0, 0, (0, 0), 1)


class Instance(NamedTuple):
    """An instance that was read: its header, and the open file for what must be read besides."""

    header: Header
    descriptor: int

    @property
    def series(self) -> str:
        """Return the Series Instance UID."""
        return self.header.get("SeriesInstanceUID")


class SharedContent(NamedTuple):
    """What shared documents are made of: the header with all attributes that they hold, and the map `DICOM`."""

    header: Header
    elements: dict[str, dict[str, str]]


class StagedDocument(NamedTuple):
    """An instance's document before it has its name: where it is staged, its bytes, and for which file name."""

    path: str
    data: bytes
    name: str


class Placed(NamedTuple):
    """Where an instance is in the tree, and its document.

    `kind` is "published", or "duplicate": then `target` is the one that was there, of `present_size` bytes. `plan` is
    where it goes by name, `document` its document, whose signature was `signature` when the place was decided (None:
    there was none). `superseded` is where a replaced instance is kept; `leaves` are path and inode of those that leave
    the tree once the document points at the new one.
    """

    kind: str
    target: str
    plan: Plan
    document: str
    signature: Signature | None = None
    present_size: int = 0
    superseded: str = ""
    leaves: tuple[tuple[str, tuple[int, int]], ...] = ()


class Resources:
    """What must be released however a file ends: descriptors that were opened, temporaries that have no name yet."""

    __slots__ = ("opened", "temporaries")

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.temporaries: list[str] = []

    def close(self) -> None:
        """Close the descriptors and remove the temporaries."""
        for descriptor in self.opened:
            os.close(descriptor)
        for path in self.temporaries:
            files.discard(path)
        self.opened, self.temporaries = [], []


class Source(Resources):
    """A source file, and what was done in the world for it: a step that fails returns nothing, so this tells what to
    undo.

    `path` is where it lies now, `claim` the same if it is claimed, `descriptor` the open file (-1: none), `leased`
    whether a lease on it is held, which keeps writers out, `copy` and `copy_descriptor` a copy that is linked in its
    place (else "" and -1), `target` the name in the tree that it is given (or was, by an earlier attempt), `linked`
    whether this attempt gave it.
    """

    __slots__ = (
        "arrival", "claim", "claimed", "copy", "copy_descriptor", "descriptor", "leased", "linked", "path", "target",
    )  # fmt: skip

    def __init__(self, arrival: Arrival) -> None:
        super().__init__()
        self.arrival = arrival
        self.path = arrival.claim or arrival.path
        self.claim = arrival.claim
        self.claimed = UNCLAIMED
        self.descriptor = self.copy_descriptor = -1
        self.copy = self.target = ""
        self.leased = self.linked = False

    @property
    def link_source(self) -> str:
        """Return what is linked into the tree."""
        return self.copy or self.path

    def close(self) -> None:
        """Close the descriptors and remove the temporaries."""
        self.opened += [descriptor for descriptor in (self.copy_descriptor, self.descriptor) if descriptor >= 0]
        self.copy_descriptor = self.descriptor = -1
        super().close()


@dataclass(slots=True)
class FileJob:
    """What is known of one arrival while it is repacked, complete enough at each step to make an Outcome of it.

    `marks` holds the perf_counter at the start of each step, `paused_at` the one at which the job came to the barrier
    where it waits (else 0).
    """

    source: Source
    begun_ns: int = 0
    step: str = "claim"
    marks: list[float] = field(default_factory=list)
    paused_at: float = 0.0
    header: Header = UNREAD
    plan: Plan = UNPLANNED
    shared: SharedContent | None = None
    placed: Placed | None = None

    @property
    def series(self) -> str:
        """Return the Series Instance UID, "" until it is read."""
        return self.header.get("SeriesInstanceUID")

    def document(self, context: WorkerContext) -> str:
        """Return the path of the instance's document, "" until that is known."""
        if self.placed:
            return self.placed.document
        name = os.path.basename(self.source.target)
        return context.document(self.series, name) if name else ""

    def enter(self, step: str) -> None:
        """Begin the next of errors.STEPS."""
        self.step = step
        self.marks.append(time.perf_counter())

    def take_known(self, known: Mapping[str, str]) -> None:
        """Keep the values that were read before a fault, if any."""
        if known:
            self.header = UNREAD._replace(
                values=known, SourceApplicationEntityTitle=known.get(SENDER, ""), warning=self.header.warning
            )

    def pause(self) -> None:
        """Stop the job's clock at a barrier: the time until resume() is spent on other files."""
        self.paused_at = time.perf_counter()

    def resume(self) -> None:
        """Restart the clock behind a barrier, leaving the wait out of the job's steps."""
        waited = time.perf_counter() - self.paused_at
        self.marks = [mark + waited for mark in self.marks]
        self.paused_at = 0.0


def share_sync_time(seconds: float, jobs: list[FileJob]) -> None:
    """Charge the `seconds` of a sync to all jobs that waited for it, in equal parts."""
    for job in jobs:
        job.paused_at += seconds / len(jobs)

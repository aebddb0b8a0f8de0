"""What a worker needs for each file: its settings (WorkerContext), and the state of one file (FileJob)."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from listener.config import Config
from listener.dicom.attributes import SENDER, Header, Limits
from listener.dicom.reader import Wanted
from listener.disk import files, locks
from listener.disk.directories import Directories
from listener.disk.json_file import Signature
from listener.disk.mounts import is_network
from listener.planning import plan
from listener.planning.plan import INSTANCE_KEYWORDS, SHARED_KEYWORDS, Layout, Plan
from listener.records import Arrival

#: What happens to a source: claimed by a rename (the service), copied and left, or moved without a claim (`repack
#: --cleanup`).
CLAIM, COPY, MOVE = "claim", "copy", "move"


#: Header and plan of a job until its file is read and its place decided.
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


@dataclass(slots=True)
class Resources:
    """What a job must release: descriptors of the source, of its copy (-1: none) and of what else it `opened`, and
    temporaries that were not renamed.
    """

    descriptor: int = -1
    copied: int = -1
    opened: list[int] = field(default_factory=list)
    temporaries: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors and remove the temporaries."""
        for descriptor in (*self.opened, self.copied, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        for path in self.temporaries:
            files.discard(path)
        self.opened, self.temporaries, self.copied, self.descriptor = [], [], -1, -1


@dataclass(slots=True)
class FileJob:
    """State of one arrival while it is repacked, complete enough at each step to make an Outcome of it.

    `path` is where the source lies now, `link_source` what is linked into the tree (the source or a staged copy),
    `marks` the perf_counter at the start of each step, `paused_at` the one at which it came to the barrier where it
    waits (else 0), `document_signature` that of the instance's document when its place was decided (None: there was
    none), `leased` whether a lease on the source is held, which keeps writers out, `linked` whether this job gave the
    instance its name in the tree.
    """

    arrival: Arrival
    path: str
    claim: str = ""
    link_source: str = ""
    claimed: Claimed = UNCLAIMED
    resources: Resources = field(default_factory=Resources)
    leased: bool = False
    linked: bool = False
    kind: str = "published"
    step: str = "claim"
    marks: list[float] = field(default_factory=list)
    paused_at: float = 0.0
    begun_ns: int = 0
    header: Header = UNREAD
    plan: Plan = UNPLANNED
    shared: Header = UNREAD
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    present_size: int = 0
    document_signature: Signature | None = None
    touched: list[str] = field(default_factory=list)
    target: str = ""
    document: str = ""
    staged_document: tuple[str, bytes, str] = ("", b"", "")
    superseded: str = ""
    leaves: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    warning: str = ""

    @property
    def series(self) -> str:
        """Return the Series Instance UID."""
        return self.header.get("SeriesInstanceUID")

    def enter(self, step: str) -> None:
        """Begin the next of errors.STEPS."""
        self.step = step
        self.marks.append(time.perf_counter())

    def take_known(self, known: Mapping[str, str]) -> None:
        """Keep the values that were read before a fault, if any."""
        if known:
            self.header = UNREAD._replace(values=known, SourceApplicationEntityTitle=known.get(SENDER, ""))

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


class WorkerContext:
    """Settings, layout, staging directories and locks of one worker; made once. `lock_timeout` is in seconds."""

    def __init__(
        self, config: Config, directories: Directories, mode: str = CLAIM, lock_timeout: float = locks.WORKER_SECONDS
    ) -> None:
        self.config = config
        self.directories = directories
        self.mode = mode
        self.limits = Limits(config.max_header, config.max_depth)
        self.layout = Layout(
            plan.choose_preset(
                config.layout,
                config.root_template,
                config.study_template,
                config.series_template,
                config.image_template,
            )
        )
        keywords = self.layout.keywords - {"SourceApplicationEntityTitle"}
        self.wanted = Wanted.of({*keywords, *INSTANCE_KEYWORDS})
        self.wanted_shared = Wanted.of({*keywords, *INSTANCE_KEYWORDS, *SHARED_KEYWORDS})
        # Data and log may be one directory: the names of temporaries must differ.
        self.data_staging = files.StagingDir(directories.data_staging, "data")
        self.log_staging = files.StagingDir(directories.log_staging, "log")
        self.state_staging = files.StagingDir(directories.state_staging, "state")
        self.locks = locks.Locks(lock_timeout)
        # On a network file system leases and cached reads say nothing of what other machines do.
        self.network = tuple(map(is_network, directories.incoming))
        self.network_log = is_network(directories.log)
        self.syncs = config.fsync != "none"
        self._serial = itertools.count()
        self._process = f"{os.getpid():x}"

    def claim_name(self, arrival: Arrival) -> str:
        """Return a unique name for a claim: arrival time, process, serial, attempts, original name (cut to fit 255
        bytes).
        """
        prefix = f"{arrival.time_ns:019d}.{self._process}-{next(self._serial):x}.{arrival.attempts}."
        return files.cut_name(prefix, os.path.basename(arrival.path))

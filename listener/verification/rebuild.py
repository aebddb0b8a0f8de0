"""Documents made again from instances that are in the tree already, by the same steps as when one is published."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence

from listener.config import Config
from listener.dicom.reader import check_uids, read_header
from listener.disk import files, sync
from listener.disk.directories import Directories, forget_killed_runs
from listener.errors import FileFault
from listener.planning.names import OWN
from listener.planning.plan import Plan
from listener.records import Arrival
from listener.repacking import describe
from listener.repacking.desk import Desk, Job, NotYet
from listener.repacking.shared import Shared

#: Instances that are described between two barriers.
BATCH = 32


def directories_of(config: Config, staging: str) -> Directories:
    """Directories for a verification: only the logs are ever written to, through `staging` below them."""
    return Directories(
        data=config.data,
        log=config.log,
        state=config.state,
        log_staging=staging,
        locks=os.path.join(config.log, OWN, "locks"),
    )


@contextlib.contextmanager
def staging_in(log: str) -> Iterator[str]:
    """A staging directory for one run, gone at its end; the directory of locks is there, too."""
    forget_killed_runs(log)
    path = os.path.join(log, OWN, "staging", f"verify-{os.getpid()}-{secrets.token_hex(4)}")
    for made in (path, os.path.join(log, OWN, "locks")):
        os.makedirs(made, mode=0o700, exist_ok=True)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)


class Rebuilder:
    """Describes instances where they lie."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shared = Shared()

    def describe(self, paths: Sequence[str]) -> list[bool]:
        """Write the documents of these instances, and the shared ones that lack; for each, whether that worked."""
        # Most are of one series: its first one writes what they share, so that the others need not read all they hold.
        done = self._together(paths[:1])
        for start in range(1, len(paths), BATCH):
            done += self._together(paths[start : start + BATCH])
        return done

    def _together(self, paths: Sequence[str]) -> list[bool]:
        """One barrier for all: data before names, and then the names."""
        jobs = [self._open(path) for path in paths]
        try:
            ready = [job is not None and self._prepared(job) for job in jobs]
            self._sync(job for job, fine in zip(jobs, ready, strict=True) if job and fine)
            done = [job is not None and fine and self._placed(job) for job, fine in zip(jobs, ready, strict=True)]
            if self._desk.syncs:
                described = [job.document for job, fine in zip(jobs, done, strict=True) if job and fine]
                sync.directories(dict.fromkeys(map(os.path.dirname, described)))
            return done
        finally:
            for job in jobs:
                if job is not None:
                    job.close()

    def _sync(self, jobs: Iterator[Job]) -> None:
        if self._desk.syncs:
            sync.descriptors([descriptor for job in jobs for descriptor in job.opened])

    def _open(self, path: str) -> Job | None:
        """An instance of the tree as if it had just been placed; None for what is no good."""
        desk = self._desk
        job = Job(Arrival(path, 0, 0, "startup"), path, target=path)
        try:
            job.descriptor = files.open_regular(path)
            job.size = os.fstat(job.descriptor).st_size
            job.header = read_header(job.descriptor, job.size, desk.wanted, desk.limits)
            check_uids(job.header)
        except (FileFault, OSError):
            job.close()
            return None
        job.plan = Plan(*os.path.split(os.path.relpath(path, desk.directories.data)))
        return job

    def _prepared(self, job: Job) -> bool:
        try:
            self._shared.look(job, self._desk)
            describe.stage(job, self._desk)
        except (FileFault, OSError):
            return False
        return True

    def _placed(self, job: Job) -> bool:
        try:
            describe.describe(job, self._desk, self._shared)
        except (NotYet, OSError):  # A worker has just described it, or somebody holds its lock.
            return False
        return True

    def share(self, path: str) -> bool:
        """Complete what the instance at `path` shares with others; its own document stays as it is."""
        job = self._open(path)
        if job is None:
            return False
        try:
            shared = Shared()
            shared.look(job, self._desk)
            shared.write(job, self._desk)
        finally:
            job.close()
        return True

    def whole_size(self, path: str) -> int:
        """The size of an instance that is proven complete; -1 for any other."""
        job = self._open(path)
        if job is None:
            return -1
        job.close()
        return job.size

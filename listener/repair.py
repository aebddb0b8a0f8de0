"""What `listener verify --repair` does: documents are rebuilt from the tree, by the same steps and under the same locks
as when an instance is published. No instance is touched, and no document is deleted: what must go is moved to
``<log>/.listener/removed/``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from listener import describe, documents, files, sync
from listener.config import Config
from listener.desk import Desk, Job
from listener.differences import Difference
from listener.directories import Directories
from listener.documents import Document
from listener.errors import FileFault
from listener.inventory import base_directory, names_in
from listener.moves import rename_free
from listener.names import OWN
from listener.places import Places
from listener.plan import Plan
from listener.reader import check_uids, read_header
from listener.records import Arrival
from listener.shared import Shared, update


def directories_of(config: Config, staging: str = "") -> Directories:
    """Directories for a verification: only the logs are ever written to, through `staging` of our own below them."""
    return Directories(
        incoming=("",),
        claims=("",),
        links=(True,),
        data=config.data,
        log=config.log,
        state=config.state,
        data_staging="",
        log_staging=staging,
        locks=os.path.join(config.log, OWN, "locks"),
        set_aside="",
    )


@contextlib.contextmanager
def staging_in(log: str) -> Iterator[str]:
    """A staging directory for this run, gone at its end."""
    path = os.path.join(log, OWN, "staging", f"verify-{os.getpid()}-{secrets.token_hex(4)}")
    for made in (path, os.path.join(log, OWN, "locks")):
        os.makedirs(made, mode=0o700, exist_ok=True)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)


class Repairer:
    """Mends differences one by one; what it cannot mend it says."""

    def __init__(self, desk: Desk, places: Places) -> None:
        self._desk = desk
        self._places = places
        self._log = desk.directories.log

    def mend(self, difference: Difference) -> bool:
        """Try; whether the difference is gone."""
        way = _WAYS.get(difference.word)
        if way is None:
            return False
        try:
            return way(self, difference)
        except (FileFault, OSError):
            return False

    def describe(self, paths: Sequence[str]) -> list[bool]:
        """Write the documents of instances in the tree, their shared ones too where they lack; one barrier for all."""
        jobs = [self._job(path) for path in paths]
        try:
            for index, job in enumerate(jobs):
                jobs[index] = self._staged(job)
            staged = [job for job in jobs if job is not None]
            if self._desk.syncs:
                sync.descriptors(descriptor for job in staged for descriptor in job.opened)
            done = [job is not None and self._placed(job) for job in jobs]
            if self._desk.syncs:
                described = (job.document for job, fine in zip(jobs, done, strict=True) if job and fine)
                sync.directories(dict.fromkeys(map(os.path.dirname, described)))
            return done
        finally:
            for job in jobs:
                if job is not None:
                    job.close()

    def _job(self, path: str) -> Job | None:
        """An instance of the tree as if it had just been placed; None for what is no good."""
        if not self._places.holds(path):
            return None
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
        directory, name = os.path.split(os.path.relpath(path, desk.directories.data))
        job.plan = Plan(directory, name)
        return job

    def _staged(self, job: Job | None) -> Job | None:
        if job is None:
            return None
        try:
            Shared().look(job, self._desk)
            describe.stage(job, self._desk)
        except FileFault:
            job.close()
            return None
        return job

    def _placed(self, job: Job) -> bool:
        try:
            describe.describe(job, self._desk, Shared())
        except OSError:
            return False
        return True

    def remove(self, path: str) -> None:
        """Move something out of the logs, where nobody reads it and nothing is lost."""
        below = os.path.relpath(path, self._log)
        kept = os.path.join(self._log, OWN, "removed", os.path.dirname(below))
        os.makedirs(kept, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            rename_free(path, kept, os.path.basename(below))
            if self._desk.syncs:
                sync.directories([kept, os.path.dirname(path)])

    # -- one way a word ----------------------------------------------------------------------------------------------

    def _describe_other(self, one: Difference) -> bool:
        return self.describe([one.other])[0]

    def _replace(self, one: Difference) -> bool:
        """Out of the way, and made again of an instance, if there is one."""
        self.remove(one.path)
        return not one.other or self.describe([one.other])[0]

    def _remove(self, one: Difference) -> bool:
        self.remove(one.path)
        return True

    def _share(self, one: Difference) -> bool:
        """Make what is shared complete again; the instance itself is described already, and stays as it is."""
        job = self._job(one.other)
        if job is None:
            return False
        try:
            shared = Shared()
            shared.look(job, self._desk)
            shared.write(job, self._desk)
        finally:
            job.close()
        return True

    def _remake(self, one: Difference) -> bool:
        self.remove(one.path)
        return self._share(one)

    def _resize(self, one: Difference) -> bool:
        """Tell the true size, but only of an instance that is whole."""
        job = self._job(one.other)
        if job is None:
            return False
        size = job.size
        job.close()
        return self._rewrite(one.path, lambda entry: _with_image(entry, size=size))

    def _settle(self, one: Difference) -> bool:
        """Let every document of a series point to where its instances are now."""
        done = True
        for name in names_in(one.path):
            path = f"{one.path}/{name}"
            told = documents.location(files.load(path) or {})
            place = self._places.find(os.path.dirname(told)) if told else None
            if place and place.moved:
                here = f"{place.path}/{os.path.basename(told)}"
                done &= self._rewrite(path, lambda entry, here=here: _with_image(entry, FSlocation=here))
        for study, names in _studies_of(self._log, one.series):
            done &= all([self._move_base(f"{study}/{name}") for name in names])
        return done

    def _move_base(self, path: str) -> bool:
        told = base_directory(files.load(path) or {})
        place = self._places.find(told) if told else None
        if place and place.moved:
            return self._rewrite(path, lambda entry: _with_base(entry, place.path))
        return True

    def _rebase(self, one: Difference) -> bool:
        return self._rewrite(one.path, lambda entry: _with_base(entry, os.path.dirname(one.other)))

    def _rewrite(self, path: str, change: Callable[[Document], Document]) -> bool:
        """Change each part of a document, under its lock; what else another program wrote there stays."""
        update(path, self._desk, lambda there: None if there is None else _each(there, change))
        return True

    def _forget(self, one: Difference) -> bool:
        """A series without instances: its own documents go aside; what other programs wrote of it stays."""
        for name in (documents.series_path(one.series), documents.pack_path(one.series)):
            self.remove(f"{self._log}/{name}")
        for study, names in _studies_of(self._log, one.series):
            for name in names:
                self.remove(f"{study}/{name}")
        return True

"""Repack files: claim, read, place, describe, release; and a batch together between two barriers.

The order of the steps keeps the promises (docs/reliability.md): data is on disk before it has a name in the tree, an
instance is in the tree before a document points at it, and the source goes last. The parent unlinks a claim when it has
the file's outcome; if an outcome dies with its worker, the claim is still there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Sequence
from operator import sub
from typing import NamedTuple

from listener.dicom.attributes import SENDER, Header
from listener.dicom.reader import check_uids, owner, read_header, tag_of
from listener.disk import sync
from listener.disk.aliases import is_only_name
from listener.errors import FatalFault
from listener.planning import documents
from listener.planning.plan import make_plan, missing_keywords
from listener.reasons import FileFault, TooLarge, Unplaceable, Unreadable, internal
from listener.records import Arrival, Deferral, Missing, Outcome
from listener.repacking import claim, describe, place, setaside
from listener.repacking.context import CLAIM, MOVE, WorkerContext
from listener.repacking.describe import Overtaken
from listener.repacking.io_errors import Refusals
from listener.repacking.job import UNPLANNED, FileJob, Instance, NotYet, Source, share_sync_time
from listener.repacking.shared_documents import SharedDocuments

Result = Outcome | Deferral


class Barrier(NamedTuple):
    """Where a story waits for a sync: `descriptors` of open files, and `directories` whose names must be on disk."""

    descriptors: list[int]
    directories: list[str]


#: Yields where it must wait; returns "published" or "duplicate".
Story = Generator[Barrier, None, str]


def story(job: FileJob, context: WorkerContext, shared: SharedDocuments) -> Story:
    """Run all steps of one file, with a barrier before it is placed and one before it is released."""
    source = job.source
    job.enter("claim")
    source.claimed = claim.take(source, context)
    job.enter("read")
    job.header = _read(source, context)
    job.plan = plan = make_plan(job.header, context.layout)
    instance = Instance(job.header, source.descriptor)
    job.shared = shared.read_if_missing(instance, trusts=not source.arrival.claim)
    job.enter("place")
    place.prepare(source, plan, context)
    job.step = "describe"  # If it fails the log is at fault, and an alert selects by this step.
    staged = describe.stage(instance, plan, context, source)
    job.step = "place"
    if context.syncs:
        yield Barrier(place.descriptors_to_sync(source), [])
    job.placed = placed = place.place(source, instance, plan, context)
    job.enter("describe")
    try:
        job.shared = describe.describe(instance, placed, staged, job.shared, shared, source)
    except Overtaken:
        place.withdraw(source)
        raise
    changed = place.remove_replaced(placed, context)
    if context.syncs:
        yield Barrier([], [*changed, os.path.dirname(placed.target), os.path.dirname(placed.document)])
    job.enter("release")
    if not claim.unchanged(source):
        raise NotYet
    # A tree repacked onto itself: this may be the file's only name.
    if context.mode == MOVE and not is_only_name(source.path, placed.target):
        os.unlink(source.path)
    return placed.kind


def _read(source: Source, context: WorkerContext) -> Header:
    header = read_header(source.descriptor, source.claimed.size, context.wanted, context.limits)
    check_uids(header)
    return header


def _sync(barriers: list[Barrier]) -> dict[int | str, OSError]:
    """Sync what several stories wait for; return the descriptors and directories that failed, each with its error."""
    descriptors: list[int] = []
    directories: dict[str, None] = {}
    for barrier in barriers:
        descriptors += barrier.descriptors
        directories.update(dict.fromkeys(barrier.directories))
    failed: dict[int | str, OSError] = {}
    try:
        sync.descriptors(descriptors)
    except sync.NotSynced as error:
        failed.update(error.failed)
    try:
        sync.directories(directories)
    except sync.NotSynced as error:
        failed.update(error.failed)
    return failed


class Repacker:
    """Repacks batches in a worker: arrivals in, results out, in the same order."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._shared = SharedDocuments(context)
        self._volumes = [
            context.directories.identity_of(path) for path in (context.directories.data, context.directories.log)
        ]
        self._refusals = Refusals(context)

    def repack(self, arrivals: Sequence[Arrival]) -> list[Result]:
        """Repack a batch. Raises FatalFault when a sync failed with EIO; what was not released stays claimed.

        Nothing is begun while data or log is not the directory of the start (its volume is gone): files would go below
        the mount point.
        """
        if not all(directory.is_there() for directory in self._volumes):
            return [_without_volume(arrival) for arrival in arrivals]
        if self._context.config.fsync == "each":
            return [result for arrival in arrivals for result in self._repack_batch([arrival])]
        return self._repack_batch(arrivals)

    def _repack_batch(self, arrivals: Sequence[Arrival]) -> list[Result]:
        """Group commit: run all stories to their first barrier, sync once, to the second, sync once, to the end."""
        jobs = [FileJob(Source(arrival), time.time_ns()) for arrival in arrivals]
        stories = [story(job, self._context, self._shared) for job in jobs]
        results: list[Result | None] = [None] * len(jobs)
        self._shared.begin_batch()
        try:
            while any(result is None for result in results):
                self._to_next_barrier(jobs, stories, results)
        finally:
            for job in jobs:
                job.source.close()
        return [result for result in results if result is not None]

    def _to_next_barrier(self, jobs: list[FileJob], stories: list[Story], results: list[Result | None]) -> None:
        waiting: list[tuple[int, Barrier]] = []
        for index, job in enumerate(jobs):
            if results[index] is not None:
                continue
            if job.paused_at:
                job.resume()
            awaited = self._advance(job, stories[index])
            if isinstance(awaited, Barrier):
                job.pause()
                waiting.append((index, awaited))
            else:
                results[index] = awaited
        begun = time.perf_counter()
        failed = _sync([barrier for _, barrier in waiting]) if waiting else {}
        if failed:  # Only stories whose own data or names were not synced are repeated.
            for index, barrier in waiting:
                errors = [failed[item] for item in (*barrier.descriptors, *barrier.directories) if item in failed]
                if errors:
                    results[index] = self._refused(jobs[index], errors[0])
        share_sync_time(time.perf_counter() - begun, [job for job in jobs if job.paused_at])

    def _advance(self, job: FileJob, steps: Story) -> Barrier | Result:
        """Run a story to its next barrier or its result. Catches every exception: a file's failure never is the
        batch's.
        """
        try:
            return next(steps)
        except StopIteration as end:
            return self._outcome(job, end.value)
        except claim.Gone:
            return self._outcome(job, "vanished")
        except NotYet:
            return _busy(job)
        except FatalFault:
            raise
        except FileFault as fault:
            job.take_known(fault.known)
            return self._set_aside(job, fault.reason, str(fault))
        except OSError as error:
            return self._failed(job, error)
        except MemoryError:
            return self._set_aside(job, TooLarge.reason, str(TooLarge("a worker's memory did not suffice")))
        except Exception as error:  # noqa: BLE001 - whatever a parser raises is an outcome of this file.
            return self._set_aside(job, "internal", internal(error))

    def _failed(self, job: FileJob, error: OSError) -> Result:
        if error.errno == errno.EIO and job.step in ("claim", "read"):
            return self._set_aside(job, Unreadable.reason, str(Unreadable("the disk reports an I/O error")))
        return self._refused(job, error)

    def _refused(self, job: FileJob, error: OSError) -> Result:
        """Return a deferral for an OSError, or the outcome of setting aside a file that was refused for too long."""
        deferral = self._refusals.deferral(job, error)
        source = job.source
        try:
            place.take_back(source, job.document(self._context), self._context)
        except OSError:
            return deferral  # It stays in the tree, in one place only, where the next attempt finds it.
        may = source.claim or self._context.mode != CLAIM  # An unclaimed file still belongs to its sender.
        if not (deferral.place and source.arrival.last and may) or place.is_placed(source):
            return deferral
        return self._set_aside(job, Unplaceable.reason, str(Unplaceable(f"{deferral.place}: {deferral.error}")))

    def _set_aside(self, job: FileJob, reason: str, error: str) -> Result:
        source, arrival = job.source, job.source.arrival
        try:
            place.withdraw(source)
            why = setaside.Why(
                reason, error, owner({**job.header.values, SENDER: job.header.SourceApplicationEntityTitle})
            )
            where = setaside.put_aside(source.path, os.path.basename(arrival.path), self._context, why, arrival)
        except OSError as failure:
            return self._refusals.deferral(job, failure)
        return self._outcome(job, "set-aside", reason, error, where)

    def _outcome(self, job: FileJob, kind: str, reason: str = "", error: str = "", dst: str = "") -> Outcome:
        marks = [*job.marks, time.perf_counter()]
        source, header, placed = job.source, job.header, job.placed
        arrival = source.arrival
        get = header.values.get
        # In the order of its fields: naming them costs as much as making it.
        return Outcome(
            kind,
            arrival.path,
            arrival.root_index,
            arrival.time_ns,
            time.time_ns(),
            job.begun_ns,
            marks[-1] - marks[0],
            source.claimed.size,
            reason,
            job.step if kind == "set-aside" else "",
            error,
            dst or (placed.target if placed else source.target),
            get("SOPInstanceUID", ""),
            get("SeriesInstanceUID", ""),
            get("StudyInstanceUID", ""),
            get("PatientID", ""),
            _missing(job, self._context),
            tuple(map(sub, marks[1:], marks)),
            header.warning,
            placed.superseded if placed else "",
            header.fast,
            "" if kind == "vanished" else source.claim,
            get("Modality", ""),
            header.SourceApplicationEntityTitle,
            documents.series_header(documents.texts(job.shared.elements)) if job.shared else None,
        )


def _without_volume(arrival: Arrival) -> Deferral:
    text = "the data or log directory is not the one of the start"
    return Deferral(
        arrival.path, arrival.root_index, arrival.time_ns, "io-error", "claim", text, arrival.claim, arrival.attempts
    )


def _busy(job: FileJob) -> Deferral:
    arrival = job.source.arrival
    text = "still open for writing" if job.step != "describe" else "another worker has just described this instance"
    return Deferral(
        arrival.path, arrival.root_index, arrival.time_ns, "busy", job.step, text, job.source.claim, arrival.attempts
    )


def _missing(job: FileJob, context: WorkerContext) -> tuple[Missing, ...]:
    """Return the attributes that path and document wanted and the instance lacks; for an instance of which shared
    documents are made, also those that these wanted (as rx-repack reports it).
    """
    if job.plan is UNPLANNED:
        return ()
    wanted = context.wanted_shared if job.shared else context.wanted
    absent = missing_keywords(job.shared.header if job.shared else job.header, wanted.keywords)
    return tuple([_entry(keyword) for keyword in absent]) if absent else ()


def _entry(keyword: str) -> Missing:
    tag = tag_of(keyword)
    text = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return Missing(text, keyword, f"No such data element with tag {text}")

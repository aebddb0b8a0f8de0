"""What is exported together when a delivery comes: a generation of a series, a study, or all of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Lock
from typing import NamedTuple

from listener.errors import Postponed
from listener.export.faults import Gone
from listener.export.series import Batch, Job
from listener.ledger import batch_parts
from listener.ledger.batch_parts import BatchOf, BatchPart
from listener.ledger.connection import open_reader, path_of, translated
from listener.ledger.interests import Interest
from listener.ledger.reader import Reader
from listener.ledger.rows import Delivery, SeriesRow
from listener.planning.names import short_hash

#: Seconds after which a series is looked at again whose batch another delivery exports.
_SOON = 0.2


class Superseded(Exception):
    """A newer generation exports what this one had, or nothing is left of it."""


class Wants(NamedTuple):
    """What is exported together: `unit` is series, study or batch; `sends_incomplete`: series of which fewer instances
    came than were promised too.
    """

    unit: str = "series"
    sends_incomplete: bool = False

    @property
    def interest(self) -> Interest:
        """Return which deliveries tell of that."""
        what = "study" if self.unit == "study" else "series"
        return Interest((f"{what}-complete", *((f"{what}-incomplete",) if self.sends_incomplete else ())))


class Due:
    """Finds what is due, for several threads. A batch has a delivery for each of its series, and is exported once."""

    def __init__(self, state_dir: str, wants: Wants) -> None:
        self._state_dir, self._wants = state_dir, wants
        self._lock = Lock()
        self._under_way: set[str] = set()
        self._postponed: set[int] = set()
        #: Batches that were exported, and their series whose deliveries that answers too.
        self._done: dict[str, set[int]] = {}

    @contextmanager
    def taken(self, delivery: Delivery) -> Iterator[Batch | None]:
        """Yield what is to be exported; None if another delivery did so. Raises Superseded, Gone, LedgerFault, and
        Postponed while a batch is not there as a whole, or is being exported.
        """
        whole: tuple[Batch, set[int]] | None = None
        with closing(open_reader(path_of(self._state_dir))) as connection, translated():
            reader, series, change = Reader(connection), delivery.series, delivery.change
            if series and change and self._wants.unit == "batch":
                found = batch_parts.whole_batch(connection, series, change.generation)
                whole = self._whole(reader, *found) if found else None
            batch = whole[0] if whole else _alone(reader, delivery)
        if not whole or not series:
            yield batch
        elif self._was_done(batch.uid, series.id, delivery.id):
            yield None
        else:
            try:
                yield batch
                with self._lock:
                    self._done[batch.uid] = whole[1] - {series.id}
            finally:
                with self._lock:
                    self._under_way.discard(batch.uid)

    def _whole(self, reader: Reader, batch: BatchOf, every: list[BatchPart]) -> tuple[Batch, set[int]]:
        """Return what is exported of a batch, and the ids of its series. Raises Superseded if that is nothing."""
        parts = [
            one
            for one in every
            if one.series.instances and (one.series.state != "incomplete" or self._wants.sends_incomplete)
        ]
        if not parts:
            raise Superseded
        jobs = [_job(reader, one.series, one.generation, one.series.state) for one in parts]
        first = min(jobs, key=lambda job: min(row.path for row in job.rows))
        # By what it has, not by its number: a ledger that is made anew counts from 1 again.
        content = " ".join(sorted(f"{one.series.SeriesInstanceUID} {one.generation}" for one in parts))
        made = Batch(first.series.StudyInstanceUID, f"batch-{short_hash(content)}", batch.generation, jobs, True)
        return made, {one.series.id for one in parts}

    @property
    def is_waited_for(self) -> bool:
        """Return whether a delivery comes again soon that waits for another one of its batch."""
        return bool(self._postponed)

    def _was_done(self, uid: str, series: int, delivery: int) -> bool:
        """Return whether a batch was exported by another delivery, which answers this one of a series; else begin.
        Raises Postponed.
        """
        with self._lock:
            self._postponed.discard(delivery)
            unanswered = self._done.get(uid, set())
            if series in unanswered:
                unanswered.discard(series)
                if not unanswered:
                    del self._done[uid]
                return True
            if uid in self._under_way:
                self._postponed.add(delivery)
                raise Postponed("its batch is being exported", _SOON)
            self._under_way.add(uid)
            return False


def _alone(reader: Reader, delivery: Delivery) -> Batch:
    """Return the generation of a series, or the study, that a delivery tells of."""
    is_repeated = delivery.attempts > 1
    if delivery.series and delivery.change:
        series, generation = delivery.series, delivery.change.generation
        uids = (series.StudyInstanceUID, series.SeriesInstanceUID)
        return Batch(*uids, generation, [_job(reader, series, generation, delivery.event)], is_repeated)
    if delivery.study is None or delivery.end is None or delivery.study.state == "open":
        raise Superseded
    uid, every = delivery.study.StudyInstanceUID, delivery.series_of_study
    jobs = [_job(reader, one, one.generation, one.state) for one in every if one.instances]
    return Batch(uid, uid, delivery.end.generation, jobs, is_repeated)


def _job(reader: Reader, series: SeriesRow, generation: int, state: str) -> Job:
    """Return a series with its instances. Raises Gone, and Superseded where a correction left it without any."""
    rows = reader.instances_of(series)
    if not rows:
        raise Gone("it was pruned") if series.pruned_ns else Superseded
    return Job(series, generation, "incomplete" if state.endswith("incomplete") else "complete", rows)

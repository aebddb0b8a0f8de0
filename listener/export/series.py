"""One generation of a series: its instances read, uploaded and verified, and its manifest last.

Whatever is killed on the way is done again by the next attempt, which finds what is there: objects are only created,
each under a key that follows from its path (or UIDs) and content. The delivery is settled by the caller, after the
manifest was read back.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import NamedTuple, TypeVar

import listener
from listener.export import keys, manifest
from listener.export.faults import Collision, NotThere
from listener.export.instances import Instance, Survey, content_of, survey
from listener.export.manifest import Entry, Manifest
from listener.export.target import Content, Target, whole
from listener.export.upload import Uploader
from listener.ledger.rows import InstanceRow, SeriesRow
from listener.planning.names import instant

_T = TypeVar("_T")
_R = TypeVar("_R")

#: How many pieces of a series wait for a thread at a time.
_WINDOW = 64


class Rules(NamedTuple):
    """How series are laid out: `by_uid` names instances by UIDs, else by their paths; `verified` is read or head."""

    by_uid: bool = False
    verified: str = "read"


class Job(NamedTuple):
    """A generation of a series that is to be exported, with its instances. `state` is complete or incomplete;
    `is_repeated`: an attempt was made before, or another exporter's is expected.
    """

    series: SeriesRow
    generation: int
    state: str
    rows: Sequence[InstanceRow]
    is_repeated: bool = False


class Exported(NamedTuple):
    """What became of a series: its manifest and the manifest's key, the instances that are new in this generation, and
    how many objects were put (found or written).
    """

    manifest: Manifest
    key: str
    new: Sequence[Instance]
    objects: int


class SeriesExporter:
    """Exports series to one target; `pool` has the threads of all of them."""

    def __init__(self, target: Target, uploader: Uploader, plan: Survey, rules: Rules, pool: Executor) -> None:
        self._target, self._uploader, self._plan = target, uploader, plan
        self._rules, self._pool = rules, pool

    def export(self, job: Job, renew: Callable[[], None]) -> Exported:
        """Export a series; call `renew` about once a second. Raises a SeriesFault before anything of it was sent (and
        Changed or Gone also later), TargetFault, and Stopped.
        """
        instances = self._in_order(partial(survey, self._plan, job.series), job.rows, renew)
        wanted = [self._key(job.series, one) for one in instances]
        if len(set(wanted)) < len(wanted):
            raise Collision(job.series.SeriesInstanceUID)
        before_key, before = self._before(job)
        known = manifest.by_content(before.entries if before else ())
        put = partial(self._put, known, looks=job.is_repeated or job.generation > 1)
        entries = self._in_order(put, zip(instances, wanted, strict=True), renew)
        made = Manifest(
            job.series.StudyInstanceUID,
            job.series.SeriesInstanceUID,
            job.generation,
            job.state,
            tuple(entries),
            supersedes=before_key,
            verified=self._rules.verified,
            program=f"dicom-listener {listener.__version__}",
            time=instant(time.time_ns()),
        )
        new = [one for one, entry in zip(instances, entries, strict=True) if _id(entry) not in known]
        return Exported(made, self._commit(made), new, len(new))

    def _key(self, series: SeriesRow, one: Instance) -> str:
        if self._rules.by_uid:
            uids = (series.StudyInstanceUID, series.SeriesInstanceUID, one.row.SOPInstanceUID)
            return keys.of_uids(*uids, self._target.prefix)
        return keys.of_path(one.row.path, self._target.prefix)

    def _before(self, job: Job) -> tuple[str, Manifest | None]:
        """Return key and content of the newest manifest of an earlier generation; "" and None if there is none."""
        for generation in range(job.generation - 1, 0, -1):
            key = keys.of_manifest(job.series.StudyInstanceUID, job.series.SeriesInstanceUID, generation)
            if self._target.look(key) and (found := self._read(key)):
                return key, found
        return "", None

    def _read(self, key: str) -> Manifest | None:
        """Return a manifest; None if something else lies there."""
        try:
            return manifest.parsed(whole(self._target.read(key)))
        except (manifest.NoManifest, NotThere):
            return None

    def _put(
        self, known: dict[tuple[str, str, int], Entry], item: tuple[Instance, str], *, looks: bool = True
    ) -> Entry:
        """Return the entry of an instance: the one that an earlier generation verified, or one of its own."""
        one, key = item
        row = one.row
        earlier = known.get((row.SOPInstanceUID, one.sha256, row.size))
        if earlier and earlier.offset < 0 and self._uploader.holds(earlier.key, row.size, one.sha256):
            return earlier._replace(path=row.path)
        key = self._uploader.put(content_of(self._plan.data_dir, one, key), looks=looks)
        return Entry(row.SOPInstanceUID, key, row.size, one.sha256, row.path)

    def _commit(self, made: Manifest) -> str:
        """Write the manifest, and read it back; return its key. One that is there and tells the same stays."""
        key = keys.of_manifest(made.StudyInstanceUID, made.SeriesInstanceUID, made.generation)
        if self._target.look(key):
            # Another ledger's generation of this number may have another content: ours may be beside it already.
            folder = key.rpartition("/")[0]
            for other in (key, *(name for name, _ in self._target.listed(folder) if name.startswith(f"{key}~"))):
                if (there := self._read(other)) and manifest.is_same(there, made):
                    return other
        data = manifest.written(made)
        return self._uploader.put(Content(key, len(data), hashlib.sha256(data).hexdigest(), lambda: iter([data])))

    def _in_order(self, function: Callable[[_T], _R], items: Iterable[_T], renew: Callable[[], None]) -> list[_R]:
        """Return what the function makes of each item, in their order; it works in the threads of the pool."""
        results: list[_R] = []
        waiting: list[Future[_R]] = []
        rest = iter(items)
        try:
            while True:
                for item in rest:
                    waiting.append(self._pool.submit(function, item))
                    if len(waiting) >= _WINDOW:
                        break
                if not waiting:
                    return results
                while not wait(waiting[:1], timeout=1.0).done:
                    renew()
                renew()
                results.append(waiting.pop(0).result())
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)


def _id(entry: Entry) -> tuple[str, str, int]:
    return entry.SOPInstanceUID, entry.sha256, entry.size

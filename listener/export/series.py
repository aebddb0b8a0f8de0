"""One generation of a series (or of a study, all of whose series go into one archive): its instances read, uploaded and
verified, and its manifests last.

Whatever is killed on the way is done again by the next attempt, which finds what is there: objects are only created,
each under a key that follows from its path (or UIDs) and content. The delivery is settled by the caller, after the
manifests were read back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from typing import NamedTuple

import listener
from listener.export import keys, manifest, packing
from listener.export.faults import Collision
from listener.export.instances import Instance, Survey, content_of, digested, survey
from listener.export.manifest import Archive, Entry, Manifest
from listener.export.manifests import Manifests
from listener.export.packing import Volume
from listener.export.target import Target
from listener.export.threads import in_order
from listener.export.unseen import Unseen
from listener.export.upload import Later, Uploader
from listener.ledger.rows import InstanceRow, SeriesRow
from listener.planning.names import instant
from listener.planning.template import Template
from listener.planning.template_functions import with_ages

#: Headers that a thread reads one after the other: each takes as long as to hand it over.
_HEADERS = 8

#: How an instance is known again: SOP Instance UID, SHA-256 and size.
_Id = tuple[str, str, int]


class Rules(NamedTuple):
    """How series are laid out: `by_uid` names instances by UIDs, else by their paths; `verified` is read or head. With
    `archive` (series or study; "none": without) instances go into archives of at most `volume` bytes, compressed or
    not, which `name` names (None: by UID).
    """

    by_uid: bool = False
    verified: str = "read"
    archive: str = "none"
    compress: bool = False
    volume: int = 4 * 2**30
    name: Template | None = None


class Job(NamedTuple):
    """A generation of a series that is to be exported, with its instances. `state` is complete or incomplete."""

    series: SeriesRow
    generation: int
    state: str
    rows: Sequence[InstanceRow]


class Batch(NamedTuple):
    """Series that are exported together: UID of the study, UID and generation by which an archive is named (of the
    series, or the study). `is_repeated`: an attempt was made before.
    """

    study: str
    uid: str
    generation: int
    jobs: Sequence[Job]
    is_repeated: bool = False


class Exported(NamedTuple):
    """What became of a series: its manifest and the manifest's key, the instances that are new in this generation, and
    how many objects were put (found or written).
    """

    manifest: Manifest
    key: str
    new: Sequence[Instance]
    objects: int


class _Read(NamedTuple):
    """A job whose headers were read: the manifest before it with its key, and its own if it is there. With one of them
    instances have their SHA-256.
    """

    job: Job
    instances: Sequence[Instance]
    before_key: str
    before: Manifest | None
    own: Manifest | None

    @property
    def known(self) -> dict[_Id, Entry]:
        """Return entries that were verified already, by content."""
        before, own = (one.entries if one else () for one in (self.before, self.own))
        return manifest.by_content([*before, *own])


class _Placed(NamedTuple):
    """An instance with its SHA-256, and where it is in the target."""

    instance: Instance
    entry: Entry


#: What is in the target, by the path below the data directory.
_Places = dict[str, _Placed]


class SeriesExporter:
    """Exports series to one target; `pool` has the threads of all of them."""

    def __init__(self, target: Target, uploader: Uploader, plan: Survey, rules: Rules, pool: Executor) -> None:
        self._target, self._uploader, self._plan = target, uploader, plan
        self._rules, self._pool = rules, pool
        self._manifests = Manifests(target, uploader)

    def export(self, batch: Batch, renew: Callable[[], None]) -> list[Exported]:
        """Export series; call `renew` about once a second. Raises a SeriesFault before anything of them was sent (and
        Changed or Gone also later), TargetFault, and Stopped.
        """
        read = [self._surveyed(job, renew) for job in batch.jobs]
        known: dict[_Id, Entry] = {}
        for one in read:
            known |= one.known
        held = dict(in_order(self._pool, self._still, known.items(), renew)) if known else {}
        every = [one for part in read for one in part.instances]
        there = {one.row.path: _Placed(one, entry) for one in every if (entry := held.get(_id(one)))}
        new = [one for one in every if one.row.path not in there]
        put = self._archived if self._rules.archive != "none" else self._single
        places, archives = put(batch, new, renew)
        return [self._committed(one, there | places, archives, len(archives) or len(new)) for one in read]

    def _surveyed(self, job: Job, renew: Callable[[], None]) -> _Read:
        instances = in_order(self._pool, partial(survey, self._plan, job.series), job.rows, renew, at_once=_HEADERS)
        uids = (job.series.StudyInstanceUID, job.series.SeriesInstanceUID, job.generation)
        own, (before_key, before) = self._manifests.of(*uids), self._manifests.before(*uids)
        if own or before:
            instances = in_order(self._pool, partial(digested, self._plan), instances, renew)
        if own and job.series.generation > job.generation:  # What came since is the next generation's.
            told = manifest.by_content(own.entries)
            instances = [one for one in instances if _id(one) in told]
        return _Read(job, instances, before_key, before, own)

    def _still(self, item: tuple[_Id, Entry]) -> tuple[_Id, Entry | None]:
        """Return an entry that was verified already, or None if its object is there no more."""
        identity, entry = item
        if entry.offset >= 0:
            return identity, entry if self._target.look(entry.key) else None
        return identity, entry if self._uploader.holds(entry.key, entry.size, entry.sha256) else None

    # -- objects ---------------------------------------------------------------------------------------------------

    def _single(
        self, batch: Batch, new: Sequence[Instance], renew: Callable[[], None]
    ) -> tuple[_Places, list[Archive]]:
        """Put each instance as an object of its own."""
        series = batch.jobs[0].series
        wanted = [self._key(series, one) for one in new]
        if len(set(wanted)) < len(wanted):
            raise Collision(series.SeriesInstanceUID)
        unseen = Unseen(wanted if self._rules.verified == "head" else ())
        put = partial(self._put, looks=batch.is_repeated or batch.generation > 1, later=unseen.later)
        placed = in_order(self._pool, put, zip(new, wanted, strict=True), renew)
        lost = set(chain.from_iterable(in_order(self._pool, self._uploader.lost, unseen.runs(), renew)))
        again = [(one, key) for one, key, at in zip(new, wanted, placed, strict=True) if at.entry.key in lost]
        placed += in_order(self._pool, partial(self._put, looks=True), again, renew)
        return {one.entry.path: one for one in placed}, []

    def _key(self, series: SeriesRow, one: Instance) -> str:
        if self._rules.by_uid:
            uids = (series.StudyInstanceUID, series.SeriesInstanceUID, one.row.SOPInstanceUID)
            return keys.of_uids(*uids, self._target.prefix)
        return keys.of_path(one.row.path, self._target.prefix)

    def _put(
        self, item: tuple[Instance, str], *, looks: bool, later: Callable[[str], Later | None] = lambda _key: None
    ) -> _Placed:
        one, content = content_of(self._plan, *item)
        return _Placed(one, _entry(one, self._uploader.put(content, looks=looks, later=later(content.key))))

    def _archived(
        self, batch: Batch, new: Sequence[Instance], renew: Callable[[], None]
    ) -> tuple[_Places, list[Archive]]:
        """Put the instances into archives."""
        volumes = packing.volumes(new, self._rules.volume)
        name = self._name(batch, new)
        suffix = ".tar.gz" if self._rules.compress else ".tar"
        numbers = range(1, len(volumes) + 1) if len(volumes) > 1 else (0,)
        wanted = [
            (keys.of_archive(batch.study, name, batch.generation, number, suffix), volume)
            for number, volume in zip(numbers, volumes, strict=False)
        ]
        put = partial(self._put_volume, looks=batch.is_repeated)
        made = in_order(self._pool, put, wanted, renew)
        return {one.entry.path: one for placed, _ in made for one in placed}, [archive for _, archive in made]

    def _name(self, batch: Batch, new: Sequence[Instance]) -> str:
        template = self._rules.name
        if not template or not new:
            return batch.uid
        values: Mapping[str, str] = with_ages(min(new, key=lambda one: one.row.path).values)
        return template.render({field: values.get(field, "") or field for field in template.fields})

    def _put_volume(self, item: tuple[str, Volume], *, looks: bool) -> tuple[list[_Placed], Archive]:
        key, volume = item
        instances, content = packing.content_of(self._plan, volume, key, compress=self._rules.compress)
        key = self._uploader.put(content, looks=looks)
        placed = [_Placed(one, _entry(one, key, offset)) for one, offset in zip(instances, volume.offsets, strict=True)]
        return placed, Archive(key, content.size, content.sha256)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _committed(self, read: _Read, places: _Places, archives: Sequence[Archive], objects: int) -> Exported:
        job = read.job
        placed = [places[one.row.path] for one in read.instances]
        entries = tuple(one.entry._replace(path=one.instance.row.path) for one in placed)
        earlier = manifest.by_content(read.before.entries if read.before else ())
        new = [one.instance for one in placed if _id(one.instance) not in earlier]
        uids = (job.series.StudyInstanceUID, job.series.SeriesInstanceUID)
        if read.own and manifest.by_content(read.own.entries) == manifest.by_content(entries):
            return Exported(read.own, keys.of_manifest(*uids, job.generation), new, objects)
        named = {entry.key for entry in entries}
        made = Manifest(
            *uids,
            job.generation,
            job.state,
            entries,
            tuple(one for one in archives if one.key in named),
            supersedes=read.before_key,
            verified=self._rules.verified,
            program=f"dicom-listener {listener.__version__}",
            time=instant(time.time_ns()),
        )
        return Exported(made, self._manifests.commit(made), new, objects)


def _entry(one: Instance, key: str, offset: int = -1) -> Entry:
    return Entry(one.row.SOPInstanceUID, key, one.row.size, one.sha256, one.row.path, offset)


def _id(one: Instance) -> _Id:
    return one.row.SOPInstanceUID, one.sha256, one.row.size

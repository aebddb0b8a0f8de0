"""Frames of instances in an object store, read by ranges: plain objects, and what `listener export` wrote; by obstore
(extra `origins`), which is imported here alone.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import orjson

from listener.dicom.attributes import Limits
from listener.errors import ConfigError
from listener.frames.errors import Deflated, FrameChanged, FramesFault, UnknownInstance
from listener.frames.image import MAX_INFLATED, Image, ImageFile, stored, taken
from listener.frames.origins import Reading
from listener.frames.ranges import Join, RangeSource, joined, look_by_ranges
from listener.frames.reference import InstanceReference

#: Instances and series of which it is kept where they lie, and seconds for which a series is not looked up again.
_MOST, _FRESH = 256, 60.0

#: Bytes of ranges that are asked for at once.
_AT_ONCE = 32 * 1024 * 1024

#: Keys of plain objects, below the store's prefix, that are tried: as DICOMweb has them, and by UIDs.
_PLAIN = (
    "{0}/{1}/{2}.dcm",
    "{0}/{1}/{2}",
    "data/{0}/{1}/{2}.dcm",
    "studies/{0}/series/{1}/instances/{2}",
    "{1}/{2}.dcm",
    "{2}.dcm",
)

#: A manifest's name behind that of its series, in `manifests/STUDY/`; of two of one generation the one that lies beside
#: the other is told by what is behind `~`.
_generation = re.compile(r"-g([0-9]{1,9})\.ndjson(~[0-9]+)?").fullmatch


class StoreFault(FramesFault):
    """The object store does not answer, or refuses."""

    reason = "store"


class Place(NamedTuple):
    """Where an instance lies: key, offset in that object, bytes (0: the whole object), and what changes when the object
    is replaced.
    """

    key: str
    offset: int
    size: int
    stamp: object


class Store:
    """An origin: the object store at `url` (s3://, gs://, az://, file://, http://), as obstore knows it, with the
    environment's credentials.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        """Raise ConfigError where the extra is missing, or the URL is none."""
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            text = "a frame cache with a store needs the extra origins: pip install 'dicom-listener[origins]'"
            raise ConfigError([text]) from None
        self._obstore: Any = obstore
        self._limits = limits
        try:
            self._store: Any = from_url(url)
        except (ValueError, obstore.exceptions.BaseError) as error:
            raise ConfigError([f"a frame cache cannot use this store: {type(error).__name__}"]) from None
        self._lock = Lock()
        self._images: OrderedDict[tuple[InstanceReference, object], Image] = OrderedDict()
        self._series: OrderedDict[tuple[str, str], tuple[float, dict[str, Place]]] = OrderedDict()

    def stamp(self, instance: InstanceReference) -> object:
        """See Origin."""
        with _faults():
            return self._place(instance).stamp

    @contextlib.contextmanager
    def read(self, instance: InstanceReference, numbers: Sequence[int], whole: bool) -> Iterator[Reading]:
        """See Origin."""
        with _faults():
            place = self._place(instance)
            try:
                image = self._image(instance, place, by_table=True)
            except Deflated:
                image = None
        if image is None:
            with self._inflated(place) as opened:
                wanted = range(1, opened.count + 1) if whole else [one for one in numbers if one <= opened.count]
                yield Reading(place.stamp, opened.count, ((number, opened.read(number - 1)) for number in wanted))
            return
        count = image.layout.count
        wanted = range(1, count + 1) if whole and len(numbers) != count else [one for one in numbers if one <= count]
        yield Reading(place.stamp, count, self._frames(instance, place, image, wanted))

    @contextlib.contextmanager
    def _inflated(self, place: Place) -> Iterator[ImageFile]:
        """Fetch an instance of which the data set is deflated as a whole."""
        with tempfile.NamedTemporaryFile(prefix="listener-frames-") as file:
            with _faults():
                for begin in range(0, place.size, _AT_ONCE):
                    file.write(self._range(place, begin, min(_AT_ONCE, place.size - begin)))
            file.flush()
            with ImageFile(file.name, self._limits, cap=MAX_INFLATED) as image:
                yield image

    def _range(self, place: Place, offset: int, length: int) -> bytes:
        return bytes(self._obstore.get_range(self._store, place.key, start=place.offset + offset, length=length))

    def _frames(
        self, instance: InstanceReference, place: Place, image: Image, numbers: Sequence[int]
    ) -> Iterator[tuple[int, bytes]]:
        sent = 0
        try:
            for number, frame in self._read(place, image, numbers):
                yield number, frame
                sent += 1
        except FrameChanged:
            # A table that looked right tells wrong offsets: the heads of all items are looked at.
            with _faults():
                other = self._image(instance, place, by_table=False)
            yield from self._read(place, other, numbers[sent:])

    def _read(self, place: Place, image: Image, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield frames, of which as many are fetched at once as memory allows."""
        batch: list[int] = []
        size = 0
        for number in numbers:
            length = sum(run.length for run in stored(image.layout, number - 1))
            if batch and size + length > _AT_ONCE:
                yield from self._read_batch(place, image, batch)
                batch, size = [], 0
            batch.append(number)
            size += length
        if batch:
            yield from self._read_batch(place, image, batch)

    def _read_batch(self, place: Place, image: Image, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        runs = sorted({run for number in numbers for run in stored(image.layout, number - 1)})
        reads = list(joined(runs))
        with _faults():
            pieces = self._fetched(place, reads)
        found: dict[tuple[int, int], bytes] = {}
        for one, piece in zip(reads, pieces, strict=True):
            for run in one.runs:
                begin = run.offset - one.offset
                found[run.offset, run.length] = piece[begin : begin + run.length]
        for number in numbers:
            yield number, taken(image.layout, number - 1, lambda offset, length: found[offset, length])

    def _fetched(self, place: Place, reads: Sequence[Join]) -> list[bytes]:
        starts = [place.offset + one.offset for one in reads]
        lengths = [one.length for one in reads]
        pieces = self._obstore.get_ranges(self._store, place.key, starts=starts, lengths=lengths, coalesce=0)
        return [bytes(piece) for piece in pieces]

    def close(self) -> None:
        """See Origin. Connections end with the object."""

    # -- where it lies -------------------------------------------------------------------------------------------------

    def _image(self, instance: InstanceReference, place: Place, *, by_table: bool) -> Image:
        key = (instance, place.stamp)
        with self._lock:
            found = self._images.get(key)
            if found and by_table:
                self._images.move_to_end(key)
                return found

        image = look_by_ranges(RangeSource(partial(self._range, place), place.size), self._limits, by_table=by_table)
        with self._lock:
            self._images[key] = image
            if len(self._images) > _MOST:
                self._images.popitem(last=False)
        return image

    def _place(self, instance: InstanceReference) -> Place:
        """Return where an instance lies. Raises UnknownInstance."""
        study, series, uid = instance
        with self._lock:
            known = self._series.get((study, series))
        if known is None or time.monotonic() - known[0] > _FRESH:
            known = time.monotonic(), self._exported(study, series)
            with self._lock:
                self._series[study, series] = known
                if len(self._series) > _MOST:
                    self._series.popitem(last=False)
        place = known[1].get(uid)
        if place:
            if place.key.endswith(".tar.gz"):
                raise StoreFault("it lies in a compressed archive, of which no part can be read")
            return place
        place = self._plain(instance)
        with self._lock:
            known[1][uid] = place
        return place

    def _plain(self, instance: InstanceReference) -> Place:
        for pattern in _PLAIN:
            key = pattern.format(*instance)
            try:
                meta = self._obstore.head(self._store, key)
            except FileNotFoundError:
                continue
            return Place(key, 0, meta["size"], _stamp(meta))
        raise UnknownInstance

    def _exported(self, study: str, series: str) -> dict[str, Place]:
        """Return where the newest manifest of a series says that its instances lie; {} where there is none."""
        names: list[tuple[int, str, str]] = []
        folder = f"manifests/{study}"
        for page in self._obstore.list(self._store, folder):
            for one in page:
                name = one["path"].rpartition("/")[2]
                match = _generation(name.removeprefix(series)) if name.startswith(series) else None
                if match:
                    names.append((int(match[1]), match[2] or "", one["path"]))
        if not names:
            return {}
        data = bytes(self._obstore.get(self._store, max(names)[2]).bytes())
        return dict(_places(data))


def _places(manifest: bytes) -> Iterator[tuple[str, Place]]:
    """Yield UID and place of the instances in a manifest of `listener export`: a JSON object a line, that of the series
    first. Raises FramesFault where it is none.
    """
    try:
        first, *rest = (orjson.loads(line) for line in manifest.splitlines())
        if first["instances"] != len(rest):
            raise FramesFault("a manifest was cut")
        for one in rest:
            yield one["SOPInstanceUID"], Place(one["key"], max(0, one.get("offset", 0)), one["size"], one["sha256"])
    except (ValueError, TypeError, KeyError):
        raise FramesFault("a manifest cannot be read") from None


def _stamp(meta: Any) -> object:
    return meta.get("e_tag") or (str(meta["last_modified"]), meta["size"])


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Raise StoreFaults in place of obstore's errors, which hold addresses."""
    try:
        yield
    except FileNotFoundError:
        raise UnknownInstance from None
    except FramesFault:
        raise
    except Exception as error:
        if type(error).__module__.startswith("obstore"):
            raise StoreFault(type(error).__name__) from None
        raise

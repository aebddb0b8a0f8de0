"""`listener bench --serve`: DICOMweb beside nginx that serves the same frames as files and beside Orthanc, what a first
look costs, and searches among many series.

Programs take turns, round after round, on the loopback; figures are medians of rounds: read the ratios.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import orjson
from pydicom.uid import UID

from listener.benchmark import processes, searching
from listener.benchmark.archives import START, answers, nginx, orthanc, plugin
from listener.benchmark.asking import PATIENCE, median, p99, times, times_of_many
from listener.benchmark.repackers import finish, listener
from listener.benchmark.servers import free_port, running, until
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs
from listener.quickstart.synthetic import Look, make_dataset, make_series, uid

#: Frames of the slide and bytes of one; instances of the series; requests of one measurement, and at once.
FRAMES, TILE, INSTANCES = 100_000, 600, 192
_REQUESTS, _AT_ONCE, _LIST = 400, 16, 100

#: What is asked for: tiles as they are stored, in a multipart message, and native frames.
_JPEG = {"accept": "image/jpeg"}
_TILES = {"accept": 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50'}
_NATIVE = {"accept": 'multipart/related; type="application/octet-stream"'}

#: A hit and a local miss of FrameCache, and the bare read of a frame, in seconds each.
_CACHE = """
import json, sys, time
from listener.frames import FrameCache
from listener.frames.image import ImageFile
data, state, url, path, count = *sys.argv[1:5], int(sys.argv[5])
def timed(call, numbers):
    begin = time.perf_counter()
    for number in numbers: call(number)
    return (time.perf_counter() - begin) / len(numbers)
one = {"number_of_frames_to_read": 1, "max_instance_number_of_frames_to_prefer_whole_instance_download": 1}
with FrameCache(data=data, state=state, **one) as cache, ImageFile(path) as image:
    cache.get_frame(url, count, 1)
    numbers = range(2, 402)
    miss = timed(lambda number: cache.get_frame(url, count, number, "MINIMIZE_LATENCY"), numbers)
    hit = min(timed(lambda number: cache.get_frame(url, count, number), numbers) for _ in range(20))
    read = timed(lambda number: image.read(number - 1), numbers)
print(json.dumps([hit, miss, read]))
"""


class Place(NamedTuple):
    """The collection: its directories, the slide's resource and file, the series' resource and its files; and the
    directories of a ledger of many series.
    """

    run: RunDirs
    slide: str
    file: Path
    series: str
    files: tuple[Path, ...]
    many: RunDirs

    @property
    def instances(self) -> list[str]:
        """The resources of the series' instances."""
        return [f"{self.series}/instances/{file.stem.partition('-')[2]}" for file in self.files]


class Line(NamedTuple):
    """One figure of one round: what it is, its value, and the unit."""

    what: str
    value: float
    unit: str


def run(directory: str, rounds: int, *, as_json: bool) -> int:
    """Print the figures. Return 0, or 1 where something did not answer as it should."""
    processes.adopt()
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=directory or None) as home:
        place = _collection(RunDirs(Path(home, "one")), RunDirs(Path(home, "many")))
        try:
            searching.make(place.many, place.many.base / "index")
            lines = [line for number in range(rounds) for line in _round(place, number)]
        except (Unfinished, OSError, HTTPException) as error:
            print(f"listener: {error}", file=sys.stderr)
            return 1
    figures = {what: _median(lines, what) for what in dict.fromkeys(line.what for line in lines)}
    if as_json:
        sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return 0
    for what, (value, unit) in figures.items():
        print(f"{what:<58} {value:>12,.3f} {unit}")
    for name, there in (("nginx", shutil.which("nginx")), ("Orthanc with its DICOMweb plugin", plugin())):
        if not there:
            print(f"- not on PATH, so not measured: {name}")
    return 0


def _median(lines: Sequence[Line], what: str) -> tuple[float, str]:
    found = [line for line in lines if line.what == what]
    return statistics.median(line.value for line in found), found[0].unit


# -- what is served ----------------------------------------------------------------------------------------------------


def _tile(number: int) -> bytes:
    return b"\xff\xd8\xff\xe0" + number.to_bytes(4, "big") + b"\1" * (TILE - 10) + b"\xff\xd9"


def _collection(place: RunDirs, many: RunDirs) -> Place:
    """Make a slide and a series, and publish them as `listener once` does."""
    place.incoming.mkdir(parents=True)
    make_series(place.incoming, instances=INSTANCES, look=Look(private_bytes=4096))
    slide = make_dataset(look=Look(seed="slide"))
    slide.NumberOfFrames, slide.SOPInstanceUID = FRAMES, UID(uid("slide"))
    slide.file_meta.MediaStorageSOPInstanceUID = slide.SOPInstanceUID
    slide.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    head, item = b"\xfe\xff\x00\xe0", struct.Struct("<L")
    table = b"".join(item.pack(number * (TILE + 8)) for number in range(FRAMES))
    items = b"".join(head + item.pack(TILE) + _tile(number) for number in range(FRAMES))
    slide.PixelData = head + item.pack(len(table)) + table + items
    slide["PixelData"].VR, slide["PixelData"].is_undefined_length = "OB", True
    slide.save_as(place.incoming / f"SM.{slide.SOPInstanceUID}", enforce_file_format=True)
    finish(listener("once", *place.flags(), "--min-free=0"))
    *files, file = sorted(place.data.rglob("*.dcm"), key=lambda path: path.stat().st_size)
    base = place.base / "files"
    base.mkdir()
    for number in range(1, _REQUESTS + 1):
        (base / str(number)).write_bytes(_tile(number - 1))
    study = f"studies/{slide.StudyInstanceUID}/series/{slide.SeriesInstanceUID}"
    series = make_dataset(look=Look(private_bytes=4096))
    return Place(
        place,
        f"{study}/instances/{slide.SOPInstanceUID}",
        file,
        f"studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}",
        tuple(files),
        many,
    )


# -- one round ---------------------------------------------------------------------------------------------------------


def _round(place: Place, number: int) -> Iterator[Line]:
    index = place.run.base / "index"
    shutil.rmtree(index, ignore_errors=True)
    metadata, gzip = f"/dicom-web/{place.series}/metadata", {"accept-encoding": "gzip"}
    with _serving(place.run, index) as (port, _):
        yield Line("first frame of 100,000, not indexed", times(port, [_frame(place, 1)], {})[0] * 1e3, "ms")
        yield Line("metadata of 192 instances, first", times(port, [metadata], gzip)[0] * 1e3, "ms")
        yield Line("metadata of 192 instances, again", median(port, metadata, gzip) * 1e3, "ms")
    with _serving(place.run, index) as (port, pid):
        first = times(port, [_frame(place, 2)], {})[0]
        yield Line("first frame of 100,000 after a restart, indexed", first * 1e3, "ms")
        yield from _frames(place, port, number)
        yield from _beside_orthanc(place, port)
        yield Line("resident memory after all that", _resident(pid) / 1e6, "MB")
    yield from _cache(place)
    with _serving(place.many, place.many.base / "index") as (port, _):
        page = median(port, "/dicom-web/studies?limit=50", {})
        yield Line("search: a page of 50 studies, 100,000 series", page * 1e3, "ms")
        page = median(port, "/dicom-web/studies?limit=50&PatientName=*rosa*", {})
        yield Line("search: a name with * on both sides", page * 1e3, "ms")


def _frames(place: Place, port: int, seed: int) -> Iterator[Line]:
    """Measure single frames by one connection and by many, of serve and nginx in turn, and lists."""
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    numbers = [order.randint(1, FRAMES) for _ in range(_REQUESTS)]
    part = [_frame(place, one) for one in numbers[:50]]
    ours = times(port, [_frame(place, one) for one in numbers], _JPEG, TILE)
    yield Line("frames a second, one connection", len(ours) / sum(ours), "/s")
    yield Line("frames, one connection, p99", p99(ours) * 1e3, "ms")
    many = times_of_many(port, part, _JPEG, TILE, _AT_ONCE)
    yield Line("frames, 16 connections, p99", p99(many) * 1e3, "ms")
    if shutil.which("nginx"):
        with nginx(place.run.base) as other:
            theirs = times(other, [f"/{one}" for one in range(1, _REQUESTS + 1)], {}, TILE)
            many = times_of_many(other, [f"/{one}" for one in range(1, 51)], {}, TILE, _AT_ONCE)
        yield Line("nginx: files a second, one connection", len(theirs) / sum(theirs), "/s")
        yield Line("nginx: files, one connection, p99", p99(theirs) * 1e3, "ms")
        yield Line("nginx: files, 16 connections, p99", p99(many) * 1e3, "ms")
        yield Line("share of nginx's rate", sum(theirs) / sum(ours), "")
    lists = [",".join(str(order.randint(1, FRAMES)) for _ in range(_LIST)) for _ in range(20)]
    listed = times(port, [_frame(place, one) for one in lists], {})
    rate = _LIST * len(listed) / sum(listed)
    yield Line("frames a second, lists of 100", rate, "/s")
    yield Line("lists of 100: times the rate of single ones", rate * sum(ours) / len(ours), "")


def _beside_orthanc(place: Place, port: int) -> Iterator[Line]:
    """Measure single MR frames, and tiles of the slide, of serve and Orthanc in turn, each asked for once before."""
    found = plugin()
    if not found:
        return
    paths = {
        "MR frames": [f"/dicom-web/{one}/frames/1" for one in place.instances],
        "tiles of the slide": [_frame(place, number) for number in (1, 50_000, FRAMES)],
    }
    with orthanc(place.run.base, found, [place.file, *place.files]) as other:
        for what, fields in (("MR frames", _NATIVE), ("tiles of the slide", _TILES)):
            _, theirs = (times_of_many(other.port, paths[what], fields, 0, 1) for _ in range(2))
            _, ours = (times_of_many(port, paths[what], fields, 0, 1) for _ in range(2))
            yield Line(f"Orthanc {other.version}: {what} a second", len(theirs) / sum(theirs), "/s")
            yield Line(f"{what}: times Orthanc's rate", sum(theirs) / sum(ours), "")


def _cache(place: Place) -> Iterator[Line]:
    state = str(place.run.state)
    words = [sys.executable, "-c", _CACHE, str(place.run.data), state, place.slide, str(place.file), str(FRAMES)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=PATIENCE)
    if done.returncode:
        raise Unfinished("FrameCache did not give the frames")
    hit, miss, read = json.loads(done.stdout)
    yield Line("FrameCache: a hit", hit * 1e6, "us")
    yield Line("FrameCache: a local miss, above the read", (miss - read) * 1e6, "us")


# -- serving -----------------------------------------------------------------------------------------------------------


def _frame(place: Place, numbers: object) -> str:
    return f"/dicom-web/{place.slide}/frames/{numbers}"


@contextmanager
def _serving(place: RunDirs, index: Path) -> Iterator[tuple[int, int]]:
    """Run `listener serve`, which makes nothing ahead; yield its port and process id once it answers."""
    port = free_port()
    words = ["serve", f"--data={place.data}", f"--state={place.state}", f"--index={index}"]
    # The address stands in what is indexed: of each start the same.
    more = ["--http=off", "--ahead=off", "--public-url=http://127.0.0.1/dicom-web"]
    command = listener(*words, f"--dicomweb=127.0.0.1:{port}", *more)
    with running(command, place.base / "serve.txt") as process:
        until(lambda: answers(port, "/dicom-web/studies?limit=1"), process, START, "listener serve does not answer")
        yield port, process.pid


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

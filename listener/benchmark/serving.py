"""`listener bench --serve`: DICOMweb beside nginx that serves the same frames as files, and what a first look costs.

Programs take turns, round after round, on the loopback; figures are medians of rounds: read the ratios.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from pydicom.uid import UID

from listener.benchmark import processes
from listener.benchmark.repackers import listener
from listener.benchmark.servers import free_port, until
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs
from listener.quickstart.synthetic import Look, make_dataset, make_series, uid

#: Frames of the slide and bytes of one; instances of the series; requests of one measurement, and at once.
FRAMES, TILE, INSTANCES = 100_000, 600, 192
_REQUESTS, _AT_ONCE, _LIST = 400, 16, 100

#: Seconds until a program answers, and that a request may take.
_START, _PATIENCE = 60.0, 120.0

_NGINX = """
{user}
worker_processes 1; daemon off; pid {base}/nginx.pid; error_log {base}/nginx-error.log;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000; default_type image/jpeg;
  client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3; uwsgi_temp_path {base}/t4;
  scgi_temp_path {base}/t5; server {{ listen 127.0.0.1:{port}; root {base}/files; }} }}
"""

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
    """The collection: its directories, the slide's resource and file, and the series' resource."""

    run: RunDirs
    slide: str
    file: Path
    series: str


class Line(NamedTuple):
    """One figure of one round: what it is, its value, and the unit."""

    what: str
    value: float
    unit: str


def run(directory: str, rounds: int, *, as_json: bool) -> int:
    """Print the figures. Return 0, or 1 where something did not answer as it should."""
    processes.adopt()
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=directory or None) as home:
        place = _collection(RunDirs(Path(home)))
        try:
            lines = [line for number in range(rounds) for line in _round(place, number)]
        except (Unfinished, OSError, http.client.HTTPException) as error:
            print(f"listener: {error}", file=sys.stderr)
            return 1
    figures = {what: _median(lines, what) for what in dict.fromkeys(line.what for line in lines)}
    if as_json:
        sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return 0
    for what, (value, unit) in figures.items():
        print(f"{what:<58} {value:>12,.3f} {unit}")
    if not shutil.which("nginx"):
        print("- not on PATH, so not measured: nginx")
    return 0


def _median(lines: Sequence[Line], what: str) -> tuple[float, str]:
    found = [line for line in lines if line.what == what]
    return statistics.median(line.value for line in found), found[0].unit


# -- what is served ----------------------------------------------------------------------------------------------------


def _tile(number: int) -> bytes:
    return b"\xff\xd8\xff\xe0" + number.to_bytes(4, "big") + b"\1" * (TILE - 10) + b"\xff\xd9"


def _collection(place: RunDirs) -> Place:
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
    words = listener("once", *place.flags(), "--min-free=0")
    if subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        raise Unfinished("listener once did not publish everything")
    file = max((path for path in place.data.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
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
    )


# -- one round ---------------------------------------------------------------------------------------------------------


def _round(place: Place, number: int) -> Iterator[Line]:
    index = place.run.base / "index"
    shutil.rmtree(index, ignore_errors=True)
    with _serving(place, index) as port:
        yield Line("first frame of 100,000, not indexed", _once(port, _frame(place, 1)) * 1e3, "ms")
        yield Line("metadata of 192 instances, first", _once(port, f"{place.series}/metadata") * 1e3, "ms")
        yield Line("metadata of 192 instances, again", _again(port, f"{place.series}/metadata") * 1e3, "ms")
    with _serving(place, index) as port:
        yield Line("first frame of 100,000 after a restart, indexed", _once(port, _frame(place, 2)) * 1e3, "ms")
        yield from _frames(place, port, number)
    yield from _cache(place)


def _frames(place: Place, port: int, seed: int) -> Iterator[Line]:
    """Measure single frames by one connection of serve and nginx in turn, lists, and many connections."""
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    numbers = [order.randint(1, FRAMES) for _ in range(_REQUESTS)]
    ours = _times(port, [_frame(place, one) for one in numbers], {"accept": "image/jpeg"}, TILE)
    yield Line("frames a second, one connection", len(ours) / sum(ours), "/s")
    yield Line("frames, one connection, p99", _p99(ours) * 1e3, "ms")
    if shutil.which("nginx"):
        with _nginx(place) as other:
            theirs = _times(other, [f"/{one}" for one in range(1, _REQUESTS + 1)], {}, TILE)
        yield Line("nginx: files a second, one connection", len(theirs) / sum(theirs), "/s")
        yield Line("nginx: files, one connection, p99", _p99(theirs) * 1e3, "ms")
        yield Line("share of nginx's rate", sum(theirs) / sum(ours), "")
    lists = [",".join(str(order.randint(1, FRAMES)) for _ in range(_LIST)) for _ in range(20)]
    listed = _times(port, [_frame(place, one) for one in lists], {}, 0)
    yield Line("frames a second, lists of 100", _LIST * len(listed) / sum(listed), "/s")
    yield Line(
        "lists of 100: times the rate of single ones", _LIST * len(listed) / sum(listed) * sum(ours) / len(ours), ""
    )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        part = [_frame(place, one) for one in numbers[:50]]
        many = list(pool.map(lambda _: _times(port, part, {"accept": "image/jpeg"}, TILE), range(_AT_ONCE)))
    yield Line("frames, 16 connections, p99", _p99([one for times in many for one in times]) * 1e3, "ms")


def _cache(place: Place) -> Iterator[Line]:
    state = str(place.run.state)
    words = [sys.executable, "-c", _CACHE, str(place.run.data), state, place.slide, str(place.file), str(FRAMES)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=_PATIENCE)
    if done.returncode:
        raise Unfinished("FrameCache did not give the frames")
    hit, miss, read = json.loads(done.stdout)
    yield Line("FrameCache: a hit", hit * 1e6, "us")
    yield Line("FrameCache: a local miss, above the read", (miss - read) * 1e6, "us")


# -- asking ------------------------------------------------------------------------------------------------------------


def _frame(place: Place, numbers: object) -> str:
    return f"{place.slide}/frames/{numbers}"


def _times(port: int, paths: Sequence[str], fields: dict[str, str], size: int) -> list[float]:
    """Return the seconds of each request, by one connection. Raises Unfinished for an answer that is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    times = []
    for path in paths:
        begin = time.perf_counter()
        connection.request("GET", path if path.startswith("/") else f"/dicom-web/{path}", headers=fields)
        answer = connection.getresponse()
        body = answer.read()
        times.append(time.perf_counter() - begin)
        if answer.status != 200 or (size and len(body) != size):
            raise Unfinished(f"{path.rpartition('/')[2]}: status {answer.status}, {len(body)} bytes")
    connection.close()
    return times


def _once(port: int, path: str) -> float:
    return _times(port, [path], {"accept-encoding": "gzip"}, 0)[0]


def _again(port: int, path: str) -> float:
    return statistics.median(_times(port, [path] * 20, {"accept-encoding": "gzip"}, 0))


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.99) - 1]


@contextmanager
def _serving(place: Place, index: Path) -> Iterator[int]:
    """Run `listener serve`, which makes nothing ahead; yield its port once it is ready."""
    port = free_port()
    words = ["serve", f"--data={place.run.data}", f"--state={place.run.state}", f"--index={index}"]
    # The address stands in what is indexed: of each start the same.
    more = ["--http=off", "--ahead=off", "--public-url=http://127.0.0.1/dicom-web"]
    command = listener(*words, f"--dicomweb=127.0.0.1:{port}", *more)
    with _started(command, lambda: _answers(port, "/dicom-web/studies?limit=1")):
        yield port


@contextmanager
def _nginx(place: Place) -> Iterator[int]:
    port, file = free_port(), place.run.base / "nginx.conf"
    # Begun by root its worker would be somebody else, who may not read what is ours.
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    file.write_text(_NGINX.format(base=place.run.base, port=port, user=user), encoding="utf-8")
    with _started(["nginx", "-c", str(file)], lambda: _answers(port, "/1")):
        yield port


@contextmanager
def _started(command: list[str], answers: Callable[[], bool]) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        until(answers, process, _START, f"{Path(command[0]).name} does not answer")
        yield
    finally:
        processes.end(process)


def _answers(port: int, path: str) -> bool:
    try:
        return bool(_times(port, [path], {}, 0))
    except OSError:
        return False

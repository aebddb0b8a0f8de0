"""`listener export` into a real S3 server (versitygw), beside rclone, the aws command line and obstore alone: bytes a
second, processor time, memory. Obstore alone also brings archives there that were made before it began: what makes them
while it writes cannot be faster. Programs take turns; each writes below a prefix of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf
from pathlib import Path

from listener.benchmark import servers
from listener.benchmark.corpus import Corpus
from listener.benchmark.figures import Sample
from listener.benchmark.repackers import listener
from listener.benchmark.stage_runs import Ready, Span, measured, publish
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs, WorkDir, settle
from listener.quickstart.processes import accepts

#: What is asked of every program: objects in flight at once.
_AT_ONCE = 10

_BUCKET = "bucket"

#: The program that brings archives there that were made before it began.
OF_ARCHIVES = "obstore alone, archives made before"

_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "of no use elsewhere", "AWS_REGION": "us-east-1"}

#: Ways of `listener export` that are measured, with their options.
WAYS = {
    "export --verify head": ["--verify=head"],
    "export --verify read": ["--verify=read"],
    "export --archive series --verify head": ["--archive=series", "--verify=head"],
    "export --archive series --verify read": ["--archive=series", "--verify=read"],
}

#: What a loop over obstore costs that checks, lists and remembers nothing. It says when it begins: as for the exporter
#: its start is not measured.
_ALONE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import obstore
from obstore.store import S3Store
endpoint, bucket, prefix, data, threads = *sys.argv[1:5], int(sys.argv[5])
client = {"timeout": "300s", "allow_http": True}
store = S3Store(bucket, endpoint=endpoint, prefix=prefix, checksum_algorithm="SHA256", client_options=client)
def put(path):
    small = path.stat().st_size <= 8 * 2**20
    body = path.read_bytes() if small else path
    more = {"mode": "create"} if small else {"chunk_size": 8 * 2**20, "max_concurrency": 2}
    obstore.put(store, str(path.relative_to(data)), body, use_multipart=not small, **more)
with ThreadPoolExecutor(threads) as pool:
    files = [path for path in Path(data).rglob("*") if path.is_file()]
    print('"started"', flush=True)
    list(pool.map(put, files))
"""


def can_export() -> bool:
    """Return whether what is measured is there: versitygw on PATH and the extra export."""
    return shutil.which("versitygw") is not None and find_spec("obstore") is not None


class Exporting:
    """Measures programs that bring one collection into a bucket."""

    def __init__(self, workdir: WorkDir, corpus: Corpus) -> None:
        self._workdir, self._corpus = workdir, corpus
        self._ready: Ready | None = None

    def programs(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """Yield each program with what measures one run of it; the first is what the others are compared with."""
        yield "obstore alone", lambda: self._run("obstore alone", self._alone)
        for name, flags in WAYS.items():
            yield name, lambda name=name, flags=flags: self._run(name, self._export, flags)  # type: ignore[misc]
        yield OF_ARCHIVES, lambda: self._run(OF_ARCHIVES, self._alone_with_archives)
        if shutil.which("rclone"):
            yield "rclone copy", lambda: self._run("rclone copy", self._rclone)
        if shutil.which("aws"):
            yield "aws s3 cp", lambda: self._run("aws s3 cp", self._aws)

    # -- what is exported --------------------------------------------------------------------------------------------

    def _collection(self) -> Ready:
        """Publish the corpus, which waits for an export that was begun before it came."""
        if not self._ready:
            self._ready = _published(self._workdir.home, self._corpus)
        return self._ready

    # -- one run -----------------------------------------------------------------------------------------------------

    def _run(
        self, name: str, program: Callable[..., tuple[list[str], bytes, bytes]], flags: list[str] | None = None
    ) -> Sample:
        ready = self._collection()
        with self._workdir.place() as place, _store(place) as endpoint:
            shutil.copytree(ready.place.state, place.state)
            settle(place, ready.size)
            command, begins, ends = program(place, ready, endpoint, flags or [])
            took = measured(command, place.base / "said", Span(begins, ends, last=ready.series), _environment())
            stored = list(_stored(place))
            least = ready.series if "archive" in name else ready.files
            if len(stored) < least or sum(stored) < ready.size:
                raise Unfinished(f"{name}: {len(stored)} objects of {sum(stored)} bytes came of {ready.size} bytes")
            return Sample(name, ready.files, ready.size, took.cpu / ready.files, took.wall, *took.rest)

    def _alone(self, _: RunDirs, ready: Ready, endpoint: str, __: list[str]) -> tuple[list[str], bytes, bytes]:
        return _alone(endpoint, ready.place.data)

    def _alone_with_archives(
        self, place: RunDirs, ready: Ready, endpoint: str, _: list[str]
    ) -> tuple[list[str], bytes, bytes]:
        archives = place.base / "archives"
        archives.mkdir()
        for number, folder in enumerate({path.parent for path in ready.place.data.rglob("*.dcm")}):
            with tarfile.open(archives / f"{number}.tar", "w") as archive:
                archive.add(folder, folder.name)
        settle(place)
        return _alone(endpoint, archives)

    def _export(self, place: RunDirs, ready: Ready, endpoint: str, flags: list[str]) -> tuple[list[str], bytes, bytes]:
        return _command(place.state, ready.place.data, endpoint, *flags), b'"started"', b'"exported"'

    def _rclone(self, _: RunDirs, ready: Ready, endpoint: str, __: list[str]) -> tuple[list[str], bytes, bytes]:
        given = {"type": "s3", "provider": "Other", "endpoint": endpoint, "env_auth": "true", "region": "us-east-1"}
        flags = [f"--s3-{name.replace('_', '-')}={value}" for name, value in given.items() if name != "type"]
        words = ["rclone", "copy", f"--config={os.devnull}", f"--transfers={_AT_ONCE}", *flags]
        return [*words, str(ready.place.data), f":s3:{_BUCKET}/data"], b"", b""

    def _aws(self, _: RunDirs, ready: Ready, endpoint: str, __: list[str]) -> tuple[list[str], bytes, bytes]:
        words = ["aws", "--endpoint-url", endpoint, "s3", "cp", "--recursive", "--only-show-errors"]
        return [*words, str(ready.place.data), f"s3://{_BUCKET}/data"], b"", b""


@contextmanager
def under_way(home: Path, corpus: Corpus) -> Iterator[Callable[[], float]]:
    """Run the exporter over a corpus, below `home`; yield, once it has begun, what tells when it had done all of it, in
    seconds since the epoch: infinity while it has not.
    """
    ready = _published(home, corpus)
    place = ready.place
    with _store(place) as endpoint:
        command, told = _command(place.state, place.data, endpoint), place.base / "export.ndjson"
        with servers.running(command, told, _KEYS) as process:
            servers.until(lambda: b'"started"' in told.read_bytes(), process, 30.0, "the exporter does not start")
            yield lambda: end_of(told, ready.series)


def end_of(told: Path, series: int) -> float:
    """Return when the last of so many series was exported, in seconds since the epoch; infinity while one was not."""
    ends = servers.times(told, "exported")
    return max(ends) if len(ends) >= series else inf


def _published(home: Path, corpus: Corpus) -> Ready:
    nowhere = home / "nowhere"
    nowhere.mkdir()
    return publish(RunDirs(home / "exported"), corpus, ["export", "once", f"--to={nowhere}", "--no-parquet"])


def _command(state: Path, data: Path, endpoint: str, *flags: str) -> list[str]:
    where = [f"--state={state}", f"--data={data}", f"--to=s3://{_BUCKET}/data", f"--endpoint={endpoint}"]
    return listener("export", *where, "--allow-identified", "--http=off", f"--uploads={_AT_ONCE}", *flags)


def _alone(endpoint: str, folder: Path) -> tuple[list[str], bytes, bytes]:
    """Return the loop over obstore that brings a folder into the bucket; see _run."""
    words = [sys.executable, "-c", _ALONE, endpoint, _BUCKET, "data", str(folder), str(_AT_ONCE)]
    return words, b'"started"', b""


@contextmanager
def _store(place: RunDirs) -> Iterator[str]:
    """Run versitygw over an empty bucket; yield its address."""
    port = servers.free_port()
    (place.base / "store" / _BUCKET).mkdir(parents=True)
    command = ["versitygw", "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(place.base / "store")]
    keys = {"ROOT_ACCESS_KEY": _KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": _KEYS["AWS_SECRET_ACCESS_KEY"]}
    with servers.running(command, place.base / "store.txt", keys) as process:
        servers.until(lambda: accepts("127.0.0.1", port), process, 30.0, "versitygw does not answer")
        yield f"http://127.0.0.1:{port}"


def _stored(place: RunDirs) -> Iterator[int]:
    """Yield the sizes of the instances and archives in the bucket."""
    top = place.base / "store" / _BUCKET
    for path in top.rglob("*"):
        below = path.relative_to(top).parts
        if path.is_file() and below[0] == "data" and "manifests" not in below and "parquet" not in below:
            yield path.stat().st_size


def _environment() -> dict[str, str]:
    # Old rclones stumble over a bundle of certificates.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, **_KEYS}

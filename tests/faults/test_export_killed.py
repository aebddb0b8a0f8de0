"""listener export, killed: at each system call that changes anything, and at any moment beside a real server.

Afterwards each instance is there under one key, each generation has one manifest, no row of the table is there twice,
and no delivery is lost.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from listener.export import keys, manifest
from listener.export.target import whole
from listener.ledger.reader import reading
from tests.export.collection import Collection, grown
from tests.export.proxy import Asked, Deed, front
from tests.export.stores import Store, directory, versitygw
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]

#: Calls that change files, a directory's names, or the databases.
CALLS = ("renameat2", "mkdir", "openat", "write", "pwrite64", "fdatasync", "fsync", "unlink", "ftruncate")

#: How often a call is met in one thread at most; beyond, a run ends by itself.
MOST = 14


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of two complete series that is to be exported."""
    base = tmp_path_factory.mktemp("prepared")
    with closing(Collection(base)) as one:
        assert one.export("once") == 0
        for series in (0, 1):
            one.add(series, 1, 2, 3)
        one.end()
    return base


def command(base: Path, store: Store, *words: str) -> list[str]:
    flags = [f"--state={base}/state", f"--data={base}/data", *store.flags(), "--keys", "uid"]
    return [sys.executable, "-m", "listener", "export", *words, *flags]


def run(base: Path, store: Store, *words: str) -> int:
    environment = {**os.environ, **store.environment}
    done = subprocess.run(command(base, store, *words), env=environment, capture_output=True, check=False, timeout=120)
    print(done.stdout.decode(), done.stderr.decode())
    return done.returncode


def check(base: Path, store: Store, series: int = 2) -> None:
    """All is there once."""
    with reading(str(base / "state")) as reader:
        consumer = next(row for row in reader.consumers() if row.name == "export")
    assert (consumer.delivered, consumer.pending, consumer.failed) == (series, 0, 0)
    patch = pytest.MonkeyPatch()
    for name, value in store.environment.items():
        patch.setenv(name, value)
    with closing(store.target()) as target:
        listed = [key for key, _ in target.listed(keys.DATA)]
        told = [manifest.parsed(whole(target.read(key))) for key, _ in target.listed(keys.MANIFESTS)]
        parts = {key: whole(target.read(key)) for key, _ in target.listed(keys.TABLES)}
    patch.undo()
    entries = [entry for one in told for entry in one.entries]
    assert len(told) == series, "one manifest a generation"
    assert sorted(listed) == sorted(entry.key for entry in entries)
    assert not [key for key in listed if "~" in key]
    rows = Counter(uid for data in parts.values() for uid in _uids(data))
    assert rows == Counter(entry.SOPInstanceUID for entry in entries)
    assert run(base, store, "audit", "--deep") == 0


def _uids(data: bytes) -> list[str]:
    import io

    from arro3.io import read_parquet

    return [str(one) for one in read_parquet(io.BytesIO(data)).read_all()["SOPInstanceUID"].to_pylist()]


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_each_call_that_changes_anything(call: str, prepared: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (.ci/need strace)")
    killed = 0
    for when in range(1, MOST + 1):
        base = tmp_path / str(when)
        shutil.copytree(prepared, base, ignore=shutil.ignore_patterns("target"))
        with directory(base) as store:
            where = [f"-P{store.folder}", f"-P{base}/state"] if call == "openat" else []
            inject = f"inject={call}:signal=SIGKILL:when={when}"
            trace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject, *where]
            ended = subprocess.run(
                [*trace, *command(base, store, "once")], capture_output=True, check=False, timeout=120
            )
            killed += ended.returncode != 0
            assert run(base, store, "once") == 0
            check(base, store)
        shutil.rmtree(base)
        if ended.returncode == 0:
            break
    assert killed, "the call is met at all"


def test_killed_in_the_middle_of_an_upload_in_parts(tmp_path: Path) -> None:
    """Its second part is held up before the store until the exporter is dead."""
    with closing(Collection(tmp_path)) as world:
        assert world.export("once") == 0
        (path,) = world.write(0, 1)
        grown(path, 17 * 2**20)
        world.came(0, 1)
        world.end()
    is_there, may_go = Event(), Event()

    def script(asked: Asked) -> Deed:
        if "partNumber=2" not in asked.path:
            return None
        is_there.set()
        may_go.wait(300)
        return "reset"

    with versitygw(tmp_path) as store, front(store.endpoint) as between:
        between.script = script
        words = command(tmp_path, store._replace(endpoint=between.endpoint), "once", "--part", "5MiB")
        process = subprocess.Popen(words, env={**os.environ, **store.environment}, stdout=subprocess.DEVNULL)
        try:
            until(is_there.is_set, 120)
        finally:
            process.kill()
            process.wait()
            may_go.set()
        assert not list(store.folder.rglob("*.dcm")), "what has some of its parts is not there"
        assert run(tmp_path, store, "once", "--part", "5MiB") == 0
        check(tmp_path, store, 1)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 10))])
def test_killed_at_any_moment_beside_a_server(seed: int, prepared: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    base = tmp_path / "base"
    shutil.copytree(prepared, base, ignore=shutil.ignore_patterns("target"))
    with versitygw(tmp_path) as store:
        for _ in range(20):
            process = subprocess.Popen(
                command(base, store, "--http", "off", "--rate", "8kB"),
                env={**os.environ, **store.environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0.4, 1.6))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert run(base, store, "once") == 0
        check(base, store)

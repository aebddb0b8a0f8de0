"""What goes away while an export runs and comes back (names, credentials, the bucket, space), and what a store does to
bytes. Nothing is settled that is not there, and all of it is there once when the outage is over.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import orjson
import pytest

from listener import cli
from tests.export import clock
from tests.export.collection import Collection
from tests.export.proxy import Answer, Asked, Deed, front
from tests.export.stores import BUCKET, Store, versitygw
from tests.faults.volumes import fill
from tests.waiting import until
from tests.workbench import tmpfs

pytestmark = [pytest.mark.real, pytest.mark.faults]


class World(Collection):
    """A collection with one series of three instances, and a store."""

    store: Store

    def run(self, *words: str, endpoint: str = "") -> int:
        flags = ["--endpoint", endpoint or self.store.endpoint, "--keys", "uid", "--no-parquet"]
        return self.export(*(words or ("once",)), *flags, to=self.store.to)

    def words(self) -> list[str]:
        """What a process of its own is told."""
        directories = [f"--state={self.config.state}", f"--data={self.config.data}"]
        return [*directories, *self.store.flags(), "--keys=uid", "--no-parquet"]

    def found(self) -> list[str]:
        files = [path for path in self.store.folder.rglob("*") if path.is_file()]
        names = (str(path.relative_to(self.store.folder)) for path in files)
        return sorted(name for name in names if not name.startswith(".listener"))

    def all_is_there_once(self, objects: int = 4) -> None:
        assert len(self.found()) == objects
        assert not [key for key in self.found() if "~" in key]
        assert self.run("audit", "--deep") == 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with closing(World(tmp_path)) as one, versitygw(tmp_path) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        one.store = store
        assert one.run() == 0
        one.add(0, 1, 2, 3)
        one.end()
        yield one


@contextlib.contextmanager
def serving(world: World) -> Iterator[Callable[[], dict[str, object]]]:
    """`listener export` as a service; yields what asks its /readyz for the target."""
    command = [sys.executable, "-m", "listener", "export", *world.words(), "--http=127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        started = orjson.loads(process.stdout.readline())

        def ready() -> dict[str, object]:
            try:
                with urlopen(f"http://{started['http']}/readyz", timeout=120) as answer:
                    told = orjson.loads(answer.read())
            except HTTPError as error:
                told = orjson.loads(error.read())
            return dict(told["checks"]["target"])

        yield ready
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_a_name_that_is_gone_is_waited_for(world: World) -> None:
    assert world.run(endpoint="http://absent.invalid:9000") == 1
    assert (world.consumer().pending, world.consumer().failed) == (1, 0)
    assert world.run() == 0
    world.all_is_there_once()


def test_credentials_that_were_revoked_are_told_and_with_new_ones_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "revoked")
    assert world.run() == 2
    assert "the store refuses: see the bucket's policy and the credentials" in capsys.readouterr().err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", right)
    assert world.run() == 0
    world.all_is_there_once()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_off_by_an_hour_is_told_and_set_right_it_goes_on(
    world: World, tmp_path: Path, hours: int
) -> None:
    environment = {**os.environ, **clock.environment(tmp_path, 3600 * hours)}
    command = [sys.executable, "-m", "listener", "export", "once", *world.words()]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
    assert done.returncode == 1
    assert b"the store answers 403 RequestTimeTooSkewed" in done.stderr
    assert (world.consumer().pending, world.consumer().failed) == (1, 0)
    assert world.found() == []
    assert world.run() == 0
    world.all_is_there_once()


def test_a_bucket_that_is_gone_and_made_again_while_it_runs(world: World) -> None:
    bucket = world.store.folder.parents[1]
    assert bucket.name == BUCKET
    with serving(world) as target:
        until(lambda: world.consumer().delivered == 1, 60)
        shutil.rmtree(bucket)
        world.add(1, 1)
        world.end()
        until(lambda: "there is no such bucket: make it" in str(target()), 60)
        assert (world.consumer().pending, world.consumer().failed) == (1, 0)
        bucket.mkdir()
        until(lambda: world.consumer().delivered == 2, 90)
        until(lambda: "is exported" in str(target()), 20)
    assert len([key for key in world.found() if world.uid(1) in key]) == 2


def test_a_store_without_space_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    with tmpfs(small, "4m"), versitygw(small) as store, closing(World(tmp_path)) as world:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        world.store = store
        assert world.run() == 0
        world.add(0, 1, 2, 3)
        world.end()
        fill(small)
        assert world.run() == 1
        assert (world.consumer().pending, world.consumer().failed) == (1, 0)
        (small / ".ballast").unlink()
        assert world.run() == 0
        world.all_is_there_once()


def test_a_body_that_the_store_cuts_and_says_200_of_is_not_settled(world: World) -> None:
    bucket = world.store.folder.parents[1]
    put: list[str] = []

    def script(asked: Asked) -> Deed:
        def shortened(answer: Answer) -> Answer:
            path = bucket.parent / asked.path.lstrip("/")
            path.write_bytes(path.read_bytes()[:-1])
            return answer

        if asked.method != "PUT" or "/data/" not in asked.path:
            return None
        put.append(asked.path)
        return shortened if asked.path is put[0] else None

    for mode in ("read", "head"):
        put.clear()
        with front(world.store.endpoint) as between:
            between.script = script
            assert world.run("once", "--verify", mode, endpoint=between.endpoint) == 0
        (conflict,) = [key for key in world.found() if "~" in key]
        told = world.run("audit", "--deep")
        assert told == 1, "the one that was cut stays, and no manifest tells of it"
        (world.store.folder / conflict.partition("~")[0]).unlink()
        assert world.run("audit", "--deep") == 0
        shutil.rmtree(world.store.folder)
        world.again()


def test_a_slow_network_is_only_slow(world: World) -> None:
    with front(world.store.endpoint) as between:
        between.bytes_per_second = 10_000
        assert world.run(endpoint=between.endpoint) == 0
    world.all_is_there_once()


def test_two_exporters_on_one_prefix_leave_each_instance_once(world: World, tmp_path: Path) -> None:
    """Of two collections that have the same series: both at once, each object is made by one of them."""
    with closing(World(tmp_path / "other")) as other:
        other.store = world.store
        assert other.run() == 0
        for one in (world, other):
            one.add(1, *range(1, 30))
            one.end()
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "listener", "export", "once", *one.words()],
                stdout=subprocess.DEVNULL,
            )
            for one in (world, other)
        ]
        assert [process.wait(120) for process in running] == [0, 0]
        assert (world.consumer().delivered, other.consumer().delivered) == (2, 1)
    world.all_is_there_once(4 + 30)


def test_nothing_is_pruned_that_the_store_did_not_keep(world: World) -> None:
    def keeps_nothing(asked: Asked) -> Deed:
        is_ours = asked.method == "PUT" and "condition" not in asked.path
        return Answer(200, [("ETag", '"00"')], b"") if is_ours else None

    config = world.config
    Path(config.log, f"studyData/{world.study()}-series").mkdir(parents=True)  # No worker wrote it here.
    prune = ["prune", "--series=0", "--yes", f"--state={config.state}", f"--data={config.data}", f"--log={config.log}"]
    with front(world.store.endpoint) as between:
        between.script = keeps_nothing
        assert world.run(endpoint=between.endpoint) == 1
    until(lambda: time.time_ns() > world.wall, 30)  # The end of the series lies in the past.
    assert cli.main(prune) == 0
    assert len(list(Path(world.config.data).rglob("*.dcm"))) == 3, "it waits for the export"
    assert world.run() == 0
    assert cli.main(prune) == 0
    assert list(Path(world.config.data).rglob("*.dcm")) == []
    world.all_is_there_once()

"""What a store or the network does wrong, by a front between the exporter and a real store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listener.export import upload
from tests.export.collection import Collection, grown
from tests.export.proxy import Answer, Asked, Deed, Front, Script, front
from tests.export.stores import Store, versitygw_of_the_environment

pytestmark = [pytest.mark.real, pytest.mark.faults]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with versitygw_of_the_environment(tmp_path_factory.mktemp("store")) as one:
        yield one


class World(Collection):
    """A collection with one series of three instances, exported through a front."""

    front: Front
    store: Store

    def run(self, *words: str) -> int:
        flags = ["--endpoint", self.front.endpoint, "--keys", "uid", "--no-parquet"]
        return self.export(*(words or ("once",)), *flags, to=self.store.to)

    def found(self) -> list[str]:
        files = [path for path in self.store.folder.rglob("*") if path.is_file()]
        names = (str(path.relative_to(self.store.folder)) for path in files)
        return sorted(name for name in names if not name.startswith(".listener"))


@pytest.fixture
def world(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(upload, "pause", lambda _attempt: 0.01)
    shutil.rmtree(store.folder, ignore_errors=True)
    with closing(World(tmp_path)) as one, front(store.endpoint) as between:
        one.front, one.store = between, store
        assert one.run() == 0
        one.add(0, 1, 2, 3)
        one.end()
        between.asked.clear()
        yield one


def once(method: str, deed: Deed) -> Script:
    """The first request of this method for an instance."""

    def script(asked: Asked) -> Deed:
        return deed if (asked.method, asked.number) == (method, 0) else None

    return script


def flipped(answer: Answer) -> Answer:
    return answer._replace(body=bytes([answer.body[0] ^ 1]) + answer.body[1:])


BUSY = Answer(503, [("Retry-After", "0")], b"<Error><Code>SlowDown</Code></Error>")
BROKEN = Answer(500, [], b"<Error><Code>InternalError</Code></Error>")

#: What happens once, and goes by without a trace.
PASSING = {
    "500": once("PUT", BROKEN),
    "503": once("PUT", BUSY),
    "reset before the store sees it": once("PUT", "reset"),
    "reset after the store has it": once("PUT", "lost"),
    "hangs, and breaks off": once("PUT", "hang:0.5"),
    "reading back breaks off": once("GET", "reset"),
    "a byte is flipped on its way back": once("GET", flipped),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_leaves_each_object_once(world: World, case: str) -> None:
    world.front.script = PASSING[case]
    status = world.run()
    world.front.script = lambda _asked: None
    if status:  # It waits, and is tried again.
        assert world.consumer().pending == 1
        assert world.run() == 0
    assert len(world.found()) == 4
    assert not [key for key in world.found() if "~" in key]
    assert world.run("audit", "--deep") == 0


def every(method: str, deed: Deed) -> Script:
    return lambda asked: deed if asked.method == method else None


LASTING: dict[str, tuple[Script, str]] = {
    "500": (every("PUT", BROKEN), "the store answers 500"),
    "403": (every("PUT", Answer(403, [], b"<Error><Code>AccessDenied</Code></Error>")), "the store refuses"),
    "a clock that is off": (
        every("PUT", Answer(403, [], b"<Error><Code>RequestTimeTooSkewed</Code></Error>")),
        "the store answers 403 RequestTimeTooSkewed",
    ),
    "expired credentials": (
        every("PUT", Answer(400, [], b"<Error><Code>ExpiredToken</Code></Error>")),
        "the store answers 400 ExpiredToken",
    ),
    "a request that came too late": (
        every("PUT", Answer(403, [], b"<Error><Code>RequestExpired</Code></Error>")),
        "the store answers 403 RequestExpired",
    ),
    "no bucket": (every("PUT", Answer(404, [], b"<Error><Code>NoSuchBucket</Code></Error>")), "no such bucket"),
    "keeps nothing": (every("PUT", Answer(200, [("ETag", '"00"')], b"")), "does not have what was written"),
}


@pytest.mark.parametrize("case", LASTING)
def test_what_lasts_is_told_and_nothing_is_settled(world: World, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, text = LASTING[case]

    def after_the_probe(asked: Asked) -> Deed:
        return None if "condition" in asked.path else script(asked)

    world.front.script = after_the_probe
    assert world.run() == 1
    consumer = world.consumer()
    assert (consumer.pending, consumer.failed, consumer.delivered) == (1, 0, 0)
    assert text in consumer.error
    world.front.script = lambda _asked: None
    assert world.run() == 0, "when it is mended it goes on by itself"
    assert len(world.found()) == 4


def test_an_upload_in_parts_whose_end_is_told_twice_is_there_once(world: World) -> None:
    """The store made the object, and its answer is lost: told again, it knows of no such upload."""
    (path,) = world.write(1, 1)
    grown(path, 12 * 2**20)
    world.came(1, 1)
    world.end()
    ends: list[str] = []

    def script(asked: Asked) -> Deed:
        if asked.method != "POST" or "uploadId=" not in asked.path:
            return None
        ends.append(asked.path)
        return "lost" if len(ends) == 1 else Answer(404, [], b"<Error><Code>NoSuchUpload</Code></Error>")

    world.front.script = script
    assert world.run("once", "--part", "5MiB") == 0
    assert len(ends) == 2
    assert ends[0] == ends[1]
    assert (world.consumer().delivered, len(world.found())) == (2, 6)
    assert world.run("audit", "--deep") == 0


def test_a_byte_that_is_flipped_in_the_store_is_found_by_reading(world: World) -> None:
    seen: list[str] = []

    def script(asked: Asked) -> Deed:
        is_first = asked.method == "GET" and "/data/" in asked.path and (not seen or asked.path in seen)
        if is_first:
            seen.append(asked.path)
            return flipped
        return None

    world.front.script = script
    assert world.run() == 0
    (other,) = [key for key in world.found() if "~" in key]
    assert len(world.found()) == 5, "the one that was altered stays, and no manifest tells of it"
    world.front.script = lambda _asked: None
    assert world.run("audit", "--deep") == 1
    assert other in world.found()


def test_an_object_that_rots_is_found_by_a_deep_audit(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    assert world.run() == 0
    (rotten, *_) = [path for path in world.store.folder.rglob("*.dcm") if path.is_file()]
    data = rotten.read_bytes()
    rotten.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert world.run("audit") == 0
    assert world.run("audit", "--deep") == 1
    assert '"finding":"altered"' in capfd.readouterr().out


def test_two_requests_for_a_small_object_and_no_more(world: World) -> None:
    assert world.run() == 0
    of_instances = [asked.method for asked in world.front.asked if asked.path.endswith(".dcm")]
    assert sorted(of_instances) == ["GET"] * 3 + ["PUT"] * 3

"""One table of scenarios over every kind of target."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listener.export.faults import NotThere, TargetFault, TargetRefuses
from listener.export.objects import part_of
from listener.export.target import Content, Target, whole
from tests.export.collection import Collection
from tests.export.memory import content
from tests.export.stores import KINDS, MAKERS, Store, free_port, versitygw

MiB = 2**20


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server for all tests of this module; each test writes below keys of its own."""
    patch = pytest.MonkeyPatch()
    with MAKERS[request.param](tmp_path_factory.mktemp(request.param)) as one:
        for name, value in one.environment.items():
            patch.setenv(name, value)
        yield one
    patch.undo()


@pytest.fixture
def target(store: Store) -> Iterator[Target]:
    with closing(store.target()) as one:
        yield one


def pace(_size: int) -> None:
    """As fast as it goes."""


def large(key: str, parts: int, *, breaks: bool = False) -> Content:
    """An object of so many MiB, each of another byte."""
    pieces = [bytes([number]) * MiB for number in range(parts)]

    def chunks() -> Iterator[bytes]:
        yield from pieces[:-1]
        if breaks:
            raise ZeroDivisionError
        yield pieces[-1]

    return Content(key, parts * MiB, hashlib.sha256(b"".join(pieces)).hexdigest(), chunks)


@pytest.mark.real
def test_an_object_is_created_once_with_its_digest(target: Target) -> None:
    target.probe()
    assert target.is_conditional
    one = content("data/once/a=20b.dcm", b"the content")
    assert target.look(one.key) is None
    assert target.create(one, pace)
    assert not target.create(one._replace(chunks=lambda: iter([b"another one"])), pace)
    found = target.look(one.key)
    assert found
    assert (found.size, found.sha256) in ((11, one.sha256), (11, ""))
    assert whole(target.read(one.key)) == b"the content"
    assert list(target.listed("data/once")) == [(one.key, 11)]
    assert list(target.listed("data/on")) == []
    with pytest.raises(NotThere):
        whole(target.read("data/absent"))


@pytest.mark.real
def test_many_objects_are_seen_at_once(target: Target) -> None:
    """Among others of their folder, and beside folders whose names begin alike."""
    every = [content(f"data/many/{number:03d}.dcm", b"x" * (number + 1)) for number in range(40)]
    told = {one.key: target.create(one, pace) for one in every}
    for other in ("data/many/0", "data/many/010.dcm~1", "data/many-0/010.dcm", "data/many/010/x.dcm"):
        assert target.create(content(other, b"another"), pace)
    keys = [one.key for one in every[10:30]]
    seen = target.look_at([*keys, "data/many/absent"])
    assert sorted(seen) == keys
    for key in keys:
        expected, found = told[key], target.look(key)
        assert expected
        assert found
        assert (seen[key].size, seen[key].tag) == (expected.size, expected.tag) == (found.size, found.tag)


@pytest.mark.real
def test_a_large_object_goes_in_parts_and_one_that_broke_off_is_not_there(target: Target) -> None:
    with pytest.raises(ZeroDivisionError):
        target.create(large("data/large/broken", 12, breaks=True), pace)
    assert target.look("data/large/broken") is None
    one = large("data/large/whole", 12)
    assert target.create(one, pace)
    assert not target.create(one, pace)
    assert hashlib.sha256(whole(target.read(one.key))).hexdigest() == one.sha256


@pytest.mark.real
def test_series_go_there_and_back(store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    world = Collection(tmp_path)
    with closing(world):
        flags = [*store.flags()[2:], "--keys", "uid"]
        assert world.export("once", *flags, to=store.to) == 0
        world.add(5, 1, 2)
        world.end()
        assert world.export("once", *flags, to=store.to) == 0
        world.add(5, 3)
        world.end()
        assert world.export("once", *flags, "--verify", "head", to=store.to) == 0
        assert world.consumer().delivered == 2
        with closing(store.target()) as target:
            listed = [key for key, _ in target.listed("data") if world.uid(5) in key]
            told = [key for key, _ in target.listed("manifests") if world.uid(5) in key]
        assert (len(listed), len(told)) == (3, 2)
        assert world.export("check", *flags, to=store.to) == 0
    assert "test secret" not in "".join(capfd.readouterr())


REFUSED = {
    "no bucket": ("s3://absent/x", {}, TargetRefuses, "no such bucket"),
    "wrong key": ("s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, TargetRefuses, "refuses"),
    "unknown user": ("s3://bucket/x", {"AWS_ACCESS_KEY_ID": "nobody"}, TargetRefuses, "refuses"),
}


@pytest.mark.real
@pytest.mark.parametrize("case", REFUSED)
def test_what_a_store_refuses_is_told_with_its_remedy(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, environment, kind, text = REFUSED[case]
    with versitygw(tmp_path) as store:
        for name, value in {**store.environment, **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(kind, match=text) as caught:
            store._replace(to=to).target().probe()
        assert "secret" not in str(caught.value)


def test_a_store_that_cannot_be_reached_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    store = Store("s3://bucket", f"http://127.0.0.1:{free_port()}", {}, tmp_path)
    with pytest.raises(TargetFault, match="cannot be reached") as caught:
        store.target().probe()
    assert not isinstance(caught.value, TargetRefuses)


def test_an_object_has_no_more_parts_than_stores_take() -> None:
    for size in (9 * MiB, 80_000 * MiB, 80_000 * MiB + 1, 5 * MiB * MiB):
        part = part_of(size, 8 * MiB)
        assert part >= 8 * MiB
        assert -(-size // part) <= 10_000
    assert part_of(80_000 * MiB, 8 * MiB) == 8 * MiB

"""Files that change while an export reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listener.dicom.reader import Wanted
from listener.export import instances
from listener.export.faults import Changed
from listener.export.instances import ALWAYS, Instance, Survey, content_of, pieces, survey
from listener.ledger.reader import reading
from tests.export.collection import Collection, events


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Collection]:
    with closing(Collection(tmp_path)) as one:
        assert one.export("once") == 0
        yield one


def read(world: Collection) -> tuple[Survey, Instance, Path]:
    """An instance whose header was read."""
    (path,) = world.add(0, 1)
    with reading(world.config.state) as reader:
        (row,) = reader.instances_of(world.series(0))
    plan = Survey(world.config.data, Wanted.of(ALWAYS))
    return plan, survey(plan, world.series(0), row), path


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.with_name("other").write_bytes(data)
    path.with_name("other").rename(path)


@pytest.mark.parametrize("harm", [touched, replaced])
def test_a_file_that_is_not_the_one_whose_header_was_read_is_not_sent(
    world: Collection, harm: Callable[[Path], None]
) -> None:
    plan, instance, path = read(world)
    harm(path)
    with pytest.raises(Changed, match="was replaced"):
        content_of(plan, instance, "key")


def test_a_file_that_is_written_to_while_it_is_read_is_not_sent_whole(
    world: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "SMALL", 0)
    monkeypatch.setattr(instances, "CHUNK", 100)
    plan, instance, path = read(world)
    got = pieces(plan, instance)
    next(got)
    touched(path)
    with pytest.raises(Changed, match="was changed"):
        list(got)


def test_a_large_one_whose_bytes_are_others_the_second_time_is_not_sent_whole(
    world: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp is the same: only the digest tells."""
    monkeypatch.setattr(instances, "SMALL", 0)
    plan, instance, path = read(world)
    _, content = content_of(plan, instance, "key")
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Changed, match="was changed"):
        list(content.chunks())


def test_two_instances_that_would_have_one_key_fail_their_series_by_name(
    world: Collection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As --on-conflict keep-both leaves them: one SOP Instance UID at two paths."""
    (first,) = world.add(0, 1)
    monkeypatch.setattr(world, "place", lambda folder, _number, _sop: f"{folder}/another.dcm")
    second = Path(world.config.data, "p/s/0/another.dcm")
    second.write_bytes(first.read_bytes())
    world.came(0, 1)
    world.end()
    assert len(list(second.parent.iterdir())) == 2
    assert world.export("once", "--keys", "uid") == 1
    failed = [event for event in events(capfd) if event["event"] == "export-failed"]
    assert [event["reason"] for event in failed] == ["collision"]
    assert world.objects() == {}

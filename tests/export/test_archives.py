"""Series and studies as archives: read by other programs, the same bytes each time, each member at its offset."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.export.collection import Collection


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Collection]:
    with closing(Collection(tmp_path, study_quiet=20.0)) as one:
        assert one.export("once") == 0
        yield one


def archives(world: Collection) -> dict[str, bytes]:
    return {key: data for key, data in world.objects().items() if key.startswith("archives/")}


def member(world: Collection, key: str, offset: int, size: int) -> bytes:
    data = (world.target / key).read_bytes()
    return (gzip.decompress(data) if key.endswith(".gz") else data)[offset : offset + size]


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_a_series_is_one_archive_and_each_member_lies_at_its_offset(world: Collection, compress: str) -> None:
    paths = world.add(0, 1, 2, 3)
    world.end()
    assert world.export("once", "--archive", "series", "--compress", compress) == 0
    ((key, data),) = archives(world).items()
    assert key == f"archives/{world.study()}/{world.uid(0)}-g1.tar{'.gz' if compress == 'gzip' else ''}"
    told = world.manifest(0)
    assert [(one.key, one.size) for one in told.archives] == [(key, len(data))]
    for entry in told.entries:
        assert member(world, entry.key, entry.offset, entry.size) == Path(world.config.data, entry.path).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == sorted(str(path.relative_to(world.config.data)) for path in paths)
    assert not [key for key in world.objects() if key.startswith("data/")]
    assert world.export("audit", "--deep") == 0


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_other_programs_open_it(world: Collection, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (path,) = world.add(0, 1)
    world.end()
    world.export("once", "--archive", "series", "--compress", "gzip")
    (key,) = archives(world)
    folder = world.target / "opened"
    folder.mkdir()
    subprocess.run([program, "-xzf", str(world.target / key)], cwd=folder, check=True, timeout=120)
    assert (folder / path.relative_to(world.config.data)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_two_exports_give_the_same_bytes(world: Collection, compress: str) -> None:
    world.add(0, 1, 2, 3)
    world.end()
    world.export("once", "--archive", "series", "--compress", compress)
    first = archives(world)
    shutil.rmtree(world.target)
    world.target.mkdir()
    world.again()
    assert world.export("once", "--archive", "series", "--compress", compress) == 0
    assert archives(world) == first
    world.again()
    before = {path: path.stat().st_mtime_ns for path in world.target.rglob("*.*")}
    assert world.export("once", "--archive", "series", "--compress", compress) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_late_instance_makes_an_archive_of_its_own_and_the_manifest_lists_all(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once", "--archive", "series")
    world.add(0, 3)
    world.end()
    assert world.export("once", "--archive", "series") == 0
    assert sorted(key[-7:] for key in archives(world)) == ["-g1.tar", "-g2.tar"]
    told = world.manifest(0, 2)
    assert [entry.key[-7:] for entry in told.entries] == ["-g1.tar", "-g1.tar", "-g2.tar"]
    assert [one.key[-7:] for one in told.archives] == ["-g2.tar"]
    assert world.export("audit", "--deep") == 0


def test_large_ones_are_cut_at_instances(world: Collection) -> None:
    world.add(0, *range(1, 4), pixels=512)
    world.end()
    assert world.export("once", "--archive", "series", "--volume", "1200000") == 0
    assert sorted(key[-9:] for key in archives(world)) == ["-g1-1.tar", "-g1-2.tar"]
    assert len(world.manifest(0).archives) == 2
    assert world.export("audit", "--deep") == 0


def test_a_study_is_one_archive_when_all_its_series_ended(world: Collection) -> None:
    assert world.export("once", "--archive", "study") == 0
    world.add(0, 1, 2)
    world.add(1, 1)
    world.end()
    assert world.export("once", "--archive", "study") == 0
    assert world.objects() == {}, "something may still come for it"
    world.advance(30)
    world.tick()
    assert world.export("once", "--archive", "study") == 0
    (key,) = archives(world)
    assert key == f"archives/{world.study()}/{world.study()}-g1.tar"
    assert {entry.key for number in (0, 1) for entry in world.manifest(number).entries} == {key}
    before = world.objects()
    world.add(1, 2)
    world.end()
    world.advance(30)
    world.tick()
    assert world.export("once", "--archive", "study") == 0
    assert sorted(key.rpartition("/")[2][-7:] for key in world.objects().keys() - before.keys()) == [
        "-g2.tar",
        ".ndjson",
    ]
    assert len(world.manifest(1, 2).entries) == 2
    assert world.export("audit", "--deep") == 0


def test_names_of_sendit(world: Collection) -> None:
    world.export("once", "--archive", "study")
    world.add(0, 1)
    world.end()
    world.advance(30)
    world.tick()
    name = "%PatientID_%StudyDate_%StudyInstanceUID"
    assert world.export("once", "--archive", "study", "--archive-name", name) == 0
    (key,) = archives(world)
    assert key == f"archives/{world.study()}/P0000_20240101_{world.study()}-g1.tar"


BAD = [
    (("--archive", "series", "--archive-name", "%PatientID"), "put %SeriesInstanceUID into it"),
    (("--archive-name", "%SeriesInstanceUID"), "of no use without --archive"),
    (("--archive", "series", "--archive-name", "a/b"), "has a /"),
    (("--archive", "series", "--archive-name", "%NoKeyword"), "is no DICOM keyword"),
]


@pytest.mark.parametrize(("words", "text"), BAD)
def test_names_that_cannot_be_unique_are_told(
    world: Collection, words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.export("once", *words) == 2
    assert text in capsys.readouterr().err

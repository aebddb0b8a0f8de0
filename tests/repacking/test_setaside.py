"""What cannot be repacked is kept, named, explained and counted; nothing is overwritten, nothing odd is opened."""

from __future__ import annotations

import os
import stat
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.reasons import SET_ASIDE_REASONS
from listener.repacking import claim, setaside
from listener.repacking.context import CLAIM, COPY, MOVE
from tests.hostile_entries import odd_files
from tests.workbench import Bench, arrival_of, contents, tmpfs


def put(bench: Bench, path: Path | str, reason: str = "not-dicom", **more: Any) -> Path:
    """Set aside, and let go as the parent does when it has heard of it."""
    arrival = arrival_of(path)._replace(**more)
    where = setaside.put_aside(str(path), os.path.basename(path), bench.context, setaside.Why(reason, "why"), arrival)
    if bench.context.mode == CLAIM:
        claim.release(str(path))
    return Path(where)


def told(target: Path) -> dict[str, Any]:
    record: dict[str, Any] = orjson.loads(Path(f"{target}.json").read_bytes())
    return record


def text(bench: Bench, name: str = "a.txt", data: bytes = b"hello") -> Path:
    path = bench.incoming / name
    path.write_bytes(data)
    return path


def names(bench: Bench, reason: str = "not-dicom") -> list[str]:
    """Files and reason files of one reason; the lock is none."""
    return sorted(name for name in os.listdir(bench.state / "set-aside" / reason) if not name.startswith("."))


def test_a_file_keeps_its_name_and_gets_a_reason_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = text(bench)
    arrived = os.stat(path).st_ctime_ns
    target = put(bench, path, attempts=1)
    assert target == bench.state / "set-aside/not-dicom/a.txt"
    assert target.read_bytes() == b"hello"
    assert not path.exists()
    record = told(target)
    assert record["first"] <= record["last"]
    assert abs(datetime.fromisoformat(record.pop("first")).timestamp() - arrived / 1e9) < 0.001
    assert datetime.fromisoformat(record.pop("last")).utcoffset() is not None
    expected = {
        "reason": "not-dicom",
        "error": "why",
        "name": "a.txt",
        "attempts": 2,
        "size": 5,
        "digest": f"blake2b-128:{blake2b(b'hello', digest_size=16).hexdigest()}",
    }
    assert {key: record[key] for key in expected} == expected


def test_what_is_set_aside_is_private(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    target = put(bench, text(bench))
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700


def test_a_name_that_is_taken_gets_a_hash(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    targets = [put(bench, text(bench, data=bytes([number]))) for number in range(5)]
    assert len(set(targets)) == 5
    assert targets[0].name == "a.txt"
    assert all(target.name.startswith("a.txt-") for target in targets[1:])
    assert [target.read_bytes() for target in targets] == [bytes([number]) for number in range(5)]
    assert all(told(target)["name"] == "a.txt" for target in targets)
    assert len(names(bench)) == 10


@pytest.mark.parametrize("order", [("a", "a.json"), ("a.json", "a")])
def test_a_file_called_like_another_s_reason_file(order: tuple[str, str], tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    targets = [put(bench, text(bench, name, name.encode())) for name in order]
    for target, name in zip(targets, order, strict=True):
        assert target.read_bytes() == name.encode()
        assert told(target)["name"] == name
    assert len(names(bench)) == 4
    assert setaside.totals(bench.directories.set_aside)["not-dicom"].files == 2


def test_names_stay_below_255_bytes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    long = os.fsdecode("ä".encode() * 127 + b"\xff")
    targets = [put(bench, text(bench, long, bytes([number]))) for number in range(3)]
    assert len({os.fsencode(target.name) for target in targets}) == 3
    for target in targets:
        assert len(os.fsencode(target.name + ".json")) <= 255
        assert told(target)["name"].endswith("\\xff")


def test_a_digest_of_a_large_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = os.urandom(3 * 2**20 + 7)
    target = put(bench, text(bench, data=data))
    assert told(target)["digest"] == f"blake2b-128:{blake2b(data, digest_size=16).hexdigest()}"


@pytest.mark.parametrize("name", ["link", "dangling", "fifo", "socket"])
def test_what_is_not_a_regular_file_is_moved_unopened(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = odd_files(bench.incoming)[name]
    kind = stat.S_IFMT(os.lstat(path).st_mode)
    target = put(bench, path, "not-regular")
    assert stat.S_IFMT(os.lstat(target).st_mode) == kind
    assert not os.path.lexists(path)
    assert told(target)["digest"] == ""
    assert (tmp_path / "victim").read_text() == "do not touch"


@pytest.mark.parametrize("name", ["link", "fifo", "file"])
def test_another_mount_gets_a_copy_and_the_source_goes(name: str, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "incoming"):
        bench = Bench(tmp_path)
        paths = odd_files(bench.incoming) | {"file": text(bench, "file", b"x" * 100_000)}
        kind = stat.S_IFMT(os.lstat(paths[name]).st_mode)
        target = put(bench, paths[name], "not-regular")
        assert stat.S_IFMT(os.lstat(target).st_mode) == kind
        assert not os.path.lexists(paths[name])
        assert names(bench, "not-regular") == [name, f"{name}.json"]
        if name == "file":
            assert target.read_bytes() == b"x" * 100_000


@pytest.mark.parametrize(("mode", "keep", "count"), [(COPY, True, 1), (COPY, False, 0), (MOVE, False, 0)])
def test_keep_source_copies_and_repack_leaves_it_where_it_is(mode: str, keep: bool, count: int, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode, keep_source=keep)
    path = text(bench)
    put(bench, path)
    assert path.read_bytes() == b"hello"
    assert setaside.totals(bench.directories.set_aside)["not-dicom"].files == count


def test_after_a_crash_between_reason_file_and_move_the_same_name_is_taken_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    target = put(bench, text(bench))
    os.rename(target, bench.incoming / "a.txt")  # as if the move had not happened
    assert put(bench, bench.incoming / "a.txt") == target
    assert names(bench) == ["a.txt", "a.txt.json"]


def test_after_a_crash_between_copy_and_removal_there_is_one_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = text(bench)
    os.link(path, tmp_path / "again")
    target = put(bench, path)
    os.link(target, bench.incoming / "a.txt")  # the same file is still in incoming
    put(bench, bench.incoming / "a.txt")
    assert names(bench) == ["a.txt", "a.txt.json"]


def test_an_older_instance_is_kept_by_a_second_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    where = Path(setaside.keep(outcome.dst, bench.context, setaside.Why("superseded", "newer"), 0))
    assert where.samefile(outcome.dst)
    assert told(where)["reason"] == "superseded"
    assert setaside.keep(outcome.dst, bench.context, setaside.Why("superseded", "newer"), 0) == str(where), (
        "a replay of the same"
    )
    assert names(bench, "superseded") == sorted([where.name, f"{where.name}.json"])


def test_totals_count_files_and_bytes_of_every_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    put(bench, text(bench, data=b"12345"))
    put(bench, text(bench, data=b"123"))
    put(bench, text(bench, data=b""), "empty")
    found = setaside.totals(bench.directories.set_aside)
    assert tuple(found) == SET_ASIDE_REASONS
    assert found["not-dicom"] == (2, 8)
    assert found["empty"] == (1, 0)
    assert all(found[reason] == (0, 0) for reason in SET_ASIDE_REASONS if reason not in ("not-dicom", "empty"))


def test_totals_of_nothing(tmp_path: Path) -> None:
    assert set(setaside.totals(str(tmp_path / "absent")).values()) == {(0, 0)}


def test_two_at_once_never_take_one_name(tmp_path: Path) -> None:
    """Workers are processes: the lock is a file's, so it is asked for by different descriptors here too."""
    import threading

    bench = Bench(tmp_path)
    paths = []
    for number in range(40):
        (bench.incoming / str(number)).mkdir()
        paths.append(text(bench, f"{number}/same", str(number).encode()))

    def work(some: list[Path]) -> None:
        for path in some:
            put(bench, path)

    threads = [threading.Thread(target=work, args=(paths[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = contents(bench.state / "set-aside/not-dicom")
    kept = sorted(int(data) for name, data in there.items() if not name.endswith(".json") and not name.startswith("."))
    assert kept == list(range(40))


def test_an_arrival_of_unknown_time_has_a_first_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    record = told(put(bench, text(bench), time_ns=0))
    assert record["first"] == record["last"]


def test_a_hundred_thousand_files_are_counted_in_pieces_and_held_by_nobody(tmp_path: Path) -> None:
    """The loop serves others between two pieces: none takes more than a few milliseconds of work."""
    directory = tmp_path / "not-dicom"
    directory.mkdir()
    for number in range(2000):
        (directory / f"f{number}").write_bytes(b"abc")
        (directory / f"f{number}.json").touch()
    (directory / "left.json").touch()
    (directory / ".lock").touch()
    pieces = list(setaside.count_in_pieces(str(tmp_path)))
    assert pieces[-1]["not-dicom"] == (2000, 6000)
    assert pieces[:-1] == [{}] * 8

"""Taking a file out of its sender's reach: who wins, who waits, and what a claim's name tells."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.disk import files, leases
from listener.reasons import EmptyFile, NotRegular, Unreadable
from listener.records import Arrival
from listener.repacking import claim
from listener.repacking.claim import ClaimName, Gone, parse_name
from listener.repacking.context import COPY, MOVE
from listener.repacking.job import NotYet, Source
from tests.holders import breaking, writer
from tests.hostile_entries import odd_files
from tests.waiting import until
from tests.workbench import Bench, arrival_of, need_root


def source_of(path: Path | str) -> Source:
    return Source(arrival_of(path))


def taken(bench: Bench, path: Path | str) -> Source:
    source = source_of(path)
    try:
        source.claimed = claim.take(source, bench.context)
    finally:
        source.close()
    return source


def test_a_claim_is_a_rename_and_its_name_tells_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put("MR.1.2.3", pixels=8)
    status = os.stat(path)
    source = taken(bench, path)
    assert not path.exists()
    (name,) = bench.claims()
    assert parse_name(name) == ClaimName(status.st_ctime_ns, 0, "MR.1.2.3")
    assert (source.path, source.claim, source.link_source) == (source.claim,) * 3
    assert source.claimed.inode == (status.st_dev, status.st_ino)
    assert source.claimed.size == status.st_size
    claim.release(source.claim)
    claim.release(source.claim)
    assert bench.claims() == []


def test_exactly_one_wins(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    first, second = source_of(path), source_of(path)
    first.claimed = claim.take(first, bench.context)
    with pytest.raises(Gone):
        second.claimed = claim.take(second, bench.context)
    first.close()
    second.close()
    assert len(bench.claims()) == 1


@pytest.mark.parametrize("mode", [COPY, MOVE])
def test_without_claims_the_source_stays(mode: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode)
    path = bench.put()
    source = taken(bench, path)
    assert path.exists()
    assert bench.claims() == []
    assert source.link_source == str(path)


def test_what_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    with writer(path), pytest.raises(NotYet):
        taken(bench, path)
    assert path.exists()
    assert bench.claims() == []
    assert taken(bench, path).leased


def test_one_who_began_to_write_before_the_claim_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where leases were not to be had before the rename, somebody had the file open: it is claimed, but not read."""
    bench = Bench(tmp_path, settle=0.0)
    path = bench.put()
    answers = iter([leases.UNKNOWN])
    real = leases.take
    monkeypatch.setattr(leases, "take", lambda descriptor: next(answers, None) or real(descriptor))
    source = source_of(path)
    with writer(path), pytest.raises(NotYet):
        source.claimed = claim.take(source, bench.context)
    source.close()
    assert len(bench.claims()) == 1
    assert source.claim


def test_one_who_opens_it_to_write_just_before_the_claim_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He waits for the lease that is held, until the claim has given the file another name; then he writes."""
    bench = Bench(tmp_path)
    path = bench.put()
    source = source_of(path)
    rename = files.rename
    late = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline(); f = open(sys.argv[1], 'ab'); input()", path],
        stdin=subprocess.PIPE,
    )

    def after_the_other(path: str, target: str, mode: int, *, syncs: bool) -> None:
        assert late.stdin is not None
        late.stdin.write(b"now\n")
        late.stdin.flush()
        until(lambda: not leases.holds(source.descriptor), 10, what="somebody waits for the lease")
        rename(path, target, mode, syncs=syncs)

    monkeypatch.setattr(files, "rename", after_the_other)
    try:
        with breaking(), pytest.raises(NotYet):
            source.claimed = claim.take(source, bench.context)
    finally:
        source.close()
        late.communicate(b"\n", 10)
    assert not source.leased
    assert len(bench.claims()) == 1


def test_nobody_writes_to_what_is_held(tmp_path: Path) -> None:
    """As long as the lease is held the file is what was read; whoever waits for it is noticed."""
    bench = Bench(tmp_path)
    source = source_of(bench.put())
    with closing(source):
        source.claimed = claim.take(source, bench.context)
        assert source.leased
        assert claim.unchanged(source)
        with breaking(), pytest.raises(BlockingIOError):
            os.open(source.claim, os.O_WRONLY | os.O_NONBLOCK)
        assert not claim.unchanged(source)


@pytest.mark.parametrize(("settle", "waits"), [(0.0, False), (60.0, True)])
def test_where_there_are_no_leases_a_file_must_have_been_untouched(
    settle: float, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, settle=settle)
    path = bench.put()
    os.utime(path, (1, 1))  # A preserved time of modification says nothing.
    monkeypatch.setattr(leases, "take", lambda _: leases.UNKNOWN)
    if waits:
        with pytest.raises(NotYet):
            taken(bench, path)
    else:
        assert not taken(bench, path).leased


def test_what_was_taken_back_is_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    source = source_of(path)
    path.unlink()
    with pytest.raises(Gone):
        source.claimed = claim.take(source, bench.context)


def test_an_empty_file_is_claimed_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.incoming / "empty").touch()
    with pytest.raises(EmptyFile):
        taken(bench, bench.incoming / "empty")
    assert len(bench.claims()) == 1


@pytest.mark.parametrize("name", ["link", "dangling", "fifo", "socket"])
def test_what_is_not_a_regular_file_is_claimed_and_neither_followed_nor_waited_for(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = odd_files(bench.incoming)[name]
    with pytest.raises(NotRegular):
        taken(bench, path)
    assert len(bench.claims()) == 1
    assert not os.path.lexists(path)


def test_a_directory_is_never_moved(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.incoming / "study").mkdir()
    with pytest.raises(Gone):
        taken(bench, bench.incoming / "study")
    assert (bench.incoming / "study").is_dir()


def test_a_file_that_may_not_be_read_is_claimed_and_says_so() -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        os.setresuid(65534, 65534, 0)
        try:
            os.setresuid(0, 0, 0)
            for folder in ("incoming", "data", "log", "state"):
                (Path(name) / folder).mkdir()
                os.chown(Path(name) / folder, 65534, 65534)
            os.setresuid(65534, 65534, 0)
            bench = Bench(Path(name))
            path = bench.put()
            path.chmod(0)
            with pytest.raises(Unreadable):
                taken(bench, path)
            assert len(bench.claims()) == 1
        finally:
            os.setresuid(0, 0, 0)


def test_a_claim_that_an_earlier_run_left_is_taken_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    first = taken(bench, path)
    again = Source(first.arrival._replace(claim=first.claim))
    again.claimed = claim.take(again, bench.context)
    again.close()
    assert again.claimed.inode == first.claimed.inode
    assert bench.claims() == [os.path.basename(first.claim)]


def test_what_was_written_to_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    """Where it is not claimed, nobody is kept from writing to it."""
    bench = Bench(tmp_path, COPY)
    source = source_of(bench.put())
    source.claimed = claim.take(source, bench.context)
    assert claim.unchanged(source)
    with open(source.path, "ab") as file:
        file.write(b"more")
    assert not claim.unchanged(source)
    source.close()


# -- names ------------------------------------------------------------------------------------------------------------

raw_names = st.binary(min_size=1, max_size=255).map(
    lambda raw: os.fsdecode(raw.replace(b"\0", b"x").replace(b"/", b"y"))
)


@given(name=raw_names, time_ns=st.integers(0, 2**63), attempts=st.integers(0, 99))
def test_a_claim_s_name_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, time_ns: int, attempts: int
) -> None:
    bench = _bench(tmp_path_factory)
    arrival = Arrival(f"/in/{name}", 0, time_ns, "event", attempts=attempts)
    made = bench.context.claim_name(arrival)
    assert len(os.fsencode(made)) <= 255
    told = parse_name(made)
    assert told is not None
    assert (told.time_ns, told.attempts) == (time_ns, attempts)
    assert os.fsencode(name).startswith(os.fsencode(told.name))
    if len(os.fsencode(name)) < 200:
        assert told.name == name


_made: list[Bench] = []


def _bench(factory: pytest.TempPathFactory) -> Bench:
    if not _made:
        _made.append(Bench(factory.mktemp("bench")))
    return _made[0]


def test_names_of_claims_never_meet(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    arrival = Arrival("/in/a", 0, 1, "event")
    assert len({bench.context.claim_name(arrival) for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["", "a", "1.2.3", "x.1.0.name", "1.1.x.name", ".lock", "1"])
def test_what_is_not_a_claim_s_name(name: str) -> None:
    assert parse_name(name) is None


def test_attempts_are_counted_in_the_name_and_survive_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    source = taken(bench, bench.put("one.dcm"))
    first = source.arrival._replace(claim=source.claim)
    second = claim.with_attempts(first, 2)
    assert second.attempts == 2
    (name,) = bench.claims()
    assert parse_name(name) == ClaimName(first.time_ns, 2, "one.dcm")
    assert second.claim.endswith(name)


# -- network file systems ---------------------------------------------------------------------------------------------


def test_on_a_network_file_system_a_lease_tells_nothing_and_settle_decides(tmp_path: Path) -> None:
    """FUSE grants a read lease although another machine has the file open for writing."""
    bench = Bench(tmp_path, settle=30.0)
    bench.context.network = (True,)
    path = bench.put()
    with pytest.raises(NotYet):
        taken(bench, path)
    assert path.exists()
    later = Bench(tmp_path, settle=0.05)
    later.context.network = (True,)
    source = source_of(path)
    until(lambda: time.time() - path.stat().st_ctime > 0.06)
    try:
        source.claimed = claim.take(source, later.context)
        assert not source.leased
        descriptor = os.open(source.claim, os.O_WRONLY | os.O_NONBLOCK)  # A lease that were held would refuse it.
        assert not claim.unchanged(source), "somebody writes here, which the kernel does know"
        os.close(descriptor)
        assert claim.unchanged(source)
    finally:
        source.close()


@pytest.mark.parametrize(
    ("age", "settle", "waits"), [(0.5, 1.0, True), (1.5, 1.0, False), (1.5, 2.0, True), (-0.5, 1.0, True)]
)
@pytest.mark.parametrize("coarse", [False, True])
def test_where_only_seconds_are_kept_one_more_is_waited_for(
    age: float, settle: float, waits: bool, coarse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = 1_700_000_000 * 10**9 + (0 if coarse else 1)
    status = SimpleNamespace(st_mtime_ns=touched, st_ctime_ns=touched - 5)
    monkeypatch.setattr(time, "time_ns", lambda: touched + int((age + coarse) * 1e9))
    with pytest.raises(NotYet) if waits else nullcontext():
        claim._require_settled(status, settle)  # type: ignore[arg-type]


def test_with_keep_source_settle_decides_there_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, COPY, settle=30.0, keep_source=True)
    path = bench.put()
    taken(bench, path)
    bench.context.network = (True,)
    with pytest.raises(NotYet):
        taken(bench, path)

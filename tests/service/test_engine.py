"""The heart with real workers: offers in, outcomes out, and nothing lost with workers that die, hang or are refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from listener.repacking import claim
from listener.service.backlog import AGAIN, KNOWN, NEW
from listener.service.engine import Engine
from tests.holders import writer
from tests.service.engines import Ear, drained, turn_until
from tests.workbench import Bench, arrival_of, contents

pytestmark = pytest.mark.real


@contextmanager
def engine_of(bench: Bench) -> Iterator[tuple[Engine, Ear]]:
    ear = Ear()
    engine = Engine(bench.config, bench.directories, ear)
    try:
        yield engine, ear
    finally:
        engine.close(at_once=True)


def offer(engine: Engine, *paths: Path | str) -> list[str]:
    return [engine.intake.offer(str(path), 0, "event") for path in paths]


def greet(worker: Any) -> None:
    """Wait until a worker has said that it works: one that dies before is no file's fault."""
    while not worker.ready:
        assert worker.pipe.poll(120)
        assert worker.collect() is None


def freeze(engine: Engine) -> list[int]:
    """Stop all workers where they are, so that what is given to them next is in hand for sure."""
    for worker in engine.pool.workers:
        greet(worker)
        os.kill(worker.pid, signal.SIGSTOP)
    return [worker.pid for worker in engine.pool.workers]


def test_what_is_offered_is_published_and_its_claim_is_let_go(tmp_path: Path) -> None:
    bench = Bench(tmp_path, workers=2)
    with engine_of(bench) as (engine, ear):
        paths = [bench.put(str(number), number=number) for number in range(1, 101)]
        assert offer(engine, *paths) == [NEW] * 100
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"] * 100
        assert ear.sources == ["event"] * 100
        assert len(contents(bench.data)) == 100
        assert bench.claims() == []
        assert all(outcome.arrived_ns <= outcome.finished_ns for outcome in ear.outcomes)


@pytest.mark.parametrize(("most", "held"), [(None, [20, 20]), (4, [4, 4])])
def test_a_message_holds_no_more_than_it_may(tmp_path: Path, most: int | None, held: list[int]) -> None:
    bench = Bench(tmp_path, workers=2)
    with engine_of(bench) as (engine, ear):
        frozen = freeze(engine)
        engine.most = most or engine.most
        offer(engine, *(bench.put(str(number), number=number) for number in range(1, 41)))
        engine.turn(0)
        assert [len(worker.held) for worker in engine.pool.workers] == held
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"] * 40


def test_what_is_no_arrival(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.incoming / "folder").mkdir()
    for name in (".hidden", "x.part", "y.tmp"):
        bench.put(name)
    with engine_of(bench) as (engine, ear):
        names = ("folder", "absent", ".hidden", "x.part", "y.tmp")
        assert offer(engine, *(bench.incoming / name for name in names)) == [""] * 5
        assert (engine.backlog.depth, ear.sources) == (0, [])


def test_one_path_is_offered_by_event_and_rescan_and_done_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, ear):
        path = bench.put()
        pids = freeze(engine)
        assert [engine.intake.offer(str(path), 0, source) for source in ("event", "rescan", "event")] == [
            NEW,
            KNOWN,
            KNOWN,
        ]
        engine.dispatch(time.monotonic())
        assert engine.intake.offer(str(path), 0, "rescan") == AGAIN
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"]
        assert ear.sources == ["event"]


def test_while_paused_nothing_is_handed_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, _):
        engine.pause("test")
        offer(engine, bench.put())
        engine.turn(0)
        assert (engine.backlog.queued, engine.backlog.working) == (1, 0)
        engine.resume("test")
        turn_until(engine, drained(engine))


def test_work_goes_on_when_the_last_reason_for_a_pause_is_taken_back(tmp_path: Path) -> None:
    with engine_of(Bench(tmp_path)) as (engine, _):
        engine.pause("disk")
        engine.pause("stopping")
        engine.pause("disk")
        engine.resume("disk")
        assert engine.paused
        engine.resume("stopping")
        engine.resume("never given")
        assert not engine.paused


def test_a_paused_engine_that_was_refused_something_does_not_wake_for_a_try_it_may_not_make(tmp_path: Path) -> None:
    with engine_of(Bench(tmp_path)) as (engine, _):
        engine.breaker.refused("no-space", time.monotonic())
        assert engine.next_wake() is not None
        engine.pause("disk")
        assert engine.next_wake() is None
        engine.resume("disk")
        assert engine.next_wake() is not None


# -- workers that die -------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_files_come_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, workers=2)
    with engine_of(bench) as (engine, ear):
        paths = [bench.put(str(number), number=number) for number in range(1, 41)]
        pids = freeze(engine)
        offer(engine, *paths)
        engine.dispatch(time.monotonic())
        held = engine.backlog.working
        assert held == 40
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        turn_until(engine, drained(engine))
        assert [one.reason for one in ear.losses] == ["killed"] * 2
        assert ear.kinds() == ["published"] * 40
        assert len(contents(bench.data)) == 40
        assert not {worker.pid for worker in engine.pool.workers} & set(pids)


def test_files_that_were_claimed_when_the_worker_died_come_back_too(tmp_path: Path) -> None:
    """The worker had claimed one, published and not reported another, and not begun the third."""
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, ear):
        paths = [bench.put(str(number), number=number) for number in (1, 2, 3)]
        (pid,) = freeze(engine)
        offer(engine, *paths)
        engine.dispatch(time.monotonic())
        claimed, unreported = paths[0], paths[1]
        name = bench.context.claim_name(arrival_of(claimed))
        os.rename(claimed, os.path.join(bench.directories.claims[0], name))
        bench.work([arrival_of(unreported)])
        assert len(bench.claims()) == 2
        os.kill(pid, signal.SIGKILL)
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"] * 3
        assert bench.claims() == []
        assert len(contents(bench.data)) == 3


def test_a_file_that_was_done_when_the_worker_died_has_vanished(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, ear):
        path = bench.put()
        (pid,) = freeze(engine)
        offer(engine, path)
        engine.dispatch(time.monotonic())
        path.unlink()
        os.kill(pid, signal.SIGKILL)
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["vanished"]


def test_a_file_that_kills_every_worker_is_set_aside_and_the_others_are_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, ear):
        paths = [bench.put(str(number), number=number) for number in range(1, 6)]
        poison = str(paths[2])
        freeze(engine)
        offer(engine, *paths)
        engine.dispatch(time.monotonic())

        def done() -> bool:
            for worker in engine.pool.workers:
                if any(one.path == poison for one in worker.held):
                    os.kill(worker.pid, signal.SIGKILL)
            return engine.backlog.depth == 0

        # After the first death they come one by one; each successor is stopped while the poison is in its hand.
        real = type(engine.pool.workers[0]).give

        def give(worker: Any, arrivals: Any, now: float) -> None:
            if any(one.path == poison for one in arrivals):
                greet(worker)
                os.kill(worker.pid, signal.SIGSTOP)
            real(worker, arrivals, now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(engine.pool.workers[0]), "give", give)
            turn_until(engine, done)
        assert ear.kinds() == ["published"] * 4 + ["worker-lost"]
        assert len(ear.losses) == 2
        lost = next(one for one in ear.outcomes if one.reason == "worker-lost")
        assert (lost.kind, lost.path) == ("set-aside", poison)
        assert lost.dst == str(bench.state / "set-aside/worker-lost/3")
        assert os.path.exists(lost.dst)


def test_a_worker_that_hangs_is_killed_at_its_deadline_and_the_file_is_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path, deadline=1.5)
    with engine_of(bench) as (engine, ear):
        path = bench.put()
        freeze(engine)
        offer(engine, path)
        engine.dispatch(time.monotonic())
        turn_until(engine, lambda: ear.losses)
        engine.pool._deadline = 600.0  # Its successor may be slow on a busy machine.
        turn_until(engine, drained(engine))
        assert [one.reason for one in ear.losses] == ["deadline"]
        assert ear.kinds() == ["published"]


# -- what an earlier run left -----------------------------------------------------------------------------------------


def held(bench: Bench, path: Path, time_ns: int = 0, attempts: int = 0) -> str:
    """Claim a file as a service does that is then killed."""
    arrival = arrival_of(path)._replace(attempts=attempts)
    arrival = arrival._replace(time_ns=time_ns) if time_ns else arrival
    name = os.path.join(bench.directories.claims[0], bench.context.claim_name(arrival))
    os.rename(path, name)
    return name


def test_claims_of_an_earlier_run_are_done_again_oldest_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number, moment in ((1, 300), (2, 100), (3, 200)):
        held(bench, bench.put(str(number), number=number), moment)
    with engine_of(bench) as (engine, ear):
        assert engine.intake.requeue_claims() == 3
        turn_until(engine, drained(engine))
        assert [os.path.basename(one.path) for one in ear.outcomes] == ["2", "3", "1"]
        assert [one.arrived_ns for one in ear.outcomes] == [100, 200, 300]
        assert ear.kinds() == ["published"] * 3
        assert bench.claims() == []


def test_two_claims_of_one_base_name_are_both_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for folder in ("a", "b"):
        (bench.incoming / folder).mkdir()
        held(bench, bench.put(f"{folder}/IM1", series=int(folder == "b")))
    with engine_of(bench) as (engine, ear):
        engine.intake.requeue_claims()
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"] * 2
        assert bench.claims() == []


def test_a_claim_whose_services_died_again_and_again_is_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    held(bench, bench.put("poison"), attempts=20)
    held(bench, bench.put("fine", number=2), attempts=1)
    with engine_of(bench) as (engine, ear):
        engine.intake.requeue_claims()
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published", "worker-lost"]
        assert bench.claims() == []


def test_each_start_that_dies_counts(tmp_path: Path) -> None:
    """Killed in hand, alone, five times: the claim's name tells, and the sixth start gives it up."""
    bench = Bench(tmp_path)
    held(bench, bench.put("poison"))
    starts = 0
    while bench.claims():
        starts += 1
        assert starts < 10
        with engine_of(bench) as (engine, ear):
            freeze(engine)
            engine.intake.requeue_claims()
            engine.dispatch(time.monotonic())
            if not engine.backlog.working:
                assert ear.kinds() == ["worker-lost"]
    assert starts == 6


def test_what_is_no_claim_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    Path(bench.directories.claims[0], "README").write_text("hello")
    with engine_of(bench) as (engine, _):
        assert engine.intake.requeue_claims() == 0
    assert bench.claims() == ["README"]


# -- what must wait ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_still_open_is_done_when_it_is_closed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rescan=0.1)
    with engine_of(bench) as (engine, ear):
        path = bench.put()
        with writer(path):
            offer(engine, path)
            turn_until(engine, lambda: ear.deferrals)
            assert (engine.backlog.retrying, engine.backlog.working) == (1, 0)
            assert path.exists()
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"]
        assert {one.reason for one in ear.deferrals} == {"busy"}
        assert engine.breaker.reason == ""


def test_what_the_system_refuses_waits_and_is_done_when_it_can_be(tmp_path: Path) -> None:
    """A file where a directory must be: the system's error, until somebody mends it."""
    bench = Bench(tmp_path)
    with engine_of(bench) as (engine, ear):
        (bench.data / "P0000-Patient_0-19700102").write_text("in the way")
        offer(engine, bench.put())
        turn_until(engine, lambda: ear.deferrals)
        assert engine.breaker.reason == ""
        assert engine.held_up.counts() == {"io-error": 1}
        assert len(bench.claims()) == 1
        (bench.data / "P0000-Patient_0-19700102").unlink()
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"]
        assert not engine.held_up
        assert bench.claims() == []


def test_a_claim_of_an_earlier_run_is_held_up_as_one_file_whatever_its_name_is(tmp_path: Path) -> None:
    """Each try counts in the claim's name, and does not when it was refused; the first refusal is not forgotten."""
    bench = Bench(tmp_path, give_up=3600.0)
    held(bench, bench.put())
    (bench.data / "P0000-Patient_0-19700102").symlink_to("/nonexistent/archive")
    with engine_of(bench) as (engine, ear):
        engine.intake.requeue_claims()
        turn_until(engine, lambda: len(ear.deferrals) >= 3)
        assert engine.held_up.shown(time.monotonic())["shown"][0]["files"] == len(engine.held_up) == 1
        engine.held_up._give_up = 0.0
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["unplaceable"]
        assert not engine.held_up
        assert not engine.held_up.counts()


def test_what_cannot_be_placed_is_set_aside_in_the_end_and_holds_nobody_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, give_up=3600.0)
    with engine_of(bench) as (engine, ear):
        (bench.data / "P0000-Patient_0-19700102").symlink_to("/nonexistent/archive")
        offer(engine, bench.put())
        turn_until(engine, lambda: engine.held_up)
        offer(engine, *(bench.put(f"other{number}", patient=1, number=number) for number in range(1, 6)))
        turn_until(engine, lambda: len(ear.outcomes) == 5)
        assert ear.kinds() == ["published"] * 5
        engine.held_up._give_up = 0.0
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"] * 5 + ["unplaceable"]
        assert not engine.held_up
        assert bench.claims() == []
        assert len(contents(bench.data)) == 6, "five instances, and the link"
        (lost,) = [one for one in ear.outcomes if one.reason]
        assert lost.dst == str(bench.state / "set-aside/unplaceable/one")
        assert lost.step == "place"
        assert lost.error.endswith("level 1 below the data directory, a link: No such file or directory")


# -- keep the source --------------------------------------------------------------------------------------------------


def test_what_is_kept_is_done_once_even_over_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep_source=True)
    path = bench.put()
    for expected in (NEW, ""):
        with engine_of(bench) as (engine, ear):
            assert offer(engine, path) == [expected]
            turn_until(engine, drained(engine))
            assert offer(engine, path) == [""]
            assert ear.kinds() == ["published"] * bool(expected)
    assert path.exists()
    assert os.stat(path).st_nlink == 1
    with engine_of(bench) as (engine, ear):
        assert offer(engine, bench.put("one", pixels=8)) == [NEW], "another file of that name"
        turn_until(engine, drained(engine))
        assert ear.kinds() == ["published"]
    assert bench.claims() == []


def test_closing_leaves_claims_where_they_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    name = held(bench, bench.put())
    with engine_of(bench) as (engine, _):
        freeze(engine)
        engine.intake.requeue_claims()
        engine.dispatch(time.monotonic())
    (kept,) = bench.claims()
    told = claim.parse_name(kept)
    assert told is not None
    assert told.attempts == 1
    assert told.name == os.path.basename(name).split(".", 3)[3]

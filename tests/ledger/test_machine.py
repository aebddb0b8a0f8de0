"""Any history of arrivals, files that wait, kills, clock jumps, promises and locks: the ledger has what the logs have,
each generation of a series or study ends once, whoever waits is told, and nobody is told that one is quiet whose rest
waits.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from listener.ledger import connection, deliveries, generations
from listener.ledger.completion import Flow, StudyEnd
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.interests import EVENTS, Interest, text_of
from listener.ledger.maintenance import LedgerRepair
from listener.records import Outcome
from tests.ledger_world import World

IN_MEMORY = "/dev/shm"  # noqa: S108 -- a directory of its own is made there

SERIES = st.integers(0, 2)
STUDY_QUIET = 20.0
NUMBERS = st.integers(1, 6)


def study_of(series: int) -> int:
    """The first two series are of one study, the third of another."""
    return series // 2


class Ledger(RuleBasedStateMachine):
    """`queue`: outcomes that the keeper's thread has not taken yet, which a kill loses. `waiting`: files in incoming,
    by series and number, and when they came; `touched`: when series last got something; both on the quiet clock.
    """

    def __init__(self) -> None:
        super().__init__()
        # Each history makes ledgers anew, and a busy disk takes its time to sync each.
        self.base = Path(tempfile.mkdtemp(prefix="ledger-", dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None))
        self.world = World(self.base, study_quiet=STUDY_QUIET)
        with contextlib.closing(open_writer(path_of(self.world.config.state))) as connection:
            self._register(connection)
        self.queue: list[Outcome] = []
        self.waiting: list[tuple[int, int, float]] = []
        self.touched: dict[str, float] = {}
        self.checked = self.studies_checked = 0
        #: Ends of studies that were told since the last crash, and of each study: the ends of its series when it was
        #: told of last, and the generation.
        self.told_since: set[tuple[str, int]] = set()
        self.ends_before: dict[str, tuple[int, int]] = {}
        self.elapsed = 0.0
        self._flow()
        self.lock: sqlite3.Connection | None = None
        self.repaired = False

    @initialize()
    def first_look(self) -> None:
        self.world.tick()

    def _register(self, connection: sqlite3.Connection) -> None:
        deliveries.register(connection, "told", 0, wants=text_of(Interest(EVENTS)))

    # -- what happens

    @rule(series=SERIES, number=NUMBERS)
    def arrive(self, series: int, number: int) -> None:
        known = any(name.startswith(f"{number:04d}-") for name in self.world.described(series))
        outcome = self.world.publish(series, number, study=study_of(series))
        self.queue.append(outcome._replace(kind="duplicate") if known else outcome)

    @rule(series=SERIES)
    def replace(self, series: int) -> None:
        if self.world.described(series):
            number = int(min(self.world.described(series))[:4])
            self.queue.append(self.world.publish(series, number, superseded=True, study=study_of(series)))

    @rule(series=SERIES, number=NUMBERS)
    def arrive_and_wait(self, series: int, number: int) -> None:
        self.waiting.append((series, number, self.elapsed))

    @rule()
    def what_waits_is_done(self) -> None:
        for series, number, _ in self.waiting:
            self.arrive(series, number)
        self.waiting.clear()
        self.flush()
        self._flow()

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 11.0, 101.0]), jump=st.sampled_from([0.0, 0.0, 5000.0, -5000.0]))
    def time(self, seconds: float, jump: float) -> None:
        self.flush()
        self.world.advance(seconds, jump)
        self.elapsed += seconds
        self._flow()
        self.world.tick()

    @rule(seconds=st.sampled_from([4.0, 101.0]))
    def the_system_refuses(self, seconds: float) -> None:
        self.flush()
        self.world.advance(seconds)
        self._flow()
        self.world.tick()

    def _flow(self) -> None:
        lag = max((self.elapsed - came for _, _, came in self.waiting), default=0.0)
        self.world.clerk.flow = Flow(self.world.now, self.elapsed, lag)

    @rule()
    def flush(self) -> None:
        self.world.record(*self.queue)
        new = [one for one in self.queue if one.kind == "published"]
        self.touched.update((one.SeriesInstanceUID, self.elapsed) for one in new)
        self.queue.clear()

    @rule(series=SERIES, number=st.integers(0, 6))
    def promise(self, series: int, number: int) -> None:
        self.world.promise(series, str(number))

    @precondition(lambda self: not self.lock)
    @rule(series=SERIES, number=st.integers(0, 6))
    def expect(self, series: int, number: int) -> None:
        with contextlib.closing(open_writer(path_of(self.world.config.state))) as connection, transaction(connection):
            generations.expect(connection, self.world.uid(series), number, "expect", self.world.wall)

    @rule()
    def crash(self) -> None:
        self.queue.clear()
        self.world.crash()
        # An end that was told and not put down as such is told again.
        self.told_since.clear()
        # What waits was there before the service began.
        self.waiting = [(series, number, -1e9) for series, number, _ in self.waiting]
        self.touched = dict.fromkeys(self.touched, 0.0)
        self.elapsed = 0.0
        self._flow()
        self.world.tick()

    @rule()
    def crash_before_telling(self) -> None:
        self.flush()
        self.world.clerk.tick(self.world.now, self.world.wall)
        self.crash()

    @precondition(lambda self: not self.lock)
    @rule()
    def another_one_locks_it(self) -> None:
        self.lock = open_writer(path_of(self.world.config.state))
        self.lock.execute("BEGIN IMMEDIATE")

    @precondition(lambda self: self.lock)
    @rule()
    def it_is_free_again(self) -> None:
        assert self.lock
        self.lock.close()
        self.lock = None

    @precondition(lambda self: not self.lock)
    @rule(noticed=st.booleans())
    def lose_and_repair(self, noticed: bool) -> None:
        """Somebody removes the file, and repairs it; the service notices before that, or after."""
        self.world.tick()  # A service that was killed and has not read its ledger since knows of nothing.
        self.repaired = True
        for file in Path(self.world.config.state).glob("ledger.sqlite*"):
            file.unlink()
        if noticed:
            self.world.tick()
        with contextlib.closing(LedgerRepair(self.world.config)) as mending:
            for series in range(3):
                mending.count(self.world.uid(series))
        self.world.tick()
        with contextlib.closing(open_writer(path_of(self.world.config.state))) as connection:
            self._register(connection)

    # -- what must hold

    @invariant()
    def nothing_waits_of_what_is_quiet(self) -> None:
        for one in self.world.told[self.checked :]:
            quiet = 100.0 if one.result == "incomplete" else 10.0
            if one.result in ("quiet", "incomplete") or (one.result == "late" and not one.expected):
                since = self.touched.get(one.SeriesInstanceUID, 0.0)
                came = [came for series, _, came in self.waiting if self.world.uid(series) == one.SeriesInstanceUID]
                assert all(moment >= since + quiet for moment in came), one
        self.checked = len(self.world.told)

    @invariant()
    def nothing_waits_of_a_study_that_ended(self) -> None:
        for one in self.world.studies_told[self.studies_checked :]:
            numbers = [number for number in range(3) if self.world.study(study_of(number)) == one.StudyInstanceUID]
            since = max(self.touched.get(self.world.uid(number), 0.0) for number in numbers)
            came = [came for series, _, came in self.waiting if series in numbers]
            assert all(moment >= since + STUDY_QUIET for moment in came), one
            self._check_that_a_study_ends_once(one)
        self.studies_checked = len(self.world.studies_told)

    def _check_that_a_study_ends_once(self, end: StudyEnd) -> None:
        """Each generation is told once a run, and brought something: a series of it ended since the one before."""
        uid = end.StudyInstanceUID
        assert (uid, end.generation) not in self.told_since, f"told twice: {end}"
        self.told_since.add((uid, end.generation))
        if self.repaired:  # The ledger that knew it is gone.
            return
        question = "SELECT count(*) FROM history h JOIN series s ON s.id = h.series_id WHERE h.state <> 'open' AND "
        with contextlib.closing(sqlite3.connect(path_of(self.world.config.state))) as connection:
            (ends,) = connection.execute(f"{question} s.StudyInstanceUID = ?", (uid,)).fetchone()
        before, generation = self.ends_before.get(uid, (0, 0))
        assert end.generation == generation or ends > before, f"nothing ended for it: {end}"
        self.ends_before[uid] = (ends, end.generation)

    @invariant()
    def what_is_written_holds_together(self) -> None:
        path = path_of(self.world.config.state)
        if not Path(path).exists():
            return
        with contextlib.closing(sqlite3.connect(path)) as connection:
            told = dict(connection.execute("SELECT state, series FROM series_counts"))
            for state, number in told.items():
                (counted,) = connection.execute("SELECT count(*) FROM series WHERE state = ?", (state,)).fetchone()
                assert number == counted, state
            wrong = connection.execute(
                "SELECT s.id FROM series s WHERE (s.instances, s.bytes) <> (SELECT count(*), ifnull(sum(size), 0) FROM "
                "instances i WHERE i.series_id = s.id)"
            ).fetchall()
            assert not wrong
            too_early = connection.execute(
                "SELECT 1 FROM study_states t JOIN series s USING (StudyInstanceUID) "
                "WHERE t.state <> 'open' AND s.state = 'open'"
            ).fetchall()
            assert not too_early, "a study is open while a series of it is"

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            if self.lock:
                self.lock.close()
            self.world.close()
            shutil.rmtree(self.base)

    def _settle(self) -> None:
        if self.lock:
            self.it_is_free_again()
        self.what_waits_is_done()
        for _ in range(8):
            self.time(101.0, 0.0)
        assert not self.world.clerk.access.fault
        with contextlib.closing(sqlite3.connect(path_of(self.world.config.state))) as connection:
            for series in range(3):
                self._check(connection, series)
            for number in {study_of(series) for series in range(3)}:
                self._check_study(connection, number)

    def _check_study(self, connection: sqlite3.Connection, number: int) -> None:
        uid = self.world.study(number)
        row = connection.execute("SELECT * FROM study_states WHERE StudyInstanceUID = ?", (uid,)).fetchone()
        if row is None:
            assert not any(self.world.described(series) for series in range(3) if study_of(series) == number)
            return
        study, _, state, result, generation, _ = row
        assert state != "open"
        ends = connection.execute(
            "SELECT generation, announced FROM study_ends WHERE study_id = ? ORDER BY id", (study,)
        ).fetchall()
        last = generation - (result == "recounted")
        assert ends == [(one, 1) for one in range(1, last + 1)], "each generation ends, once, and is announced"
        told = {end.generation for end in self.world.studies_told if end.StudyInstanceUID == uid}
        assert self.repaired or told == {one for one, _ in ends}
        made = connection.execute(
            "SELECT generation FROM deliveries WHERE study_id = ? ORDER BY id", (study,)
        ).fetchall()
        assert self.repaired or made == [(one,) for one, _ in ends], "whoever wants it is told, once"

    def _check(self, connection: sqlite3.Connection, series: int) -> None:
        uid, described = self.world.uid(series), self.world.described(series)
        rows = connection.execute(
            "SELECT i.name FROM instances i JOIN series s ON s.id = i.series_id WHERE s.SeriesInstanceUID = ?", (uid,)
        ).fetchall()
        assert {name for (name,) in rows} == described
        assert len(rows) == len(described)
        history = connection.execute(
            "SELECT h.generation, h.state, h.announced, h.result FROM history h JOIN series s ON s.id = h.series_id "
            "WHERE s.SeriesInstanceUID = ? ORDER BY h.id",
            (uid,),
        ).fetchall()
        begun = [generation for generation, state, *_ in history if state == "open"]
        ended = [generation for generation, state, *_ in history if state != "open"]
        assert begun == list(range(1, len(begun) + 1))
        assert ended == begun, "each generation ends, once"
        assert all(announced for _, _, announced, _ in history)
        told = {one.generation for one in self.world.told if one.SeriesInstanceUID == uid}
        if not self.repaired:
            assert told >= set(ended)
        elif described:  # In which generation depends on who was faster.
            assert len(described) in {one.instances for one in self.world.told if one.SeriesInstanceUID == uid}
        if described:
            assert begun


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of another one is met at once."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.0)
    monkeypatch.setattr(connection.WriterConnection, "retry", (0.0, 0.0))


def test_what_comes_after_the_clock_was_set_back_is_not_lost_with_a_locked_ledger_and_a_kill() -> None:
    """The model found it: instances were dated before the moment from which the next start counts again."""
    state = Ledger()
    state.first_look()
    state.another_one_locks_it()
    state.time(jump=-5000.0, seconds=0.0)
    state.arrive(number=1, series=0)
    state.crash()
    state.teardown()


class TestLedger(Ledger.TestCase):  # type: ignore[valid-type, misc]
    settings = settings(max_examples=40, stateful_step_count=25)

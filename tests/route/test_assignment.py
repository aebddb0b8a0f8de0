from __future__ import annotations

import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from listener.route.assignment import Assignments, Study, Worker

DAY = 86_400.0
BUSY, REMEMBER = 600.0, 30 * DAY


def workers(*names: str, **weights: float) -> dict[str, Worker]:
    return {name: Worker(name, weights.get(name, 1.0)) for name in names}


def assigned(made: Assignments, key: tuple[str, str], among: dict[str, Worker], now: float, unsent: int = 1) -> str:
    study = made.assign(key, among, now, awaits_result=False)
    if study is None:
        return ""
    study.unsent += unsent
    made.changed(key, now)
    return study.worker


def test_a_study_keeps_its_worker_also_while_that_is_down_or_paused() -> None:
    made, two = Assignments(), workers("a", "b")
    assert assigned(made, ("r", "1"), two, 0) == "a"
    two["a"] = Worker("a", is_up=False)
    assert assigned(made, ("r", "1"), two, 1) == "a"
    assert assigned(made, ("r", "2"), two, 1) == "b"
    two["a"], two["b"] = Worker("a", is_paused=True), Worker("b", is_up=False)
    assert assigned(made, ("r", "1"), two, 2) == "a"
    assert assigned(made, ("r", "3"), two, 2) == "", "none may get it: it waits"
    assert made.worker_of("r", "3") == ""


def test_studies_go_where_the_least_is_by_weight() -> None:
    made, two = Assignments(), workers("a", "b", b=2)
    assert [assigned(made, ("r", str(number)), two, 0) for number in range(6)].count("b") == 4


def test_of_equal_ones_the_one_without_this_study_then_with_the_fewest_today_then_the_first() -> None:
    made, three = Assignments(), workers("a", "b", "c")
    assert assigned(made, ("r", "1"), three, 0, unsent=0) == "a"
    assert assigned(made, ("r", "2"), three, 0, unsent=0) == "b", "a had one today"
    assert assigned(made, ("r", "3"), three, 0, unsent=0) == "c"
    assert assigned(made, ("r", "4"), three, 0, unsent=0) == "a"
    assert assigned(made, ("other", "4"), three, 0, unsent=0) == "b", "a holds it for another route"
    assert assigned(made, ("r", "5"), three, DAY, unsent=0) == "a", "a new day"


def test_a_result_that_does_not_come_is_waited_for_so_long() -> None:
    made, two = Assignments(busy=10), workers("a", "b")
    study = made.assign(("r", "1"), two, 0, awaits_result=True)
    assert study
    assert made.live("a", 9) == {("r", "1")}
    assert made.live("a", 10) == set()
    study.unsent, study.last = 1, 20
    made.changed(("r", "1"), 20)
    study.unsent = 0
    made.changed(("r", "1"), 21)
    assert made.live("a", 29) == {("r", "1")}
    study.awaits_result = False
    made.changed(("r", "1"), 29)
    assert made.live("a", 29) == set()


def test_a_study_is_forgotten_when_nothing_happened_for_long() -> None:
    made, one = Assignments(), workers("a")
    assigned(made, ("r", "1"), one, 0, unsent=0)
    assigned(made, ("r", "2"), one, 0)
    assert list(made.forget(REMEMBER - 1)) == []
    assert list(made.forget(REMEMBER)) == [("r", "1")], "what is unsent is not forgotten"
    assert made.worker_of("r", "1") == ""


def test_a_hundred_thousand_studies_remembered_cost_an_assignment_nothing() -> None:
    made, eight = Assignments(), workers(*"abcdefgh")
    for number in range(100_000):
        study = Study("abcdefgh"[number % 8], 0, awaits_result=True)
        study.unsent = int(number % 50 == 0)
        made.restore((f"r{number % 3}", str(number)), study, 1000)
    assert sum(len(made.live(name, 1000)) for name in eight) == 2000
    begun = time.thread_time()
    for number in range(100):
        assert made.assign(("new", str(number)), eight, 1000, awaits_result=True)
    assert (time.thread_time() - begun) / 100 < 0.001


class Machine(RuleBasedStateMachine):
    """Whatever happens: the quick answers are those of counting everything."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Assignments(BUSY, REMEMBER)
        self.workers = workers("a", "b", "c", b=2.5)
        self.now = 0.0
        self.given: dict[tuple[str, str], str] = {}
        self.today: dict[tuple[str, int], int] = {}

    keys = st.tuples(st.sampled_from(("r", "s")), st.sampled_from("12345678"))
    names = st.sampled_from("abc")

    def naive_live(self, worker: str) -> set[tuple[str, str]]:
        found = self.made.studies.items()
        return {key for key, study in found if study.worker == worker and study.is_live(self.now, BUSY)}

    def count(self, worker: str) -> None:
        day = (worker, int(self.now // DAY))
        self.today[day] = self.today.get(day, 0) + 1

    @rule(key=keys, awaits=st.booleans())
    def assign(self, key: tuple[str, str], awaits: bool) -> None:
        free = [one for one in self.workers.values() if one.is_up and not one.is_paused]
        held = {study.worker for (route, uid), study in self.made.studies.items() if uid == key[1] and route != key[0]}
        day = int(self.now // DAY)
        best = min(
            free,
            key=lambda one: (
                len(self.naive_live(one.name)) / one.weight,
                one.name in held,
                self.today.get((one.name, day), 0),
            ),
            default=None,
        )
        study = self.made.assign(key, self.workers, self.now, awaits_result=awaits)
        if key in self.given:
            assert study
            assert study.worker == self.given[key], "a study keeps its worker"
        elif best is None:
            assert study is None
        else:
            assert study
            assert study.worker == best.name
            self.given[key] = best.name
            self.count(best.name)

    @rule(key=keys, unsent=st.integers(0, 2), series=st.integers(0, 1), answered=st.booleans(), sent=st.booleans())
    def change(self, key: tuple[str, str], unsent: int, series: int, answered: bool, sent: bool) -> None:
        study = self.made.studies.get(key)
        if study:
            study.unsent, study.open_series = unsent, series
            study.awaits_result = study.awaits_result and not answered
            study.last = self.now if sent else study.last
            self.made.changed(key, self.now)

    @rule(key=keys, to=names)
    def move(self, key: tuple[str, str], to: str) -> None:
        if key in self.made.studies:
            self.made.move(key, to, self.now)
            self.given[key] = to
            self.count(to)

    @rule(name=names, is_up=st.booleans(), is_paused=st.booleans())
    def worker(self, name: str, is_up: bool, is_paused: bool) -> None:
        self.workers[name] = self.workers[name]._replace(is_up=is_up, is_paused=is_paused)

    @rule(seconds=st.sampled_from((1.0, 300.0, BUSY, 0.4 * DAY, REMEMBER)))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def forget(self) -> None:
        before = dict(self.made.studies)
        for key in self.made.forget(self.now):
            assert not before[key].is_live(self.now, BUSY)
            assert before[key].last + REMEMBER <= self.now
            del self.given[key]
        assert all(
            study.last + REMEMBER > self.now or study.is_live(self.now, BUSY) for study in self.made.studies.values()
        )

    @rule()
    def restart(self) -> None:
        """Studies are kept; of today's count what they tell."""
        kept, self.made = self.made.studies, Assignments(BUSY, REMEMBER)
        self.today.clear()
        for key, study in kept.items():
            self.made.restore(key, study, self.now)
            if int(study.began // DAY) == int(self.now // DAY):
                self.count(study.worker)

    @invariant()
    def live_is_what_counting_finds(self) -> None:
        for name in "abc":
            assert self.made.live(name, self.now) == self.naive_live(name)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40)

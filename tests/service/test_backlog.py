"""The backlog against a simple model: nothing is lost, nothing is in two places, and the order holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from listener.records import Arrival
from listener.service.backlog import AGAIN, FULL, KNOWN, NEW, Backlog

CAPACITY = 5
PATHS = st.sampled_from([f"/in/{letter}" for letter in "abcdefghij"])


def arrival(path: str, time_ns: int = 1, **more: Any) -> Arrival:
    return Arrival(path, 0, time_ns, "event", **more)


class Model(RuleBasedStateMachine):
    """Three plain containers and a clock that only rules move."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog(CAPACITY)
        self.line: list[Arrival] = []
        self.working: dict[str, Arrival] = {}
        self.again: set[str] = set()
        self.sleeping: dict[str, tuple[float, Arrival]] = {}
        self.now = 0.0
        self.entered = 0

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(path=PATHS, size=st.integers(0, 10), when=st.integers(1, 1000), source=st.sampled_from(["event", "rescan"]))
    def offer(self, path: str, size: int, when: int, source: str) -> None:
        made = Arrival(path, 0, when, source, size=size)
        known = path in self.sleeping or any(one.path == path for one in self.line)
        full = len(self.line) >= CAPACITY
        answer = self.backlog.offer(made)
        if path in self.sleeping and source == "event":
            assert answer == AGAIN, "it was closed a moment ago: no need to wait"
            self.line.append(self.sleeping.pop(path)[1])
        elif known:
            assert answer == KNOWN
        elif path in self.working:
            assert answer == AGAIN
            self.again.add(path)
        elif answer == FULL:
            assert full
        else:
            assert answer == NEW
            assert not full
            self.line.append(made)
            self.entered += 1

    @rule(target=held, most=st.integers(1, 4))
    def take(self, most: int) -> list[Arrival]:
        taken = self.backlog.take(most)
        assert taken == self.line[: len(taken)]
        assert len(taken) <= most
        assert bool(taken) == bool(self.line)
        if len(taken) > 1:
            assert not any(one.losses for one in taken), "what was begun before comes alone"
        elif len(taken) < min(most, len(self.line)):
            assert taken[0].losses or self.line[1].losses
        del self.line[: len(taken)]
        self.working |= {one.path: one for one in taken}
        return taken

    @rule(batch=consumes(held), wakes=st.floats(0, 5), how=st.sampled_from(["finish", "defer", "die"]))
    def answer(self, batch: list[Arrival], wakes: float, how: str) -> None:
        if how == "die":
            again = [one._replace(losses=one.losses + 1) for one in batch]
            for one in batch:
                del self.working[one.path]
                self.backlog.finish(one.key)
                self.again.discard(one.path)
            self.backlog.put_back(again)
            self.line[:0] = again
            return
        for one in batch:
            del self.working[one.path]
            if how == "finish":
                assert self.backlog.finish(one.path) is (one.path in self.again)
                self.again.discard(one.path)
            else:
                self.backlog.defer(one.key, one, self.now + wakes)
                self.sleeping[one.path] = (self.now + wakes, one)
                self.again.discard(one.path)

    @rule(seconds=st.floats(0.1, 3))
    def wake(self, seconds: float) -> None:
        self.now += seconds
        due = sorted((moment, path) for path, (moment, _) in self.sleeping.items() if moment <= self.now)
        assert self.backlog.wake(self.now) == len(due)
        self.line += [self.sleeping.pop(path)[1] for _, path in due]

    @rule(count=st.integers(0, 1000))
    def rescan(self, count: int) -> None:
        self.backlog.set_beyond(count)

    @precondition(lambda self: not self.working)
    @rule(path=PATHS)
    def finish_a_stranger(self, path: str) -> None:
        assert self.backlog.finish(path) is False

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def counts_are_the_model_s(self) -> None:
        backlog = self.backlog
        assert backlog.queued == len(self.line)
        assert backlog.waiting == len(self.line) + backlog.beyond
        assert backlog.working == len(self.working)
        assert backlog.retrying == len(self.sleeping)
        assert backlog.depth == backlog.waiting + backlog.working + backlog.retrying

    @invariant()
    def a_path_is_in_one_state(self) -> None:
        states = [one.path for one in self.line] + list(self.working) + list(self.sleeping)
        assert len(states) == len(set(states))
        for path in states:
            assert self.backlog.holds(path)
        assert not self.backlog.holds("/in/never")

    @invariant()
    def the_oldest_and_the_bytes(self) -> None:
        every = [*self.line, *self.working.values(), *(one for _, one in self.sleeping.values())]
        assert self.backlog.oldest_ns() == min((one.time_ns for one in every), default=0)
        assert self.backlog.bytes == sum(one.size for one in every)

    @invariant()
    def the_next_retry_is_the_first_due(self) -> None:
        due = self.backlog.next_due()
        assert due == min((moment for moment, _ in self.sleeping.values()), default=None)

    @invariant()
    def it_says_when_it_is_full(self) -> None:
        if len(self.line) >= CAPACITY:
            assert self.backlog.full


Model.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


def filled(*arrivals: Arrival) -> Backlog:
    backlog = Backlog(100)
    for one in arrivals:
        assert backlog.offer(one) == NEW
    return backlog


@given(st.lists(PATHS, unique=True))
def test_what_came_first_goes_first(paths: list[str]) -> None:
    backlog = filled(*map(arrival, paths))
    assert [one.path for _ in paths for one in backlog.take(1)] == paths


def test_what_a_dead_worker_held_comes_first_again_in_its_order() -> None:
    backlog = filled(*map(arrival, ("a", "b", "c", "d")))
    held = backlog.take(2)
    for one in held:
        backlog.finish(one.key)
    backlog.put_back(held)
    assert [one.path for one in backlog.take(4)] == ["a", "b", "c", "d"]


def test_what_was_begun_before_comes_alone() -> None:
    begun = arrival("b", losses=1), arrival("c", claim="/claims/c")
    backlog = filled(arrival("a"), *begun, arrival("d"), arrival("e"))
    assert [[one.path for one in backlog.take(9)] for _ in range(4)] == [["a"], ["b"], ["c"], ["d", "e"]]


def test_a_batch_of_large_files_is_small() -> None:
    backlog = filled(*(arrival(str(number), size=300 * 2**20) for number in range(4)))
    assert len(backlog.take(32)) == 2


def test_a_path_that_is_offered_while_it_is_worked_on_is_looked_at_again_once() -> None:
    backlog = filled(arrival("a"))
    backlog.take(1)
    assert [backlog.offer(arrival("a")) for _ in range(3)] == [AGAIN] * 3
    assert backlog.finish("a") is True
    assert backlog.offer(arrival("a")) == NEW
    backlog.take(1)
    assert backlog.finish("a") is False


def test_two_claims_of_one_name_are_two_arrivals() -> None:
    """`a/IM1` and `b/IM1` were claimed when the service was killed; a claim's name holds the base name only."""
    backlog = Backlog(10)
    backlog.put_back([arrival("/in/IM1", claim="/claims/1.IM1")])
    backlog.put_back([arrival("/in/IM1", claim="/claims/2.IM1")])
    taken: list[str] = []
    while batch := backlog.take(1):
        taken += [one.claim for one in batch]
        backlog.finish(batch[0].key)
    assert sorted(taken) == ["/claims/1.IM1", "/claims/2.IM1"]


def test_a_claim_takes_the_place_of_what_was_given_to_a_worker() -> None:
    backlog = filled(arrival("/in/a", 7))
    (taken,) = backlog.take(1)
    claimed = taken._replace(claim="/claims/7.a")
    assert backlog.exchange(taken, claimed) == claimed
    assert backlog.holds("/claims/7.a")
    assert not backlog.holds("/in/a")
    assert backlog.offer(arrival("/in/a", 9)) == NEW, "a new file of that name is another arrival"
    assert backlog.oldest_ns() == 7
    backlog.finish(claimed.key)
    assert backlog.oldest_ns() == 9


def test_a_retry_lies_where_the_claim_is() -> None:
    backlog = filled(arrival("/in/a"))
    (taken,) = backlog.take(1)
    backlog.defer(taken.key, taken._replace(claim="/claims/1.a"), 5.0)
    assert (backlog.working, backlog.retrying) == (0, 1)
    assert backlog.offer(arrival("/in/a")) == NEW
    assert [backlog.wake(4.9), backlog.wake(5.0)] == [0, 1]
    assert [[one.key for one in backlog.take(5)] for _ in range(2)] == [["/in/a"], ["/claims/1.a"]]

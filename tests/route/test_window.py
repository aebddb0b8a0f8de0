"""The next sends of a target, in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.route.queue import Send
from listener.route.window import Window


def send(number: int, study: int = 1, priority: int = 1, round_: int = 1) -> Send:
    return Send(
        number, round_, "gpu1", "worker", "all", study, f"1.{study}", f"1.2.{number}", "a/b", 1, 2, 3, priority, 0, 0
    )


def taken(window: Window) -> list[int]:
    """Take and release until nothing is left."""
    numbers = []
    while found := window.take(0):
        numbers.append(found.id)
        window.release(found)
    return numbers


def test_high_goes_before_low_and_then_in_the_order_of_the_queue() -> None:
    window = Window()
    window.offer([send(3, study=1, priority=1), send(1, study=2, priority=2), send(2, study=3, priority=1)])
    window.offer([send(4, study=4, priority=0)])
    assert taken(window) == [4, 2, 3, 1]


def test_of_a_study_one_at_a_time_is_in_hand_and_others_are_not_held_up() -> None:
    window = Window()
    window.offer([send(1, study=1), send(2, study=1), send(3, study=2)])
    first, second = window.take(0), window.take(0)
    assert first
    assert second
    assert (first.id, second.id) == (1, 3)
    assert window.take(0) is None
    window.release(first)
    assert taken(window) == [2]


def test_what_is_offered_twice_is_taken_once_until_it_is_recorded() -> None:
    window = Window()
    window.offer([send(1)])
    window.offer([send(1)])
    found = window.take(0)
    assert found
    window.offer([send(1)])
    window.release(found)
    window.offer([send(1)])
    assert taken(window) == []
    window.forget(found)
    window.offer([send(1)])
    assert taken(window) == [1]


def test_what_was_not_answered_is_the_next_again() -> None:
    window = Window()
    window.offer([send(1), send(2)])
    found = window.take(0)
    assert found
    window.release(found, again=True)
    assert taken(window) == [1, 2]


def test_a_later_round_takes_the_place_of_what_waits() -> None:
    window = Window()
    window.offer([send(1)])
    window.offer([send(1, round_=2)])
    found = window.take(0)
    assert found
    assert found.round == 2
    assert window.take(0) is None


def test_a_study_that_moved_is_gone_also_what_is_in_hand() -> None:
    window = Window()
    window.offer([send(1), send(2), send(3, study=2)])
    found = window.take(0)
    assert found
    window.drop(1)
    window.release(found, again=True)
    assert taken(window) == [3]


def test_what_waits_can_be_cleared_and_what_is_in_hand_stays_known() -> None:
    window = Window()
    window.offer([send(1), send(2, study=2)])
    found = window.take(0)
    assert found
    window.clear()
    window.offer([send(1)])
    window.release(found)
    assert taken(window) == []


def test_what_goes_behind_one_in_hand_is_prepared_and_nobody_else_takes_of_its_study() -> None:
    window = Window()
    window.offer([send(1), send(2), send(3), send(5), send(4, study=2)])
    first = window.take(0)
    assert first
    prepared = window.prepare(first, 2)
    assert [one.id for one in prepared] == [2, 3]
    other = window.take(0)
    assert other
    assert other.id == 4
    window.release(first, again=True)
    assert window.take(0) is None
    assert window.begin(prepared[0])
    for one in prepared:
        window.release(one, again=True)
    assert taken(window) == [1, 2, 3, 5]


def test_nothing_is_prepared_of_another_study_or_priority() -> None:
    window = Window()
    window.offer([send(1), send(2, study=2), send(3)])
    first = window.take(0)
    assert first
    assert window.prepare(first, 8) == []
    window.release(first)
    assert taken(window) == [2, 3]


def test_what_was_prepared_waits_for_what_goes_before_it() -> None:
    window = Window()
    window.offer([send(1), send(2)])
    first = window.take(0)
    assert first
    (second,) = window.prepare(first, 8)
    window.offer([send(3, study=2, priority=0)])
    assert not window.begin(second)
    window.release(second, again=True)
    window.release(first)
    assert taken(window) == [3, 2]


def moved(window: Window) -> None:
    window.drop(1)


def cleared(window: Window) -> None:
    window.clear()


@pytest.mark.parametrize("leave", [moved, cleared])
def test_what_was_prepared_is_not_begun_when_its_study_left(leave: Callable[[Window], None]) -> None:
    window = Window()
    window.offer([send(1), send(2)])
    first = window.take(0)
    assert first
    (second,) = window.prepare(first, 8)
    leave(window)
    window.offer([send(2)])
    assert not window.begin(second)
    window.release(second, again=True)
    window.release(first)
    assert taken(window) == [2]


def test_a_closed_one_gives_nothing() -> None:
    window = Window()
    window.offer([send(1)])
    window.close()
    assert window.take(10) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40), st.randoms(use_true_random=False))
def test_each_is_taken_once_and_of_a_study_in_order(wanted: list[tuple[int, int]], dice: object) -> None:
    import random

    assert isinstance(dice, random.Random)
    window = Window()
    sends = [send(number, study, study % 3) for number, (study, _) in enumerate(wanted)]
    window.offer(sends)
    in_hand: list[Send] = []
    order: list[Send] = []
    while True:
        found = window.take(0)
        if found:
            assert found.study_id not in {one.study_id for one in in_hand}
            in_hand.append(found)
            for following in window.prepare(found, dice.randrange(4)):
                assert following.study_id == found.study_id
                window.release(following, again=True)
        elif not in_hand:
            break
        if in_hand and (not found or dice.random() < 0.5):
            done = in_hand.pop(dice.randrange(len(in_hand)))
            again = dice.random() < 0.3
            window.release(done, again=again)
            if not again:
                order.append(done)
    assert sorted(one.id for one in order) == list(range(len(sends)))
    for study in {one.study_id for one in sends}:
        numbers = [one.id for one in order if one.study_id == study]
        assert numbers == sorted(numbers)

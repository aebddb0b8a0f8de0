"""Whether a target is up, down or full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from listener.route.health import DOWN, FULL, UNKNOWN, UP, Health


def state(health: Health) -> str:
    return health.standing.state


def on_trial(health: Health) -> bool:
    return health.standing.on_trial


def test_one_failure_is_none_and_two_within_a_moment_neither() -> None:
    health = Health(3.0)
    assert health.failed(10.0, "refused", "nobody listens there") == 0.5
    assert health.failed(10.1, "refused", "nobody listens there") <= 0.5
    assert state(health) == UNKNOWN
    assert health.standing.takes_studies


def test_who_fails_at_every_attempt_for_so_long_is_down() -> None:
    health = Health(3.0)
    for moment in (10.0, 11.0, 12.0):
        health.failed(moment, "refused", "")
    assert state(health) == UNKNOWN
    health.failed(13.0, "refused", "")
    assert state(health) == DOWN
    assert health.standing.lets_go(13.0, 3.0)
    assert not health.standing.takes_studies


def test_a_silence_that_took_longer_than_that_is_one_attempt() -> None:
    health = Health(3.0)
    health.failed(10.0, "timeout", "")
    assert state(health) != DOWN
    health.failed(25.0, "timeout", "")
    assert state(health) == DOWN


def test_an_answer_in_between_begins_anew() -> None:
    health = Health(3.0)
    health.failed(10.0, "refused", "")
    health.answered(12.0, stored=False)
    health.failed(14.0, "refused", "")
    assert state(health) == UP


def test_an_ae_title_that_is_rejected_is_down_at_once() -> None:
    health = Health(3.0)
    health.failed(10.0, "title", "the called AE title is not recognized")
    assert state(health) == DOWN


def test_who_comes_back_is_on_trial_until_it_has_stored_something() -> None:
    health = Health(0.0)
    health.failed(10.0, "refused", "")
    health.failed(10.1, "refused", "")
    health.answered(20.0, stored=False)
    assert state(health) == UP
    assert on_trial(health)
    health.answered(21.0, stored=True)
    assert not on_trial(health)
    assert health.standing.since == 20.0


def test_who_echoes_and_stores_nothing_is_down_again_at_once_and_tried_less_often() -> None:
    health, pauses = Health(3.0, is_down=True), []
    health.answered(9.0, stored=False)
    for moment in (10.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0):
        pauses.append(health.failed(moment, "aborted", ""))
        assert (state(health) == DOWN) == (moment > 10)
        health.answered(moment + 0.1, stored=False)
        assert state(health) == UP
    assert pauses[1:] == [1, 2, 4, 8, 10, 10]


def test_a_full_one_rests_longer_each_time_and_lets_go_after_a_while() -> None:
    health = Health(3.0)
    assert [health.full(10.0 + number, "") for number in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert state(health) == FULL
    assert not health.standing.takes_studies
    assert not health.standing.lets_go(12.0, 3.0)
    assert health.standing.lets_go(13.0, 3.0)
    health.answered(14.0, stored=False)
    assert on_trial(health), "an echo needs no room"
    assert health.full(14.5, "") == 30
    health.answered(15.0, stored=True)
    assert not on_trial(health)
    assert health.full(20.0, "") == 1


def test_one_that_was_down_before_stays_so_until_it_answers() -> None:
    health = Health(3.0, is_down=True)
    assert state(health) == DOWN
    health.answered(1.0, stored=False)
    assert on_trial(health)


@given(st.lists(st.sampled_from(["fail", "full", "echo", "store"])), st.floats(0, 10))
def test_it_waits_between_attempts_and_never_for_long(steps: list[str], down_after: float) -> None:
    health, now = Health(down_after), 0.0
    for step in steps:
        now += 1.0
        if step == "fail":
            assert 0.05 <= health.failed(now, "refused", "") <= 10
        elif step == "full":
            assert 1 <= health.full(now, "") <= 30
        else:
            health.answered(now, stored=step == "store")
    if steps and steps[-1] == "store":
        assert state(health) == UP
        assert not on_trial(health)

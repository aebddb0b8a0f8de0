"""Files that wait alone for their own place: when each is tried again, which try is the last, and what is told."""

from __future__ import annotations

import pytest

from listener.records import Deferral
from listener.service.held_up import MOST, RATE, SHOWN, HeldUp, shown_together

GIVE_UP = 3600.0


def held_up(give_up: float = GIVE_UP) -> HeldUp:
    return HeldUp(give_up, lambda tries: float(min(tries, 30)))


def refused(series: str = "1.2.3", error: str = "Not a directory") -> Deferral:
    place = "level 1 below the data directory"
    return Deferral("/incoming/x", 0, 0, "io-error", "place", error, "/claim/x", place=place, series=series)


def test_a_file_is_tried_again_at_growing_intervals_and_the_last_try_is_at_the_end() -> None:
    one, now = held_up(), 0.0
    moments = []
    while True:
        turn = one.refuse("a", "a", refused(), now)
        moments.append(turn.due - now)
        now = turn.due
        if turn.last:
            break
    assert moments[:3] == [1.0, 2.0, 3.0]
    assert max(moments) == 30.0
    assert now == GIVE_UP, "neither earlier nor later"
    assert one.refuse("a", "a", refused(), now).last, "what could not be set aside either goes on waiting"
    assert one.forget("a")
    assert not one.forget("a")


def test_giving_up_at_once() -> None:
    assert held_up(0).refuse("a", "a", refused(), 5.0) == (6.0, True, True)


def test_time_counts_from_the_first_refusal_whatever_the_file_is_called_by_then() -> None:
    one = held_up(10.0)
    one.refuse("/incoming/x", "/claim/x.0", refused(), 0.0)
    one.move("/claim/x.0", "/claim/x.1")
    turn = one.refuse("/claim/x.1", "/claim/x.2", refused(error="Is a directory"), 9.5)
    assert turn == (10.0, True, True)
    assert one.holds("/claim/x.2")
    assert len(one) == 1


def test_a_place_is_news_once_in_a_while_and_a_flood_is_not() -> None:
    one = held_up()
    assert one.refuse("a", "a", refused(), 0.0).news
    assert not one.refuse("b", "b", refused(), 1.0).news
    assert not one.refuse("a", "a", refused(), 2.0).news, "its only file, tried again"
    told = [one.refuse(str(number), str(number), refused(str(number)), 3.0).news for number in range(100)]
    assert sum(told) == 9
    assert one.refuse("a", "a", refused(), 301.0).news
    assert one.refuse("c", "c", refused("another"), 302.0).news


def test_many_are_tried_so_seldom_that_the_others_go_on() -> None:
    one = held_up()
    tries: list[float] = [one.refuse(str(number), str(number), refused(), 0.0).due for number in range(5000)]
    assert max(tries) == 5000 / RATE


def test_memory_is_bounded() -> None:
    one = held_up()
    turns = [one.refuse(str(number), str(number), refused(), 0.0) for number in range(MOST + 2)]
    assert [turn.last for turn in turns[-3:]] == [False, True, True]


@pytest.mark.parametrize("places", [0, 1, SHOWN, SHOWN + 5])
def test_what_is_shown(places: int) -> None:
    one = held_up()
    for place in range(places):
        for file in range(place + 1):
            key = f"{place}-{file}"
            one.refuse(key, key, refused(str(place)), 10.0)
    told = one.shown(25.0)
    assert told["files"] == sum(range(places + 1)) == sum(one.counts().values())
    assert told["places"] == places
    assert len(told["shown"]) == min(places, SHOWN)
    if places:
        assert told["shown"][0] == {
            "reason": "io-error",
            "stage": "place",
            "error": "Not a directory",
            "place": "level 1 below the data directory",
            "SeriesInstanceUID": str(places - 1),
            "files": places,
            "seconds": 15.0,
        }


def test_several_ways_in_are_shown_together_the_fullest_places_first() -> None:
    incoming, batches = held_up(), held_up()
    incoming.refuse("a", "a", refused("1.2.3"), 0.0)
    for key in "bc":
        batches.refuse(key, key, refused("1.2.4"), 0.0)
    for number in range(SHOWN):
        incoming.refuse(str(number), str(number), refused(f"1.3.{number}"), 0.0)
    shown = shown_together([incoming, batches], 5.0)
    assert (shown["files"], shown["places"], len(shown["shown"])) == (SHOWN + 3, SHOWN + 2, SHOWN)
    assert (shown["shown"][0]["SeriesInstanceUID"], shown["shown"][0]["files"]) == ("1.2.4", 2)
    assert shown_together([], 0.0) == {"files": 0, "places": 0, "shown": []}

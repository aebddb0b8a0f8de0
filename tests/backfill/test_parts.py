"""The parts together: what is left, which are missing, how long it takes yet."""

from __future__ import annotations

from typing import Any

import pytest

from listener.backfill.parts import STATES, Part, document, is_complete, missing, named, summary, unfinished

SECOND = 10**9
NOW = 1_800_000_000 * SECOND
BEGUN, ENDED = "2027-01-15T07:58:20.000000Z", "2027-01-15T07:59:00.000000Z"


def said(**more: Any) -> dict[str, Any]:
    found = {"listed": 10, "published": 8, "duplicate": 1, "set_aside": 0, "vanished": 1, "left": 0, "bytes": 100}
    return found | {"begun": BEGUN, "ended": ENDED, "host": "one", "time_ns": NOW} | more


@pytest.mark.parametrize(
    ("names", "lists", "absent"),
    [
        ([], [], []),
        (["0-of-2", "1-of-2"], [], []),
        (["00-of-12", "11-of-12"], [], [f"{number:02d}-of-12" for number in range(1, 11)]),
        (["0-of-2", "1-of-2-by-name"], [], ["0-of-2-by-name", "1-of-2"]),
        (["list-0000-1-of-2"], [], ["list-0000-0-of-2"]),
        (["list-0000", "list-0002"], ["list-0000", "list-0001", "list-0002"], ["list-0001"]),
    ],
)
def test_what_was_never_begun_is_named(names: list[str], lists: list[str], absent: list[str]) -> None:
    assert missing(names, lists) == absent


def test_what_has_ended_adds_up() -> None:
    found = document([Part(f"{number}-of-2", said(), None) for number in range(2)], [], NOW)
    assert (found["listed"], found["published"], found["left"], found["rate"]) == (20, 16, 0, 0.5)
    assert found["states"] == dict.fromkeys(STATES, 0) | {"ended": 2}
    assert is_complete(found)
    assert unfinished(found) == ([], 0)
    assert summary(found).splitlines()[0] == "2 parts: 2 ended"


@pytest.mark.parametrize(
    ("parts", "lists"),
    [
        ([], []),
        ([Part("0-of-2", said(), None)], []),
        ([Part("list", said(), None)], ["other"]),
        ([Part("0-of-1", said(left=1), None)], []),
        ([Part("0-of-1", said(unread=1), None)], []),
        ([Part("0-of-1", None, said(ended=None))], []),
        ([Part("0-of-1", None, None)], []),
    ],
)
def test_what_is_left_or_missing_is_not_complete(parts: list[Part], lists: list[str]) -> None:
    assert not is_complete(document(parts, lists, NOW))


def test_the_time_that_is_left_counts_parts_that_were_not_begun() -> None:
    """One of two parts runs, and has done 5 of its 10 files in 100 s."""
    running = Part("0-of-2", None, said(published=5, duplicate=0, vanished=0, left=5, ended=None))
    found = document([running], [], NOW)
    assert found["states"]["running"] == found["states"]["missing"] == 1
    assert (found["seconds"], found["seconds_left"]) == (100.0, pytest.approx(300, rel=0.01))
    assert "5 min left" in summary(found)
    silent = document([running], [], NOW + 16 * SECOND)
    assert (silent["states"]["silent"], silent["seconds_left"]) == (1, None)


def test_many_names_are_cut() -> None:
    assert named([str(number) for number in range(25)]).endswith(", 19 and 5 more")

"""What a consumer wants: events, and of these by modality, sender and result."""

from __future__ import annotations

import pytest

from listener.ledger.interests import EVENTS, SERIES_EVENTS, About, Interest, interest_of, text_of

MR = About(("MR",), ("SCANNER1",), ("quiet", "complete"))

CASES = {
    "everything of series": (Interest(), "series-complete", MR, True),
    "no study without being asked": (Interest(), "study-complete", MR, False),
    "another event": (Interest(("set-aside",)), "series-complete", MR, False),
    "its modality": (Interest(modalities=("CT", "MR")), "series-complete", MR, True),
    "another modality": (Interest(modalities=("CT",)), "series-complete", MR, False),
    "one modality of a study": (
        Interest(EVENTS, modalities=("SR",)),
        "study-complete",
        About(("CT", "SR"), ("A", "B"), ("complete",)),
        True,
    ),
    "its sender": (Interest(senders=("SCANNER1",)), "series-complete", MR, True),
    "senders by a pattern": (Interest(senders=("SCAN*",)), "series-complete", MR, True),
    "case matters": (Interest(senders=("scan*",)), "series-complete", MR, False),
    "no sender is known": (Interest(senders=("SCAN*",)), "series-complete", About(("MR",), ("",), ("quiet",)), False),
    "its result": (Interest(results=("quiet",)), "series-complete", MR, True),
    "how it stands": (Interest(results=("complete",)), "series-complete", MR, True),
    "another result": (Interest(results=("late", "incomplete")), "series-complete", MR, False),
    "a file has no result": (Interest(results=("late",)), "set-aside", About(("MR",), ("SCANNER1",)), True),
    "all must agree": (Interest(modalities=("MR",), senders=("X",)), "series-complete", MR, False),
}


@pytest.mark.parametrize(("interest", "event", "about", "wanted"), CASES.values(), ids=CASES.keys())
def test_what_is_wanted(interest: Interest, event: str, about: About, wanted: bool) -> None:
    assert interest.covers(event, about) is wanted
    assert interest_of(text_of(interest)).covers(event, about) is wanted, "also from a row"


def test_a_row_of_before_says_nothing_and_means_series() -> None:
    assert text_of(Interest()) == ""
    assert interest_of("").events == SERIES_EVENTS


@pytest.mark.parametrize("text", ["nonsense", "[]", "5", '{"events": 5}', "null"])
def test_what_cannot_be_read_excludes_nothing(text: str) -> None:
    assert interest_of(text) == Interest()

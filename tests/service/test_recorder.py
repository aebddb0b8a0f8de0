"""What the recorder shows of set-aside: at once what is done here, and soon what others do there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from listener.ledger.thread import LedgerThread
from listener.records import Outcome
from listener.repacking import setaside
from listener.repacking.setaside import Totals
from listener.service.recorder import Recorder
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics


class Reconciled:
    """A ledger's thread that only keeps what it is to compare with."""

    def __init__(self) -> None:
        self.totals: list[dict[str, Any]] = []

    def finished(self, _: object) -> None:
        """Nothing."""

    def reconcile_set_aside(self, totals: dict[str, Any]) -> None:
        self.totals.append(totals)


class Place:
    """A recorder of a set-aside directory."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "set-aside/empty"
        self.folder.mkdir(parents=True)
        self.metrics, self.ledger = Metrics({}, {}, ()), Reconciled()
        parts = (self.metrics, Events(phi=False), cast(LedgerThread, self.ledger), str(base / "set-aside"))
        self.recorder = Recorder(*parts)

    def look(self) -> tuple[int, int]:
        """Files that are shown after a look, as soon as one may be counted again, and how often they were counted."""
        now = time.monotonic() + 1.0
        self.recorder.count_set_aside(now)
        while self.recorder.counting:
            self.recorder.count_on()
        self.recorder.count_set_aside(now)
        return int(self.metrics.gauges["set_aside_files"]["empty",]), len(self.ledger.totals)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_somebody_takes_away_or_puts_there_is_shown_at_the_next_look(place: Place) -> None:
    (place.folder / "a").write_bytes(b"")
    begun = place.look()[1]
    assert place.look() == (1, begun), "nothing has changed: not counted again"
    (place.folder / "a").unlink()
    assert place.look()[0] == 0
    (place.folder / "b").write_bytes(b"")
    assert place.look()[0] == 1


def test_what_is_set_aside_here_is_not_counted_again(place: Place) -> None:
    begun = place.look()[1]
    path = place.folder / "a"
    path.write_bytes(b"")
    now_ns = time.time_ns()
    outcome = Outcome("set-aside", "/in/a", 0, now_ns, now_ns, now_ns, reason="empty", dst=str(path))
    place.recorder.finished([outcome])
    assert place.look() == (1, begun)


def test_what_a_count_found_before_its_outcome_came_is_counted_once(place: Place) -> None:
    """A worker puts a file aside, the count of the same second finds it, and then the outcome arrives."""
    place.look()
    path = place.folder / "a"
    path.write_bytes(b"")
    finished_ns = time.time_ns()
    counted, begun = place.look()
    assert counted == 1
    place.recorder.finished([Outcome("set-aside", "/in/a", 0, 1, finished_ns, reason="empty", dst=str(path))])
    assert place.look() == (1, begun)


@pytest.mark.parametrize("finishes", ["during the count", "after the count"])
def test_what_came_during_a_count_and_is_told_after_it_is_counted_again_soon(
    finishes: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the count has found it cannot be told: for a moment it may be shown twice, not for a minute."""
    place.look()
    path = place.folder / "a"
    really = setaside.count_in_pieces
    begun_ns = finished_ns = 0

    def count_in_pieces(directory: str) -> Iterator[dict[str, Totals]]:
        nonlocal begun_ns, finished_ns
        begun_ns = time.time_ns()
        path.write_bytes(b"")
        finished_ns = time.time_ns()
        yield from really(directory)

    (place.folder / "of somebody else").write_bytes(b"")
    with monkeypatch.context() as during:
        during.setattr(setaside, "count_in_pieces", count_in_pieces)
        assert place.look()[0] == 2
    if finishes == "after the count":
        finished_ns = time.time_ns()
    outcome = Outcome("set-aside", "/in/a", 0, 1, finished_ns, begun_ns, reason="empty", dst=str(path))
    place.recorder.finished([outcome])
    assert place.look()[0] == 2

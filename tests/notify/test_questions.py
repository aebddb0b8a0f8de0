"""CUBE is asked no faster than it may be, and seldom while it does not answer."""

from __future__ import annotations

import time

import pytest

from listener.errors import NotTaken, Postponed
from listener.notify.cube import Found
from listener.notify.questions import Questions


class Cube:
    """A CUBE that has nothing, and fails with `fault`."""

    shown = "http://cube"

    def __init__(self) -> None:
        self.fault, self.asked = "", 0

    def find(self, series: str) -> list[Found]:
        self.asked += 1
        if self.fault:
            raise NotTaken(self.fault)
        return []


def postponed(questions: Questions, key: str) -> float:
    """For how long the question is put off."""
    with pytest.raises(Postponed) as caught:
        questions.ask(key, "1.2", "waits")
    assert caught.value.detail == "waits"
    return caught.value.seconds


def test_each_question_gets_its_moment() -> None:
    cube = Cube()
    questions = Questions(cube, 0.5)  # type: ignore[arg-type]
    assert questions.ask("a", "1.2", "waits") == []
    first, second = postponed(questions, "b"), postponed(questions, "c")
    assert first == pytest.approx(2, abs=0.5)
    assert second == pytest.approx(4, abs=0.5)
    assert postponed(questions, "b") <= first, "its moment stays"
    questions.forget("b")
    assert postponed(questions, "b") == pytest.approx(6, abs=0.5)
    assert cube.asked == 1


def test_a_cube_that_does_not_answer_is_asked_seldom_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    cube = Cube()
    questions = Questions(cube, 1000)  # type: ignore[arg-type]
    cube.fault = "http://cube answered 500"
    assert 1 <= postponed(questions, "a") <= 3
    assert questions.fault == cube.fault
    for key in "bcdefgh":
        assert postponed(questions, key) > 0.5
    assert cube.asked == 1, "nobody else asks meanwhile"
    cube.fault = ""
    questions._not_before = time.monotonic()
    questions._moments.clear()
    questions._next = 0.0
    assert questions.ask("a", "1.2", "waits") == []
    assert questions.fault == ""
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1

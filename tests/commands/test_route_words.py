"""The words of `listener route`, by the state alone: no service runs here."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.commands import _route_words as words
from listener.errors import ConfigError
from listener.route.deeds import StudyNotRouted, UnknownHeld, UnknownTarget
from listener.stages.database import StageMissing
from listener.status.snapshot import SnapshotFile
from tests.instances import instance
from tests.ledger_world import World as LedgerWorld
from tests.route.world import ROUTES, SECOND, World
from tests.waiting import until
from tests.workbench import make_config

STUDY = str(instance().StudyInstanceUID)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = LedgerWorld(tmp_path)
    ledger.came(0, 1)
    ledger.close()
    made = World(tmp_path)
    yield made
    made.close()


def say(world: World, *argv: str) -> int:
    """What the command line does with these words."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    words.add_options(parser)
    return words.run(make_config(world.state.parent), parser.parse_args(argv))


def test_without_a_service_that_ever_ran_there_is_one_line(tmp_path: Path) -> None:
    for argv in (["status"], ["studies"], ["pause", "gpu1"], ["retry"], ["held"], ["held", "--discard", "1"]):
        given = argparse.ArgumentParser()
        given.add_argument("words", nargs="*")
        words.add_options(given)
        with pytest.raises(StageMissing):
            words.run(make_config(tmp_path), given.parse_args(argv))


WRONG = {
    "route pause: which worker?": ["pause"],
    "route status: 'gpu1' is too much": ["status", "gpu1"],
    "route studies: '1.3' is too much": ["studies", "1.2", "1.3"],
    "route send: which study?": ["send"],
    "--wait is for drain": ["pause", "gpu1", "--wait"],
    "--json is for status or studies or held": ["retry", "--json"],
    "--timeout is for --wait": ["drain", "gpu1", "--timeout", "3"],
    "'x' is no number": ["held", "--discard", "x"],
}


@pytest.mark.parametrize("told", WRONG)
def test_what_does_not_belong_together_is_named(world: World, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        say(world, *WRONG[told])
    assert told in str(caught.value)


def filled(world: World) -> None:
    """A study sent, one that waits, a dead letter, something held, something unclaimed."""
    world.sent(instance(), "stockholm", "gpu1")
    world.sent(instance(patient=1), "stockholm", "gpu2", "pending")
    world.sent(instance(patient=2), "uppsala", "gpu2", "dead")
    world.run("UPDATE sends SET status = 49152, error = 'refused', attempts = 3 WHERE state = 'dead'")
    world.came(instance(series=90, Modality="SEG"))
    world.came(instance(patient=9, Modality="SR"), "GPU2")
    number = world.file(instance(patient=8), "WHO", "/srv/other")
    world.run("INSERT INTO unclaimed VALUES (?, 'WHO', '/srv/other', 0, ?)", number, world.now_ns)


def test_status_shows_targets_and_what_is_wrong(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    filled(world)
    assert say(world, "status") == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[:2] == [
        "listener route: has not run here",
        "2 waiting, 1 given up, 1 unclaimed, 0 unanswered, 1 held",
    ]
    assert [line.split()[:2] for line in lines[4:8]] == [
        ["gpu1", "worker"],
        ["gpu2", "worker"],
        ["sto", "destination"],
        ["upp", "destination"],
    ]
    assert "C000" in shown
    assert "WHO" in shown
    assert "P000" not in shown, "patient data"


def test_status_for_programs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    filled(world)
    say(world, "status", "--json")
    told = orjson.loads(capsys.readouterr().out)
    assert (told["pending"], told["dead"], told["held"]["orphan"], told["unclaimed"]) == (2, 1, 1, 1)
    gpu2 = next(one for one in told["targets"] if one["name"] == "gpu2")
    wanted = {"kind": "worker", "address": "127.0.0.1:11112", "aet": "GPU2", "pending": 1, "dead": 1, "held": 0}
    assert gpu2.items() >= wanted.items()
    assert [one["name"] for one in told["routes"]] == ["stockholm", "uppsala"]
    assert told["service"]["state"] == "absent"


def test_studies_say_who_has_them_and_what_came_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    filled(world)
    say(world, "studies", "--json")
    rows = {row["StudyInstanceUID"]: row for row in map(orjson.loads, capsys.readouterr().out.splitlines())}
    states = {str(instance(patient=number).StudyInstanceUID): number for number in range(3)}
    assert {states[uid]: (row["state"], row["worker"], row["came_back"]) for uid, row in rows.items()} == {
        0: ("answered", "gpu1", 1),
        1: ("sending", "gpu2", 0),
        2: ("asked", "gpu2", 0),
    }
    assert rows[STUDY]["destinations"] == {"sto": {"pending": 1}}
    assert say(world, "studies") == 0
    assert "1/1" in capsys.readouterr().out


def test_one_study_shows_its_moves_and_results(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    filled(world)
    world.moved("stockholm", STUDY, "gpu2")
    assert say(world, "studies", STUDY) == 0
    shown = capsys.readouterr().out
    assert "from gpu1 to gpu2 (down)" in shown
    assert str(instance(series=90).SOPInstanceUID) in shown
    with pytest.raises(StudyNotRouted):
        say(world, "studies", "1.2.3")


def test_pause_and_resume(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    say(world, "pause", "gpu1")
    assert world.row("SELECT paused FROM targets WHERE name = 'gpu1'") == (1,)
    say(world, "status")
    assert "gpu1    worker       paused" in capsys.readouterr().out
    say(world, "resume", "gpu1")
    assert world.row("SELECT paused FROM targets WHERE name = 'gpu1'") == (0,)
    for name in ("gpu3", "sto"):
        with pytest.raises(UnknownTarget):
            say(world, "pause", name)


def test_drain_says_what_is_live(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(world, "drain", "gpu1") == 0
    assert "safe to switch it off" in capsys.readouterr().out
    world.sent(instance(), "stockholm", "gpu1", "pending")
    assert say(world, "drain", "gpu1") == 0
    assert "1 study of it is live" in capsys.readouterr().out
    assert say(world, "drain", "gpu1", "--wait", "--timeout", "0.3") == 1
    assert world.row("SELECT paused FROM targets WHERE name = 'gpu1'") == (1,)


def test_drain_waits_until_nothing_is_live(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sent(instance(), "stockholm", "gpu1", "pending")
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(say(world, "drain", "gpu1", "--wait")))
    waiting.start()
    until(lambda: world.row("SELECT paused FROM targets WHERE name = 'gpu1'") == (1,))
    world.run("UPDATE sends SET state = 'delivered'")
    world.run("UPDATE series SET open = 0")
    world.run("UPDATE studies SET awaits_result = 0")
    waiting.join(120)
    assert ended == [0]
    assert "safe to switch it off" in capsys.readouterr().out


def test_drain_with_move_asks_the_service(world: World) -> None:
    assert say(world, "drain", "gpu1", "--move") == 0
    assert world.rows("SELECT verb, arguments, done_ns FROM requests") == [("move", '{"worker":"gpu1"}', 0)]


def test_send_asks_the_service_for_a_study_of_the_ledger(world: World) -> None:
    assert say(world, "send", "--study", STUDY, "--worker", "gpu2") == 0
    assert world.rows("SELECT verb, arguments FROM requests") == [
        ("send", orjson.dumps({"study": STUDY, "worker": "gpu2"}).decode())
    ]
    with pytest.raises(StudyNotRouted):
        say(world, "send", "--study", "1.2.3")
    with pytest.raises(UnknownTarget):
        say(world, "send", "--study", STUDY, "--worker", "sto")


@pytest.mark.parametrize(("said", "status"), [("", 0), ("no route matches it", 1)])
def test_a_running_service_answers(world: World, said: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    import time

    live = SnapshotFile(str(world.state / "route"))
    live.write({"state": "ready", "time_ns": time.time_ns(), "version": "1", "checks": {}})
    live.close()
    ended: list[int] = []
    asking = threading.Thread(target=lambda: ended.append(say(world, "send", "--study", STUDY)))
    asking.start()
    until(lambda: bool(world.rows("SELECT 1 FROM requests")))
    world.run("UPDATE requests SET done_ns = 1, answer = ?", said)
    asking.join(120)
    told = capsys.readouterr()
    assert (ended, said in told.err, "done" in told.out) == ([status], True, not said)


@pytest.mark.parametrize(("what", "again"), [("", 2), ("gpu2", 1), (STUDY, 1), ("gpu1", 0)])
def test_retry_sends_again_what_was_given_up(world: World, what: str, again: int) -> None:
    number = world.sent(instance(), "stockholm", "gpu2", "dead")
    world.sent(instance(patient=1), "stockholm", "gpu1", "delivered")
    world.came(instance(patient=1, series=90))
    world.run("UPDATE sends SET state = 'dead' WHERE kind = 'result'")
    assert say(world, "retry", *([what] if what else [])) == 0
    assert world.row("SELECT count(*) FROM sends WHERE round = 2 AND state = 'pending'") == (again,)
    if what == "gpu2":
        size = os.path.getsize(world.data / f"{number}.dcm")
        assert world.row("SELECT size FROM instances WHERE id = ?", number) == (size,), "as the file is now"


@pytest.mark.parametrize(("what", "left"), [("", 0), ("gpu2", 1), (STUDY, 1), ("gpu1", 2)])
def test_drop_gives_up_for_good(world: World, what: str, left: int, capsys: pytest.CaptureFixture[str]) -> None:
    number = world.sent(instance(), "stockholm", "gpu2", "dead")
    world.sent(instance(patient=1), "stockholm", "gpu1", "delivered")
    world.came(instance(patient=1, series=90))
    world.run("UPDATE sends SET state = 'dead' WHERE kind = 'result'")
    assert say(world, "drop", *([what] if what else [])) == 0
    assert world.row("SELECT count(*) FROM sends WHERE state = 'dead'") == (left,)
    assert world.row("SELECT count(*) FROM sends WHERE state = 'delivered'") == (1,)
    assert "sent to nobody" in capsys.readouterr().out
    assert (world.data / f"{number}.dcm").exists()


@pytest.mark.parametrize("word", ["retry", "drop"])
def test_dead_letters_of_a_name_that_nobody_has(word: str, world: World) -> None:
    with pytest.raises(UnknownTarget):
        say(world, word, "gpu9")


def test_what_is_held_can_be_sent_or_discarded(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.came(instance(study=1), "GPU1")
    world.came(instance(study=2), "GPU2")
    world.came(instance(study=3), "GPU2")
    assert say(world, "held") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["id", "3", "2", "1"]
    assert say(world, "held", "--send", "1", "upp") == 0
    assert world.rows("SELECT study_id, kind, target, state FROM sends") == [(0, "result", "upp", "pending")]
    assert say(world, "held", "--discard", "2") == 0
    assert world.rows("SELECT outcome FROM held ORDER BY id") == [("sent",), ("discarded",), ("",)]
    for argv in (["--send", "1", "upp"], ["--discard", "2"], ["--discard", "77"]):
        with pytest.raises(UnknownHeld):
            say(world, "held", *argv)
    with pytest.raises(UnknownTarget):
        say(world, "held", "--send", "3", "gpu1")
    capsys.readouterr()
    say(world, "held", "--json")
    (row,) = map(orjson.loads, capsys.readouterr().out.splitlines())
    assert row["reason"] == "orphan"
    # Decided is decided: it is looked at no more.
    world.sent(instance(study=2), "stockholm", "gpu2")
    assert world.turn() == []


def test_watching_ends_with_the_terminal(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    filled(world)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("listener.commands._route_words.time.sleep", sleep)
    assert say(world, "status", "--watch") == 0
    assert capsys.readouterr().out.count("listener route") == 3


def test_the_words_of_another_routes_file(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    filled(world)
    world.use(ROUTES.replace("gpu2", "gpu9"))
    world.now_ns += SECOND
    say(world, "status", "--json")
    kinds = {one["name"]: one["kind"] for one in orjson.loads(capsys.readouterr().out)["targets"]}
    assert kinds == {"gpu1": "worker", "gpu9": "worker", "sto": "destination", "upp": "destination", "gpu2": "gone"}

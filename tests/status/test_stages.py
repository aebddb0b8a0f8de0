"""Stages in the status: consumers of the ledger that write how they stand are shown as such, with their deliveries."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from listener.status import ledger_view
from listener.status.document import document
from listener.status.snapshot import SnapshotFile
from listener.status.terminal import render
from tests.ledger_world import World
from tests.status.contract import checker
from tests.status.looking import served


def writes(folder: Path, name: str, **live: Any) -> None:
    """What a stage writes once a second."""
    (folder / name).mkdir(exist_ok=True)
    file = SnapshotFile(str(folder / name))
    file.write({"time": "2026-01-02T03:04:05.000000Z", "time_ns": time.time_ns(), "version": "1", "checks": {}, **live})
    file.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state of a collection whose series ended; a hook and the stage route are told."""
    world = World(tmp_path)
    world.came(0, 1)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        for name in ("webhook", "route", "../export"):
            deliveries.register(connection, name, 1)
    world.advance(20)
    world.tick()
    world.close()
    return Path(world.config.state)


def shown(state: Path) -> dict[str, Any]:
    found = document(None, None, ledger_view.read(str(state)), time.time_ns())
    checker("Status")(found)
    return found


@pytest.mark.parametrize(("live", "is_shown"), [({"state": "ready"}, "ready"), ({"state": "stopped"}, "stopped")])
def test_a_stage_is_shown_with_its_deliveries(state: Path, live: dict[str, Any], is_shown: str) -> None:
    writes(state, "route", **live)
    found = shown(state)
    assert found["stages"] == {"route": {"state": is_shown, "seen": "2026-01-02T03:04:05.000000Z", "version": "1"}}
    assert found["hooks"]["route"]["pending"] == 1
    text = render(found)
    assert f"stage route         0 told  {is_shown}, 1 waiting, 0 given up" in text
    assert "hook webhook" in text


def test_a_stage_that_says_nothing_any_more_is_lost(state: Path) -> None:
    writes(state, "route", state="ready", time_ns=1)
    assert shown(state)["stages"]["route"]["state"] == "lost"


def test_a_consumer_without_a_word_is_no_stage(state: Path) -> None:
    assert shown(state)["stages"] == {}
    writes(state, "webhook", state="ready")
    (state / "webhook/live").write_bytes(b"garbage")
    assert shown(state)["stages"] == {}


def test_one_that_is_retired_is_shown_no_more(state: Path) -> None:
    writes(state, "route", state="stopped")
    with contextlib.closing(open_writer(path_of(str(state)))) as connection:
        deliveries.retire(connection, "route", 2)
    assert shown(state)["stages"] == {}


def test_the_page_has_a_table_of_stages_apart_from_hooks(state: Path) -> None:
    writes(state, "route", state="ready")
    with served(state) as server, urllib.request.urlopen(f"http://{server.address}/", timeout=120) as answer:
        body = answer.read().decode()
    stages, hooks = body.partition('id="stages"')[2], body.partition('id="hooks"')[2].partition("</section>")[0]
    assert "<td>route</td>" in stages
    assert "<td>webhook</td>" in hooks
    assert "<td>route</td>" not in hooks


def test_a_stage_of_several_consumers_is_shown_by_each_with_its_note(state: Path) -> None:
    with contextlib.closing(open_writer(path_of(str(state)))) as connection:
        for name in ("notify-nats", "notify-cube"):
            deliveries.register(connection, name, 1)
    writes(state, "notify", state="ready", notes={"notify-cube": "2 series grew"})
    found = shown(state)["stages"]
    assert found["notify-nats"] == {"state": "ready", "seen": "2026-01-02T03:04:05.000000Z", "version": "1"}
    assert found["notify-cube"]["note"] == "2 series grew"
    with served(state) as server, urllib.request.urlopen(f"http://{server.address}/", timeout=120) as answer:
        body = answer.read().decode()
    assert "2 series grew" in body.partition('id="stages"')[2]


def test_a_stage_that_only_reads_is_shown_and_wanted_only_while_it_runs(state: Path) -> None:
    writes(state, "serve", state="ready", notes={"serve": "3 connections"})
    assert shown(state)["stages"]["serve"] | {"seen": ""} == {
        "state": "ready", "seen": "", "version": "1", "note": "3 connections",
    }  # fmt: skip
    with served(state) as server, urllib.request.urlopen(f"http://{server.address}/", timeout=30) as answer:
        assert "3 connections" in answer.read().decode().partition('id="stages"')[2]
    writes(state, "serve", state="stopped")
    assert not [one for one in shown(state)["attention"] if "serve" in one["what"]]
    writes(state, "serve", state="ready", time_ns=1)
    (found,) = [one for one in shown(state)["attention"] if "serve" in one["what"]]
    assert found["severity"] == "problem"

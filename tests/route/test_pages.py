"""Page and API of route: what they show, what they never show, and what they say where there is nothing."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.route.pages import RoutePages, document
from listener.route.schema import ROUTE
from listener.status.snapshot import SnapshotFile
from listener.telemetry.http_messages import Request, Response
from listener.telemetry.server import Server
from tests.browser import Browser
from tests.conftest import PROJECT
from tests.instances import instance, uid
from tests.route.world import World

HOSTILE = ("<b>x&'\"", "<script>alert(1)</script>", "\x1b[2J\r\nX", "\u202eTC", "'; DROP TABLE", "x" * 300)

PAGES = ("/", "/studies", "/held", "/dead")
STUDY = str(instance().StudyInstanceUID)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def live(world: World, state: str = "ready", **more: Any) -> None:
    """What a running service writes."""
    file = SnapshotFile(str(world.state / "route"))
    now = time.time_ns()
    about = {"time": "2026-01-02T03:04:05Z", "time_ns": now, "started": "2026-01-02T03:00:00Z", "version": "1"}
    file.write({**about, "state": state, "checks": {}, **more})
    file.close()


def get(world: World, path: str) -> Response:
    routes = RoutePages(str(world.state)).routes()
    route = routes.get(path) or routes[path[: path.rfind("/") + 1]]
    return route(Request("GET", path))


def filled(world: World, sender: str = "SCANNER") -> None:
    """Something of everything that can be shown."""
    world.now_ns = time.time_ns()
    world.sent(instance(), "stockholm", "gpu1")
    world.sent(instance(patient=1), "stockholm", "gpu2", "pending")
    world.sent(instance(patient=2), "uppsala", "gpu2", "dead")
    world.run("UPDATE sends SET status = 49152, error = 'cannot understand' WHERE state = 'dead'")
    world.run("UPDATE instances SET sender = ?", sender)
    world.run("UPDATE studies SET sender = ?", sender)
    world.run("UPDATE targets SET state = 'up', since_ns = ?", world.now_ns)
    world.run("UPDATE targets SET state = 'down', cause = 'refused', detail = 'refused' WHERE name = 'gpu2'")
    world.came(instance(series=90))
    world.came(instance(patient=9), "GPU2")
    world.moved("stockholm", str(instance(patient=1).StudyInstanceUID), "gpu1")
    number = world.file(instance(patient=8), sender, "/srv/other")
    world.run("INSERT INTO unclaimed VALUES (?, ?, '/srv/other', 0, ?)", number, sender, world.now_ns)


def test_every_page_shows_what_there_is(world: World) -> None:
    filled(world)
    live(world)
    shown = {path: get(world, path).body.decode() for path in (*PAGES, f"/studies/{STUDY}")}
    assert "gpu2" in shown["/"]
    assert "worker gpu2 is down" in shown["/"]
    assert "1 result is held" in shown["/"]
    assert "needs attention" in shown["/"]
    for path, words in (("/", "/srv/other"), ("/studies", "1/1"), ("/held", "orphan"), ("/dead", "C000")):
        assert words in shown[path], path
    assert str(instance(series=90).SOPInstanceUID)[-14:] in shown[f"/studies/{STUDY}"]
    for path, text in shown.items():
        assert "P000" not in text, f"patient data on {path}"
        assert "Patient^" not in text


def test_pages_say_where_there_is_nothing(tmp_path: Path) -> None:
    routes = RoutePages(str(tmp_path)).routes()
    assert routes["/"](Request("GET", "/")).status == 200
    assert routes["/held"](Request("GET", "/held")).status == 503
    assert routes["/api/v1/held"](Request("GET", "/api/v1/held")).status == 503
    told = document(str(tmp_path))
    assert (told["service"]["state"], told["attention"], told["error"]) == ("absent", [], "")


def test_a_state_that_cannot_be_read_is_told(world: World) -> None:
    world.close()
    Path(ROUTE.path(str(world.state))).write_bytes(b"no database" * 1000)
    told = document(str(world.state))
    assert [one["runbook"] for one in told["attention"]] == ["ListenerRouteNotRunning"]
    assert get(world, "/").status == 200
    assert get(world, "/studies").status == 503


def test_a_study_that_is_not_routed_is_missing(world: World) -> None:
    for path in ("/studies/1.2.3", "/studies/<b>", "/api/v1/studies/1.2.3", "/api/v1/studies/x"):
        assert get(world, path).status == 404


def test_the_api_says_what_the_pages_say(world: World) -> None:
    filled(world)
    live(world)
    told = {path: orjson.loads(get(world, f"/api/v1/{path}").body) for path in ("status", "studies", "held", "dead")}
    assert (told["status"]["pending"], told["status"]["held"]["orphan"]) == (2, 1)
    assert len(told["studies"]["studies"]) == 3
    assert [one["reason"] for one in told["held"]["held"]] == ["orphan"]
    assert [(one["target"], one["status"]) for one in told["dead"]["dead"]] == [("gpu2", "C000")]
    (study,) = orjson.loads(get(world, f"/api/v1/studies/{STUDY}").body)
    assert [one["destination"] for one in study["results"]] == ["sto"]
    assert "P000" not in str(told)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_senders_are_only_text(world: World, text: str) -> None:
    filled(world, sender=text)
    for path in PAGES:
        body = get(world, path).body.decode()
        assert body.count("<script>") == 1, path
        assert "<b>x" not in body, path
        assert not set(body) & {"\x1b", "\r", "\u202e"}, path


@contextlib.contextmanager
def served(world: World) -> Iterator[str]:
    errors: list[Exception] = []
    server = Server("127.0.0.1:0", {}, errors.append, slow=RoutePages(str(world.state)).routes())
    server.start()
    try:
        yield server.address
    finally:
        assert server.stop(10)
    assert errors == []


def test_over_http(world: World) -> None:
    filled(world)
    with served(world) as address, contextlib.closing(http.client.HTTPConnection(address)) as connection:
        for path in PAGES:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, b"</html>" in answer.read()) == (200, True)


@pytest.mark.real
def test_in_a_browser(tab: Browser, world: World, tmp_path: Path) -> None:
    """Narrow and wide, light and dark: nothing to scroll sideways, nothing that axe minds."""
    axe = PROJECT / ".venv/axe/node_modules/axe-core/axe.min.js"
    filled(world)
    live(world)
    for number in range(60):
        world.sent(instance(patient=100 + number), "stockholm", "gpu1")
    with served(world) as address:
        for path in (*PAGES, f"/studies/{STUDY}"):
            for scheme, width in (("light", 400), ("dark", 1200)):
                tab.look(width, 900, scheme)
                tab.open(f"http://{address}{path}")
                where = (path, scheme, width)
                assert tab.value("document.documentElement.scrollWidth") <= width, where
                sideways = "[...document.querySelectorAll('.wide')].some((one) => one.scrollWidth > one.clientWidth)"
                assert not tab.value(sideways), where
                if axe.is_file():
                    tab.value(axe.read_text(encoding="utf-8") + ";0")
                    found = (
                        "axe.run({resultTypes: ['violations']}).then((told) => told.violations.map((one) => one.id))"
                    )
                    assert tab.value(found) == [], where
                tab.screenshot(tmp_path / f"{path.strip('/').split('/')[0] or 'overview'}-{width}.png")
        assert uid("study", 0, 0) in tab.value("document.querySelector('main').textContent")

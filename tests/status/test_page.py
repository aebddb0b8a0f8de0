"""The status page and its API, against a real service: what they say, how it looks in a real Chromium, and that page,
API, `listener status` and metrics agree.
"""

from __future__ import annotations

import html.parser
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from listener.hooks.payload import Payload, header_fields, payload_of
from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from listener.ledger.interests import About
from listener.ledger.reader import Reader
from listener.service.monitor import SnapshotWriter
from listener.status import ledger_view, snapshot
from listener.status.document import LedgerView, document
from listener.status.history import SLOT, Point
from listener.status.page import Page
from listener.status.routes import StatusRoutes, page_file, parse_query
from listener.telemetry.catalogue import Numbers
from listener.telemetry.http_messages import Request
from tests.browser import Browser, browser, chromium
from tests.conftest import PROJECT
from tests.dicomnet import storescp, storescu
from tests.hostile_entries import HOSTILE as HOSTILE_TEXTS
from tests.instances import uid, write_instance
from tests.service_process import Places, Service, listener, service, settled, value
from tests.status.rows import HOSTILE, series
from tests.waiting import until

API = json.loads(page_file("openapi.json"))
NOW = 1_800_000_000 * 10**9

#: What a sender may have written into its files: (0002,0016) and (0008,0060) take it.
SENDER, MODALITY = "<b>x&'\"", "<I>X"


@cache
def checker(name: str) -> Callable[[Any], Any]:
    """Raises for what is not as the OpenAPI document says."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": f"#/components/schemas/{name}"}
    made: Callable[[Any], Any] = fastjsonschema.compile(schema | {"components": API["components"]})
    return made


def bring(places: Places, count: int, number: int = 0, **more: Any) -> str:
    """A series of new files in incoming; its UID."""
    for one in range(1, count + 1):
        made = write_instance(places.base / "made", series=number, number=one, **more)
        made.rename(places.incoming / f"{number}-{one}")
    return str(uid("series", 0, 0, number))


def status(running: Service) -> dict[str, Any]:
    answer = running.get("/api/v1/status")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def status_until(running: Service, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status, as soon as it is as wanted."""
    told: dict[str, Any] = {}

    def there() -> bool:
        told.update(status(running))
        return wanted(told)

    until(there, 10)
    return told


# -- without a service -------------------------------------------------------------------------------------------------


def rendered(told: LedgerView, points: tuple[Point, ...] = ()) -> str:
    live = {**SnapshotWriter("/nowhere", Numbers()).live, "time_ns": NOW, "state": "ready"}
    page = Page(page_file("page.css"), page_file("page.js"))
    return page.render(document(live, None, told, NOW), points, 3600.0).decode()


#: A hook as the status document shows it.
HOOK = {"state": "active", "pending": 1, "delivered": 0, "failed": 0, "oldest": "", "error": ""}


class Tags(html.parser.HTMLParser):
    """Names of elements and attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_a_sender_chose_becomes_no_element_and_no_attribute() -> None:
    hostile = dict.fromkeys(("SeriesInstanceUID", "Modality", "sender", "root", "result", "expected_by"), HOSTILE)
    told = LedgerView(in_flight=[series(**hostile)], ended=[series(**hostile)], counts={"open": 1}, error=HOSTILE,
                    hooks={HOSTILE: {**HOOK, "error": HOSTILE}})  # fmt: skip
    plain = LedgerView(in_flight=[series()], ended=[series()], counts={"open": 1}, error="x",
                     hooks={"x": {**HOOK, "error": "x"}})  # fmt: skip
    made, usual = Tags(rendered(told)), Tags(rendered(plain))
    assert made.tags == usual.tags
    assert made.names == usual.names
    assert "\x1b" not in made.text
    assert "\u202e" not in made.text


def test_an_hour_is_drawn_with_its_gaps() -> None:
    points = tuple(Point(at, at / 100, 0.0, None, int(at)) for at in (10.0, 20.0, 30.0, 3000.0, 3010.0))
    page = rendered(LedgerView(), points)
    assert page.count("<polyline") == 4  # rates and backlog, each before and after the gap; lag was never
    assert "Backlog: now 0, at most 3,010 in the last hour" in page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = rendered(LedgerView(in_flight=[series()], counts={"open": 1}))
    assert not re.findall(r"""(?:src|href|action)=["']?(?:https?:)?//""", page)
    assert "url(" not in page
    assert " style=" not in page  # the policy would not let it


@pytest.mark.parametrize(
    "query",
    [
        "state=closed",
        "limit=0",
        "limit=1001",
        "limit=0001000000",
        "limit=x",
        "limit=",
        "after=1",
        f"after={10**19}-1",
        "colour=red",
    ],
)
def test_a_parameter_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"give|parameter"):
        parse_query(query)


def test_every_operation_and_schema_is_used_and_strict() -> None:
    """Nothing may come that the document does not name."""
    names = API["components"]["schemas"]
    text = json.dumps(API)
    for name, schema in names.items():
        assert f"#/components/schemas/{name}" in text, name
        assert schema["additionalProperties"] is False
        assert schema["required"]
    optional = {name: set(schema["properties"]) - set(schema["required"]) for name, schema in names.items()}
    assert {name: one for name, one in optional.items() if one} == {
        "Error": {"detail"},
        "SeriesEnded": {"PatientID", "AccessionNumber"},
    }


def test_whoever_asks_within_a_second_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is read once, and the page made once, however many look."""
    looks: list[str] = []

    def read(state: str) -> LedgerView:
        looks.append(state)
        return LedgerView()

    monkeypatch.setattr(ledger_view, "read", read)
    pulse = SnapshotWriter(str(tmp_path), Numbers())
    routes = StatusRoutes(str(tmp_path), lambda: pulse.live, pulse.history).routes()
    asked = Request("GET", "/")
    begun = time.monotonic()
    pages = {routes["/"](asked).body for _ in range(50)} | {routes["/"](asked).body}
    told = {routes["/api/v1/status"](asked).body for _ in range(50)}
    assert time.monotonic() - begun < 0.9, "too slow a machine to tell"
    assert (len(pages), len(told), len(looks)) == (1, 1, 1)
    until(lambda: routes["/"](asked).body not in pages, 5)


def test_what_hooks_are_told_is_as_documented(tmp_path: Path) -> None:
    connection = open_writer(path_of(str(tmp_path)))
    consumer = deliveries.register(connection, "webhook", 0)
    row = "INSERT INTO series (SeriesInstanceUID, state, result, instances, last_ns) VALUES ('1.2', ?, ?, 1, 5)"
    connection.execute(row, ("complete", "quiet"))
    connection.execute(
        "INSERT INTO history (series_id, generation, at_ns, state, result, instances, bytes) "
        "VALUES (1, 1, 9, 'complete', 'quiet', 1, 1)"
    )
    connection.execute("INSERT INTO set_aside (path, reason, name, at_ns) VALUES ('empty/x', 'empty', 'x', 4)")
    deliveries.add_deliveries(connection, "set-aside", deliveries.Subject(set_aside_id=1), 1, About())
    deliveries.add_deliveries(connection, "series-complete", deliveries.Subject(1, 1), 2, About())
    told = deliveries.lease(connection, consumer, 10, 20, limit=5)
    assert [one.event for one in told] == ["series-complete", "set-aside"], "series first"
    for phi in (False, True):
        checker("SeriesEnded")(json.loads(payload_of(told[0], phi).body))
    assert "PatientID" in json.loads(payload_of(told[0], phi=True).body)
    checker("FileSetAside")(json.loads(payload_of(told[1], phi=False).body))
    assert Reader(connection).last_error("webhook") == ""
    connection.close()


def test_the_examples_of_the_docs_are_as_documented() -> None:
    text = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
    shown, ended, aside = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    checker("Series")(shown)
    checker("SeriesEnded")(ended)
    checker("FileSetAside")(aside)
    told = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert ["schema", "time", *told] == list(API["components"]["schemas"]["Status"]["properties"])


def test_the_example_in_python_believes_us() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/api.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is what readers will copy
    told = Payload("1.2/1", "series-complete", b"{}")
    head = {name.lower(): value for name, value in header_fields(told, b"key", int(time.time())).items()}
    assert names["is_genuine"](head, told.body, b"key")
    assert not names["is_genuine"](head, told.body + b" ", b"key")
    assert not names["is_genuine"](head | {"webhook-timestamp": "1"}, told.body, b"key")


# -- the API -----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_api_is_what_its_document_says(places: Places) -> None:
    flags = ("--series-quiet", "0.5", "--series-quiet", "CT=3600", "--on-series-complete", "http://127.0.0.1:9/")
    with service(places, *flags) as running:
        done = [bring(places, 2, number) for number in range(3)]
        held = bring(places, 3, 7, Modality="CT", sender=SENDER)
        (places.incoming / "bad").write_bytes(b"no DICOM")
        running.wait_for("series-complete", 3)
        until(lambda: status(running)["hooks"]["webhook"]["error"], 20)
        told = status(running)
        checker("Status")(told)
        assert [one["SeriesInstanceUID"] for one in told["in_flight"]] == [held]
        assert {one["SeriesInstanceUID"] for one in told["completed"]} == set(done)
        assert told["in_flight"][0]["sender"] == SENDER
        assert told["set_aside"]["reasons"]["not-dicom"] == {"files": 1, "bytes": 8}
        detail = running.get(f"/api/v1/series/{done[0]}").json()
        checker("SeriesDetail")(detail)
        assert [one["state"] for one in detail["history"]] == ["open", "complete"]
        assert detail["deliveries"][0]["state"] == "pending"
        # page by page, each series once
        seen, after = [], ""
        while True:
            page = running.get(f"/api/v1/series?limit=3{after}").json()
            checker("SeriesList")(page)
            seen += [one["SeriesInstanceUID"] for one in page["series"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert sorted(seen) == sorted([*done, held])
        only = running.get("/api/v1/series?state=open").json()["series"]
        assert [one["SeriesInstanceUID"] for one in only] == [held]
        assert running.get("/api/v1/openapi.json").json() == API
        refused = {"/api/v1/series?state=x": 400, "/api/v1/series/1.2.3.4": 404, "/api/v1/series/%3Cb%3E": 404}
        for path, code in refused.items():
            answer = running.get(path)
            assert answer.status == code
            checker("Error")(answer.json())
        for path in ("/api/v1/status", "/api/v1/series", f"/api/v1/series/{held}", "/"):
            body = running.get(path).body
            assert b"P0000" not in body
            assert b"Patient" not in body


@pytest.mark.real
def test_off_with_one_flag(places: Places) -> None:
    with service(places, "--page", "off") as running:
        for path in ("/", "/api/v1/status", "/api/v1/series", "/api/v1/openapi.json"):
            assert running.get(path).status == 404
        assert running.get("/readyz").status == 200
        done = listener("status", "--state", str(places.state), "--json")
        assert json.loads(done.stdout)["service"]["state"] == "ready", "status needs no page"


@pytest.mark.real
def test_a_ledger_that_cannot_be_read_is_said(places: Places) -> None:
    """On the page, in the API, by the command; and files go on being published."""
    Path(path_of(str(places.state))).write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with service(places, "--series-quiet", "0.3") as running:
        bring(places, 2)
        running.wait_for("published", 2)
        told = status(running)
        checker("Status")(told)
        assert not told["ledger"]["readable"]
        assert "ledger cannot be read" in running.get("/").body.decode()
        answer = running.get("/api/v1/series")
        assert answer.status == 503
        checker("Error")(answer.json())
        done = listener("status", "--state", str(places.state))
        assert done.status == 1
        assert b"the ledger cannot be read" in done.stdout


# -- all agree ---------------------------------------------------------------------------------------------------------

LIVE = (
    "attention",
    "service",
    "files",
    "rates",
    "lag",
    "backlog",
    "held_up",
    "workers",
    "lost",
    "set_aside",
    "volumes",
)


def agreed(running: Service, places: Places) -> bool:
    """Look at all three in a moment; whether `status` and the API had the same word of the service."""
    first = status(running)
    scrape = running.scrape()
    page = running.get("/").body.decode()
    asked = time.time()
    command = json.loads(listener("status", "--state", str(places.state), "--json").stdout)
    second = status_until(running, lambda told: _time(told) > asked)
    for kind in ("published", "set-aside", "duplicate"):
        count = value(scrape, "files_processed_total", outcome=kind)
        assert first["files"][kind] <= count <= second["files"][kind], kind
    if f'datetime="{first["time"]}"' in page:
        assert f"{first['backlog']['files']:,}" in page
        for row in (*first["in_flight"], *first["completed"]):
            assert row["SeriesInstanceUID"] in page
            assert f"{row['instances']:,}" in page
    same: bool = command["service"]["seen"] == first["service"]["seen"]
    if same:
        assert {name: command[name] for name in LIVE} == {name: first[name] for name in LIVE}
    checker("Status")(command)
    return same


def _time(told: dict[str, Any]) -> float:
    return datetime.fromisoformat(told["service"]["seen"]).timestamp()


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_status_page_and_metrics_agree_under_load(places: Places) -> None:
    sources = places.base / "sources"
    sources.mkdir()
    for number in range(40):
        for one in range(1, 11):
            write_instance(sources / f"{number}-{one}.dcm", series=number, number=one)
    with service(places, "--series-quiet", "3600") as running, storescp(places.incoming) as receiver:
        sender = threading.Thread(target=storescu, args=(receiver.port, sources))
        sender.start()
        try:
            same = 0
            while sender.is_alive() or same < 2:
                same += agreed(running, places)
        finally:
            sender.join()
        scrape = settled(running, 400)
        until(lambda: sum(one["instances"] for one in status(running)["in_flight"]) == 400, 10)
        told = status_until(running, lambda found: found["files"]["published"] == 400)
        until(lambda: value(running.scrape(), "series", state="open") == told["series"]["open"] == 40, 10)
        command = json.loads(listener("status", "--state", str(places.state), "--json").stdout)
        for name in ("files", "series", "in_flight", "completed", "set_aside", "workers"):
            assert command[name] == told[name], name
        assert value(scrape, "files_processed_total", outcome="published") == 400
        page = running.get("/").body.decode()
        for number in range(40):
            assert str(uid("series", 0, 0, number)) in page


@pytest.mark.real
def test_status_of_a_service_that_was_stopped_or_killed(places: Places) -> None:
    with service(places, "--series-quiet", "0.2") as running:
        done = bring(places, 2)
        (places.incoming / "bad").write_bytes(b"no DICOM")
        running.wait_for("series-complete")
        running.wait_for("set-aside")
    found = json.loads(listener("status", "--json", *places.flags()).stdout)
    checker("Status")(found)
    assert found["service"]["state"] == "stopped"
    assert found["backlog"] is found["rates"] is None
    assert [one["SeriesInstanceUID"] for one in found["completed"]] == [done]
    assert found["set_aside"]["files"] == 1
    assert set(found["volumes"]) == {"incoming", "data", "log", "state"}
    told = listener("status", *places.flags()).stdout.decode()
    assert "stopped (last word" in told
    assert done in told


@pytest.mark.real
def test_charts_are_kept_over_a_restart(places: Places) -> None:
    """And a file of them that is damaged is no reason not to start."""
    with service(places):
        pass
    kept = snapshot.read(str(places.state), snapshot.HISTORY)
    assert kept is not None
    age_of = SLOT / 2
    points = [[age_of + SLOT * number, 700.0, 1.0, 0.1, 4, 0, 0] for number in reversed(range(6))]
    Path(snapshot.path_of(str(places.state), snapshot.HISTORY)).write_bytes(snapshot.pack({**kept, "points": points}))
    with service(places) as running:
        assert "at most 700 in the last hour" in running.get("/").body.decode()
    Path(snapshot.path_of(str(places.state), snapshot.HISTORY)).write_bytes(b"\xff" * 100)
    with service(places) as running:
        assert "Files a second: now 0, at most 0" in running.get("/").body.decode()


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium is installed (.ci/need chromium)")
    with browser(program, tmp_path / "profile") as one:
        yield one


#: The least contrast of any text with what lies behind it (WCAG 2.2 asks for 4.5), as the browser has computed it.
CONTRAST = """
(() => {
  const light = (c) => c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (one) => { for (; one; one = one.parentElement) {
    const c = parts(getComputedStyle(one).backgroundColor); if (c.length < 4 || c[3] === 1) return c.slice(0, 3); }
    return [255, 255, 255]; };
  let least = 99;
  for (const one of document.querySelectorAll("body *")) {
    if (![...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || one.closest("script")) continue;
    const [a, b] = [light(parts(getComputedStyle(one).color).slice(0, 3)), light(behind(one))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
})()
"""


def bring_hostile(places: Places) -> int:
    """The corpus of what people and attackers send, in whatever the page shows; how many files."""
    # neither attribute can hold more than ASCII
    texts = [
        text.encode("ascii", "replace").decode() for text in HOSTILE_TEXTS.values() if isinstance(text, str) and text
    ]
    for number, told in enumerate(texts, 100):
        bring(places, 1, number, Modality=told, sender=told[:16])
    for number, dots in enumerate((".", "..", ".1.2"), 200):
        bring(places, 1, number, SeriesInstanceUID=dots)
    return len(texts) + 3


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:.*value length")  # what it is about
def test_the_page_in_chromium(places: Places, tab: Browser, tmp_path: Path) -> None:
    """Whole without JavaScript, fresh with it; light and dark; narrow and wide; nothing hostile comes through."""
    promised = places.log / "seriesData" / f"{uid('series', 0, 0, 7)}-retrieve.json"
    promised.parent.mkdir(parents=True)
    promised.write_text('{"NumberOfSeriesRelatedInstances": "9"}')
    with service(places, "--series-quiet", "MR=0.2") as running:
        held = bring(places, 3, 7, Modality=MODALITY, sender=SENDER)
        done = bring(places, 2)
        brought = 5 + bring_hostile(places)
        running.wait_for("series-complete")
        told = status_until(running, lambda found: sum(found["files"].values()) == brought)
        checker("Status")(told)
        url = f"http://{running.address}/"

        tab.call("Emulation.setScriptExecutionDisabled", value=True)
        for scheme in ("light", "dark"):
            for width in (320, 1280):
                tab.look(width, 900, scheme)
                tab.open(url)
                tab.screenshot(tmp_path / f"{scheme}-{width}.png")
                assert tab.value("document.documentElement.scrollWidth") <= width
                assert tab.value(CONTRAST) >= 4.5, (scheme, width)
        text = tab.value("document.body.innerText")
        assert held in text
        assert done in text
        assert SENDER in text
        assert MODALITY in text
        assert "3 of 9 (33 %)" in text
        made = tab.value(
            "[...new Set([...document.querySelectorAll('td *')].map((one) => one.localName))].sort().join()"
        )
        assert made == "code,meter,progress,span,time"

        tab.call("Emulation.setScriptExecutionDisabled", value=False)
        tab.open(url)
        names = {one["name"]["value"] for one in accessible(tab) if one.get("name", {}).get("value")}
        assert {"listener", "Series in flight", "Last completed series", "3 of 9", "Pause updates"} <= names
        assert any(name.startswith("Backlog: now ") for name in names), "a chart says what it shows"
        updates_by_itself(places, tab)
        assert tab.complaints() == []
        assert {one.partition("?")[0] for one in tab.requests()} == {url}
        running.stop()
        until(lambda: tab.value("document.getElementById('state').textContent") == "no answer", 15)


def accessible(tab: Browser) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = tab.call("Accessibility.getFullAXTree")["nodes"]
    return [one for one in nodes if not one.get("ignored")]


def updates_by_itself(places: Places, tab: Browser) -> None:
    """A new series is there without a reload, where one looks and moved to; not while it is paused."""
    tab.value("window.stayed = true; document.querySelector('.wide').focus(); scrollTo(0, 50)")
    fresh = bring(places, 1, 8, Modality="CT")
    until(lambda: fresh in tab.value("document.body.innerText"), 15)
    assert tab.value("window.stayed") is True
    assert tab.value("document.activeElement.getAttribute('aria-label')") == "Series in flight"
    assert tab.value("scrollY") == 50
    tab.value("document.querySelector('button').click()")
    assert tab.value("document.querySelector('button').getAttribute('aria-pressed')") == "true"
    said = tab.value("document.getElementById('said').textContent")
    time.sleep(2.5)  # one turn of the page's own clock: nothing may happen in it
    assert tab.value("document.getElementById('said').textContent") == said
    tab.value("document.querySelector('button').click()")
    until(lambda: tab.value("document.getElementById('said').textContent") != said, 10)

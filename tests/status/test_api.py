"""The API against a real service and its OpenAPI document; what it answers is what the commands print."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from listener.hooks.payload import Payload, example_of, header_fields, payload_of
from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from listener.ledger.interests import About
from listener.ledger.reader import Reader
from listener.records import SeriesHeader
from tests.batch_places import known_batch
from tests.conftest import PROJECT
from tests.service_process import Places, Service, listener, service
from tests.status.contract import API, answer_of, checker
from tests.status.looking import bring, status
from tests.waiting import until

#: What a sender may have written into its files: (0002,0016) and (0008,0060) take it.
SENDER = "<b>x&'\""


def test_every_operation_and_schema_is_used_and_strict() -> None:
    """Nothing may come that the document does not name; patients only as what may be left out."""
    names = API["components"]["schemas"]
    text = json.dumps(API)
    for name, schema in names.items():
        assert f"#/components/schemas/{name}" in text, name
        assert schema["additionalProperties"] is False
        assert schema["required"]
    optional = {name: schema["properties"].keys() - set(schema["required"]) for name, schema in names.items()}
    private = {*SeriesHeader._fields, "folder"} - {"SeriesNumber"}
    assert optional["Study"] | optional["Series"] == private
    assert optional["StudyDetail"] == optional["Study"]
    assert optional["SeriesDetail"] == optional["Series"] | {"study", "elsewhere"}


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
    deliveries.add_deliveries(
        connection, "set-aside", deliveries.Subject(set_aside_id=1), deliveries.Occasion(1), About()
    )
    deliveries.add_deliveries(connection, "series-complete", deliveries.Subject(1, 1), deliveries.Occasion(2), About())
    told = deliveries.lease(connection, consumer, 10, 20, limit=5)
    assert [one.event for one in told] == ["series-complete", "set-aside"], "series first"
    for phi in (False, True):
        checker("SeriesEnded")(json.loads(payload_of(told[0], phi).body))
    assert "PatientID" in json.loads(payload_of(told[0], phi=True).body)
    checker("FileSetAside")(json.loads(payload_of(told[1], phi=False).body))
    for event in ("study-complete", "study-incomplete"):
        study = json.loads(example_of(event, "k", 10**18).body)
        study["event"] = study.pop("example_of")
        checker("StudyEnded")(study)
    assert Reader(connection).last_error("webhook") == ""
    connection.close()


def test_the_examples_of_the_docs_are_as_documented() -> None:
    text = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
    shown, ended, study, aside = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    checker("Series")(shown)
    checker("SeriesEnded")(ended)
    checker("StudyEnded")(study)
    checker("FileSetAside")(aside)
    told = re.findall(r"^\| `(\w+)` \|", text.partition("## Hooks")[0], re.MULTILINE)
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


def every_operation_answers_as_documented(running: Service, detail: dict[str, Any]) -> None:
    assert running.get("/api/v1/openapi.json").json() == API
    known_batch(running.places.state)
    for path in API["paths"].keys() - {"/api/v1/openapi.json"}:
        uid = detail["StudyInstanceUID" if "studies" in path else "SeriesInstanceUID"]
        answer = running.get(path.replace("{uid}", uid).replace("{number}", "1"))
        assert answer.status == 200, path
        checker(answer_of(path))(answer.json())
    studies = running.get("/api/v1/studies?modality=CT&state=open").json()["studies"]
    assert [one["series"] for one in studies] == [4]
    assert running.get("/api/v1/studies?state=complete").json() == {"studies": [], "next": None}
    assert len(running.get(f"/api/v1/studies/{detail['StudyInstanceUID']}").json()["all_series"]) == 4
    for by in ("day", "month,sender", "sender", "batch"):
        checker("Report")(running.get(f"/api/v1/report?by={by}").json())


def pages_of(running: Service) -> list[dict[str, Any]]:
    """All series, page by page."""
    seen: list[dict[str, Any]] = []
    after = ""
    while True:
        page = running.get(f"/api/v1/series?limit=3{after}").json()
        checker("SeriesList")(page)
        seen += page["series"]
        if page["next"] is None:
            return seen
        after = f"&after={page['next']}"


#: Keys that the commands print and the API answers only with --page phi; `root` is a whole path there.
PRIVATE = {*SeriesHeader._fields, "folder", "root"} - {"SeriesNumber"}

#: What changes while a hook fails and is tried again.
CHANGING = {"attempts", "next", "lease_until", "error"}


def plain(value: Any) -> Any:
    """The same without what is private or changes."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key not in PRIVATE | CHANGING}
    return [plain(one) for one in value] if isinstance(value, list) else value


def commands_print_what_the_api_answers(running: Service, places: Places, detail: dict[str, Any]) -> None:
    state = ("--json", "--state", str(places.state))
    series, study = detail["SeriesInstanceUID"], detail["StudyInstanceUID"]
    for path, command, key in (
        (f"/api/v1/series/{series}", ("series", series), ""),
        (f"/api/v1/studies/{study}", ("studies", study), ""),
        ("/api/v1/series", ("series",), "series"),
        ("/api/v1/studies", ("studies",), "studies"),
        ("/api/v1/set-aside", ("set-aside",), "set_aside"),
        ("/api/v1/report?by=modality,sender", ("report", "--by", "modality", "--by", "sender"), "report"),
        ("/api/v1/hooks", ("hooks",), "hooks"),
    ):
        answer = running.get(path).json()
        answer.pop("elsewhere", None)
        assert plain(listener(*command, *state).events) == plain(answer[key] if key else [answer]), command


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
        assert [one["state"] for one in detail["history"]] == ["open", "complete"]
        assert detail["deliveries"][0]["state"] == "pending"
        assert detail["study"]["series"] == 4
        every_operation_answers_as_documented(running, detail)
        assert [one["SeriesInstanceUID"] for one in pages_of(running)] == [held, *reversed(done)]
        for query, expected in {
            "state=open": [held],
            "modality=CT": [held],
            "modality=CT&sender=NOBODY": [],
            f"StudyInstanceUID={detail['StudyInstanceUID']}": [held, *reversed(done)],
            "StudyInstanceUID=1.2.3": [],
            "since=2200-01-01": [],
            "since=1h": [held, *reversed(done)],
        }.items():
            found = running.get(f"/api/v1/series?{query}").json()["series"]
            assert [one["SeriesInstanceUID"] for one in found] == expected, query
        refused = {"/api/v1/series?state=x": 400, "/api/v1/series/1.2.3.4": 404, "/api/v1/series/%3Cb%3E": 404}
        refused |= {"/api/v1/studies/1.2.3": 404, "/api/v1/report?by=colour": 400, "/api/v1/hooks?x=1": 400}
        for path, code in refused.items():
            answer = running.get(path)
            assert answer.status == code
            checker("Error")(answer.json())
        commands_print_what_the_api_answers(running, places, detail)
        for path in ("/api/v1/status", "/api/v1/series", f"/api/v1/series/{held}", "/", "/studies", f"/series/{held}"):
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


def test_names_of_components_are_as_openapi_wants_them_and_each_is_there() -> None:
    """OpenAPI 3.1, section 4.8.7; generators of clients refuse others."""
    there = {f"#/components/{kind}/{name}" for kind, named in API["components"].items() for name in named}
    assert not [path for path in there if not re.fullmatch(r"[a-zA-Z0-9._-]+", path.rpartition("/")[2])]
    assert set(re.findall(r'"(#/components/[^"]+)"', json.dumps(API))) <= there
    schemes = {name for one in API["security"] for name in one}
    assert schemes == set(API["components"]["securitySchemes"])

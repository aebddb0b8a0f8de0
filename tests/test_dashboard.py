"""The dashboard: its types, its lint, and every query against a real Prometheus that scraped a real listener."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from listener.stages import metric_rows as stages
from listener.telemetry import metric_rows
from tests.conftest import PROJECT, script
from tests.observing import pictures, rules, typed
from tests.observing.dashboard import EVERYTHING, PATH, Panel, Target, document, panels
from tests.observing.prometheus import Prometheus, hastened
from tests.observing.scene import LABELS, scene
from tests.observing.session import Answer, answers, ask, session
from tests.observing.units import UNITS
from tests.waiting import until

DASHBOARD = document()
PANELS = list(panels(DASHBOARD))
RESTARTS = next(one for one in DASHBOARD["annotations"]["list"] if one["name"] == "Restarts")
STARTED = Target(RESTARTS["target"]["expr"], "", instant=False)
QUERIES = [target.expression for panel in PANELS for target in panel.targets]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}

ROWS = [
    "Is it well?",
    "How much comes through?",
    "What fails?",
    "How late are files?",
    "Does it keep up?",
    "Are files noticed?",
    "Are series complete?",
    "Is there room?",
    "What does it cost?",
]

#: What every selector has: the targets that a person chose.
CHOSEN = 'job=~"$job",namespace=~"$namespace",pod=~"$pod"'

#: Beside the catalogue: the client's process metrics, and Prometheus's own of alerts.
FOREIGN = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "ALERTS",
}

FIRING = 'ALERTS{alertstate="firing"}'

#: Shown only where something is so; on a machine on which others work too it cannot be brought about for certain.
#: What is asked instead.
ONLY_SOMETIMES = {
    "Time until full": (" > 0", ""),
    "Instances by modality": (" > 0", ""),
    "Oldest delivery that waits, by hook": (" > 0", ""),
}

#: Flags of what is only shown where it is asked for; nobody listens to the hook.
FLAGS = ("--watch-sender=SENDER0", "--watch-sender=SENDER1", "--on-series-complete=http://127.0.0.1:9/")

STAGE_ROWS = script("dashboard").ROWS

#: Of every stage, by its name: its own metrics; "" has those that all have.
OF_STAGES = {"": stages.rows(""), **{stage: rows for stage, (_, rows) in script("generate").STAGES.items()}}
SHOWN_STAGES = {stage for row in STAGE_ROWS for stage in row.stages or ("",)}

#: Stages of which the dashboard shows nothing of their own yet; a row in docs/dashboard.py, and its name goes.
NOT_SHOWN = {"deidentify"}

OF_SERVICE = {row.full_name: row for row in metric_rows.rows()}
KNOWN = {row.full_name: row for stage in SHOWN_STAGES for row in OF_STAGES[stage]} | OF_SERVICE

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)


def base(name: str) -> str:
    """The name of a metric as the catalogue has it."""
    return re.sub("_(bucket|sum|count)$", "", name) if name not in KNOWN else name


def selectors(query: str) -> list[tuple[str, str]]:
    """Metrics and their matchers."""
    return re.findall(r"\b((?:listener|process)_\w+|ALERTS)(\{[^}]*\})?", query)


# -- lint, after the rules of the public dashboard-linter -------------------------------------------------------------


def test_the_dashboard_itself() -> None:
    assert DASHBOARD["editable"] is False, "provisioned from a file: what is edited in Grafana would be lost"
    assert "id" not in DASHBOARD, "a number of one Grafana"
    assert DASHBOARD["uid"] == "dicom-listener"
    assert DASHBOARD["title"]
    assert DASHBOARD["description"]
    assert [one["title"] for one in DASHBOARD["panels"] if one["type"] == "row"] == [
        *ROWS,
        *(row.title for row in STAGE_ROWS),
    ]


def test_the_rows_of_stages_are_up_to_date_and_closed() -> None:
    written = PATH.read_text(encoding="utf-8")
    assert script("dashboard").renewed(written) == written, "run `make docs`"
    assert all(one["collapsed"] is (one["title"] not in ROWS) for one in DASHBOARD["panels"] if one["type"] == "row")


def test_variables() -> None:
    """The linter wants an instance too; a pod is what people know, and an address changes with each start."""
    assert list(VARIABLES) == ["datasource", "job", "namespace", "pod"]
    source = VARIABLES["datasource"]
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    for name in ("job", "namespace", "pod"):
        variable = VARIABLES[name]
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["refresh"] == 2, "asked anew when the time range changes"
        assert variable["query"]["query"].startswith("label_values(listener_build_info")
        assert variable["description"]
    # Targets outside Kubernetes have no such labels, and are shown all the same.
    assert VARIABLES["namespace"]["allValue"] == VARIABLES["pod"]["allValue"] == ".*"


def test_panels_lie_beside_each_other() -> None:
    closed = [inside for one in DASHBOARD["panels"] if one["type"] == "row" for inside in one["panels"]]
    ids = [one["id"] for one in (*DASHBOARD["panels"], *closed)]
    assert len(set(ids)) == len(ids)
    lie_beside([one["gridPos"] for one in DASHBOARD["panels"]])
    for one in DASHBOARD["panels"]:
        if one["type"] == "row":
            lie_beside([one["gridPos"], *(inside["gridPos"] for inside in one["panels"])])


def lie_beside(places: list[dict[str, int]]) -> None:
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@every_panel
def test_a_panel_tells_what_it_shows(panel: Panel) -> None:
    assert panel.title
    assert panel.json["description"].endswith(".")
    assert panel.defaults["unit"] in UNITS
    assert panel.defaults["noValue"]
    assert panel.json["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@every_panel
def test_a_panel_s_queries(panel: Panel) -> None:
    assert panel.targets
    references = [one["refId"] for one in panel.json["targets"]]
    assert len(set(references)) == len(references)
    for written in panel.json["targets"]:
        assert written["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert written["legendFormat"] != "__auto"
    for target in panel.targets:
        assert target.instant is (panel.kind in ("stat", "table"))
        for name, matchers in selectors(target.expression):
            assert matchers.endswith(CHOSEN + "}"), f"{name} of other targets than the chosen ones"
            if re.search(r"_(total|bucket|sum|count)$", name):
                counted = rf"(rate|increase)\({name}{re.escape(matchers)}\[\$__rate_interval\]\)"
                assert re.search(counted, target.expression), f"{name} is a counter: rate or increase"
        windows = re.findall(r"(\w+)\([^()]*\[([^\]]+)\]", target.expression)
        assert all(window == "$__rate_interval" or function == "deriv" for function, window in windows)


def test_restarts_are_drawn_where_they_were() -> None:
    """Grafana takes the value for the time, in milliseconds, and one event for all points with the same value."""
    assert RESTARTS["enable"]
    assert RESTARTS["useValueForTime"]
    assert RESTARTS["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert selectors(STARTED.expression) == [("process_start_time_seconds", "{" + CHOSEN + "}")]


def test_labels_are_those_of_the_metrics() -> None:
    for query in QUERIES:
        names = [KNOWN[base(name)] for name, _ in selectors(query) if name not in FOREIGN]
        labels = {label for row in names for label in row.label_names} | {"le", "job", "instance", "pod", "namespace"}
        for grouping in re.findall(r"\b(?:by|on|group_left|group_right) \(([^)]*)\)", query):
            assert {label.strip() for label in grouping.split(",")} <= labels, query
        for name, matchers in selectors(query):
            for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
                values = dict(KNOWN[base(name)].labels)[label] if name not in FOREIGN and label != "le" else (value,)
                assert value in values, query


def test_legends_name_labels_that_are_there() -> None:
    for panel in PANELS:
        for target in panel.targets:
            named = set(re.findall(r"\{\{(\w+)\}\}", target.legend))
            grouped = {
                label for group in re.findall(r"by \(([^)]*)\)", target.expression) for label in group.split(", ")
            }
            assert named <= (grouped or {"pod", "instance"}), panel.title


def test_promql_is_valid(promtool: str, tmp_path: Path) -> None:
    targets = [STARTED, *(target for panel in PANELS for target in panel.targets)]
    recorded = [{"record": f"q{number}", "expr": target.asked("5m")} for number, target in enumerate(targets)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- one set of names -------------------------------------------------------------------------------------------------


def test_dashboard_and_catalogue_name_the_same_metrics() -> None:
    """No metric that nobody looks at, no query for one that is not there."""
    asked = {base(name) for query in QUERIES for name, _ in selectors(query)}
    assert asked - FOREIGN == KNOWN.keys()
    assert OF_STAGES.keys() - SHOWN_STAGES == NOT_SHOWN


@pytest.mark.parametrize("row", STAGE_ROWS, ids=lambda row: row.title)
def test_a_row_of_a_stage_has_no_other_stage_s_metrics(row: Any) -> None:
    own = {one.full_name for stage in row.stages or ("",) for one in OF_STAGES[stage]}
    asked = {base(name) for panel in row.panels for query in panel.queries for name, _ in selectors(query.expression)}
    assert asked <= own


# -- types ------------------------------------------------------------------------------------------------------------


def test_types(tmp_path: Path) -> None:
    """By tsc against Grafana's own schema, options of each kind of panel included."""
    modules = PROJECT / ".venv/npm/node_modules"
    if not (modules / "@grafana/schema").is_dir() or shutil.which("node") is None:
        pytest.skip("npm's typescript and @grafana/schema are not there (make dashboard-check)")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def compiled(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "dashboard.ts").write_text(text)
        command = ["node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
        return subprocess.run(
            [*command, "dashboard.ts"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )

    program = typed.program(DASHBOARD)
    done = compiled(program)
    assert done.returncode == 0, done.stdout[:4000]
    for right, wrong in (
        ('"graphTooltip": 1', '"graphTooltip": 7'),
        ('"drawStyle": "line"', '"drawStyle": "dots"'),
        ('"colorMode": ', '"colourMode": '),
    ):
        assert right in program
        assert compiled(program.replace(right, wrong)).returncode != 0, f"{wrong} was not seen"


# -- every query ------------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("dcmtk")
def test_every_query_returns_series(tmp_path: Path, prometheus_server: None) -> None:
    """Storescp load and one fault after the other; then each row is drawn from what Prometheus says.

    LISTENER_TEST_PICTURES names a folder for the pictures of a longer session.
    """
    folder = os.environ.get("LISTENER_TEST_PICTURES", "")
    fast = hastened(rules.PLAIN.read_text(encoding="utf-8"), IngestStalled=5)
    with scene(tmp_path, fast) as stage, stage.listener(*FLAGS) as running:
        start = time.time()
        with session(stage, running, tmp_path / "source", length=9.0 if folder else 1.5):
            found = list(answers(stage.prometheus, start))
            for variable, value in {"job": "listener", **LABELS}.items():
                selector, label = variable_query(variable)
                assert stage.prometheus.label_values(label, selector) == [value]
            fired = {labels["alertname"] for labels, _ in stage.prometheus.query_range(FIRING, start, time.time(), 1)}
            assert fired >= {"ListenerFilesSetAside", "ListenerLogWriteFailing"}
            ((_, starts),) = ask(stage.prometheus, STARTED, start, time.time()).series
            assert all(abs(value / 1000 - start) < 30 for _, value in starts), "milliseconds, just before"
            for panel, answer in ((panel, answer) for panel, several in found for answer in several):
                if not answer.has_numbers:
                    shows(stage.prometheus, panel, answer, start)
        assert value_of(found, "Files finished", "published") > 0
        assert value_of(found, "Failed attempts by reason", "not-dicom") > 0
        assert value_of(found, "Failed attempts by reason", "io-error") > 0
        assert value_of(found, "Workers replaced", "killed") > 0
        assert value_of(found, "Backlog", "waiting") > 0
    for path in pictures.draw(found, Path(folder) if folder else tmp_path / "pictures"):
        assert len(ET.parse(path).getroot()) > 5  # noqa: S314 - our own


def shows(server: Prometheus, panel: Panel, answer: Answer, start: float) -> None:
    """A query that had nothing to say returns series a little later (no file was finished in those few seconds), or
    is of a panel that shows something only sometimes.
    """
    if panel.title in ONLY_SOMETIMES:
        assert server.query(answer.target.asked("5s").replace(*ONLY_SOMETIMES[panel.title])), panel.title
    else:
        until(
            lambda: ask(server, answer.target, start, time.time()).has_numbers, 20, what=f"{panel.title} shows series"
        )


def variable_query(name: str) -> tuple[str, str]:
    """What a variable asks: a selector, with everything chosen, and a label."""
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert found
    selector = found[1]
    for variable, value in EVERYTHING.items():
        selector = selector.replace(f"${variable}", value)
    return selector, found[2]


def value_of(found: list[tuple[Panel, list[Answer]]], title: str, label: str) -> float:
    """The greatest value of a panel's series that has this label value."""
    (several,) = [answers for panel, answers in found if panel.title == title]
    values = [
        value
        for answer in several
        for labels, points in answer.series
        if label in labels.values()
        for _, value in points
    ]
    return max(values, default=0.0)


def test_every_row_has_its_picture_and_its_words() -> None:
    text = (PROJECT / "docs/dashboard.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*\?)$", text, re.MULTILINE) == ROWS
    for row in ROWS:
        assert f"](dashboard/{pictures.name(row)})" in text
        ET.parse(PROJECT / "docs/dashboard" / pictures.name(row))  # noqa: S314 - our own
    assert {path.name for path in PROJECT.glob("docs/dashboard/*")} == {pictures.name(row) for row in ROWS}
    assert script("dashboard").retold(text) == text, "run `make docs`"

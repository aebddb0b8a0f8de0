"""The documentation tells of the program as it is: what it names exists, and what it shows comes out."""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from listener import config, settings
from listener.backfill import metric_rows as backfill
from listener.config import options
from listener.dicom.attributes import is_keyword
from listener.ledger.batches import ANNOUNCED
from listener.planning import plan
from listener.planning.names import sanitize
from listener.planning.template import TemplateError, compile_template
from listener.planning.template_functions import USAGE, with_ages
from listener.quickstart.synthetic import make_series
from listener.reasons import SET_ASIDE_REASONS
from listener.records import OUTCOMES, Missing, Outcome
from listener.route import routes_file
from listener.stages import metric_rows as stage_catalogue
from listener.telemetry import metric_rows
from listener.telemetry.events import event_of
from listener.telemetry.health import Conditions, readiness
from tests.conftest import PROJECT, script
from tests.documents import blocks, codes, read, rows, section

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])

#: More modules in the table, or steps of a file, and nobody keeps them in mind.
MOST_MODULES = 33
MOST_STEPS = 9

LAYOUTS_AND_LOGS = PROJECT / "docs/layouts-and-logs.md"

#: Flags of other programs that the documentation names.
FOREIGN_FLAGS = {"--build-arg", "--fork", "--depth", "--name-only", "--scope"}

SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PROJECT.glob("listener/**/*.py")))

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@every_document
def test_no_table_is_cut_in_two(path: Path) -> None:
    tables = re.findall(r"(?:^ *\|.*\n)+", read(path), re.MULTILINE)
    assert [table.splitlines()[0] for table in tables if not re.search(r"^ *\|[ :|-]+\|$", table, re.MULTILINE)] == []


@cache
def generate() -> ModuleType:
    return script("generate")


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = generate().parsers()
    return found


def flags(*commands: str) -> set[str]:
    return {flag for command in commands or parsers() for flag in generate().flags(parsers()[command])}


def stage_options() -> list[str]:
    """The options of stages, each with the stage's name before its own."""
    return [f"{stage}_{name}" for stage, (kind, _) in generate().STAGES.items() for name in config.rows_of(kind)]


# -- what is generated, and what is parsed ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", generate().DOCUMENTS)
def test_generated_parts_are_up_to_date(name: str) -> None:
    written = read(PROJECT / "docs" / name)
    assert generate().renewed(written) == written, "run `make docs`"


@every_document
def test_examples_parse(path: Path) -> None:
    for block in blocks(path, "json"):
        json.loads(block)
    for block in blocks(path, "jsonl"):
        for line in block.splitlines():
            json.loads(line)
    for block in blocks(path, "toml"):
        tomllib.loads(block)


def test_the_toml_example_is_a_configuration(tmp_path: Path) -> None:
    (example,) = blocks(PROJECT / "docs/configuration.md", "toml")
    (tmp_path / "listener.toml").write_text(example)
    found = settings.load({}, {}, "run", str(tmp_path / "listener.toml"))
    assert found.min_free == 20 * 2**30
    assert found.rescan == 1.5
    assert len(found.incoming) == 2


def test_the_routes_file_of_the_documents_is_one() -> None:
    (example,) = blocks(PROJECT / "docs/routing.md", "toml")
    found = routes_file.read(example)
    assert [*found.routes] == ["stockholm"]
    assert len(example.splitlines()) <= 12
    text = read(PROJECT / "docs/routing.md")
    keys = {key for table in routes_file._TABLES.values() for key in table}
    assert {key for key in keys if f"`{key}`" not in text} == set()


# -- what is named exists --------------------------------------------------------------------------------------------


@every_document
def test_commands_and_their_flags_exist(path: Path) -> None:
    shown = [line for block in blocks(path, "sh") for line in block.splitlines()]
    spans = [text for text in codes(read(path)) if text.startswith("listener ")]
    for text in (*spans, *shown):
        for command, rest in re.findall(r"(?<![\w-])listener (?!COMMAND)([a-z-]+)([^;|&]*)", text):
            assert command in parsers(), f"{path.name}: there is no 'listener {command}'"
            used = set(re.findall(r"(?<![\w-])--[A-Za-z-]+", rest))
            assert used <= flags(command), f"{path.name}: 'listener {command}' has no {used - flags(command)}"


@every_document
def test_flags_and_variables_exist(path: Path) -> None:
    for text in codes(read(path)):
        if "px-repack" not in text and "rx-repack" not in text:
            unknown = set(re.findall(r"(?<![\w-])--[A-Za-z][A-Za-z-]*", text)) - flags() - FOREIGN_FLAGS
            assert not unknown, f"{path.name}: {unknown}"
        for name in re.findall(r"(?<![A-Z]_)LISTENER_(?!TEST_)[A-Z_]+", text):
            known = {config.variable(option) for option in (*options(), "config", *stage_options())}
            assert name in known | {"LISTENER_REVISION"}, f"{path.name}: {name}"


@every_document
def test_metrics_exist(path: Path) -> None:
    known = {row.full_name for row in (*metric_rows.rows(), *backfill.ROWS, *backfill.PART_ROWS)}
    for stage, (_, rows_) in generate().STAGES.items():
        known |= {row.full_name for row in stage_catalogue.rows(stage, rows_)}
    for name in re.findall(r"\blistener_[a-z_]+", read(path)):
        assert {name, re.sub("_(bucket|sum|count)$", "", name)} & known, f"{path.name}: {name}"


def anchors(path: Path) -> set[str]:
    """The anchors that a reader's renderer makes of headings."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", read(path), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", read(path)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), f"{path.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name}: {link}"


@every_document
def test_nothing_of_a_machine_or_a_workplace_is_told(path: Path) -> None:
    found = re.findall(
        r"/root\b|/home/(?!dicom)|/tmp/\w+|https?://(?!github\.com|127\.0\.0\.1|localhost)[\w.-]*(registry|index|proxy)",
        read(path),
    )
    assert not found


def test_the_runbook_quotes_what_the_program_says() -> None:
    told = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    for table in re.findall(r"^\| it says .*\n(?:\|.*\n)+", read(PROJECT / "docs/runbook.md"), re.MULTILINE):
        for first, *_ in rows(table):
            for phrase in codes(first):
                for part in re.split(r"\(\.\.\.\)|ADDR:PORT", phrase):
                    assert part.strip() in told, phrase


# -- README ----------------------------------------------------------------------------------------------------------


def test_set_up_is_two_commands() -> None:
    block = re.findall(r"```sh\n(.*?)```", section(PROJECT / "README.md", "Set up"), re.DOTALL)
    assert [line.partition("#")[0].strip() for text in block for line in text.splitlines()] == ["make run", "make test"]


def test_the_table_of_commands_is_whole() -> None:
    shown = [codes(first)[0] for first, *_ in rows(section(PROJECT / "README.md", "Commands"))]
    assert [text.split()[1] for text in shown] == list(parsers())


def test_what_one_gets_is_shown() -> None:
    text = section(PROJECT / "README.md", "What one gets")
    for line in blocks(PROJECT / "README.md", "jsonl")[0].splitlines():
        assert line in text
        assert json.loads(line)["event"] in {*OUTCOMES, "series-complete"}
    families = {row.full_name: dict(row.labels) for row in metric_rows.rows()}
    (metrics,) = blocks(PROJECT / "README.md", "text")
    for name, label, value in re.findall(
        r"^(listener_\w+?)(?:_bucket)?(?:\{(\w+)=\"(.+?)\"\})? ", metrics, re.MULTILINE
    ):
        assert label in ("", "le") or value in families[name][label]
    assert len(metrics.splitlines()) == 6
    picture = PROJECT / "docs/status-page.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 130_000


@pytest.mark.parametrize("word", ["set aside", "lag", "quiet", "generation", "late"])
def test_our_words_are_explained_where_they_are_first_shown(word: str) -> None:
    assert any(first == word for first, *_ in rows(section(PROJECT / "README.md", "What one gets")))


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\(docs/([\w-]+\.md)\)", read(PROJECT / "README.md")))
    assert {path.name for path in PROJECT.glob("docs/*.md")} <= linked


# -- contributing ----------------------------------------------------------------------------------------------------


def recipe(target: str) -> list[str]:
    """The lines that make runs for a target."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", read(PROJECT / "Makefile"), re.MULTILINE)
    assert found
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def test_the_table_of_make_targets_is_whole() -> None:
    shown = [codes(first)[0] for first, *_ in rows(section(PROJECT / "docs/contributing.md", "Start"))]
    targets = re.findall(r"^([a-z-]+):.*## ", read(PROJECT / "Makefile"), re.MULTILINE)
    assert sorted(shown) == sorted(f"make {name}" for name in targets)


def test_the_markers_are_told() -> None:
    declared = tomllib.loads(read(PROJECT / "pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    told = [codes(first)[0] for first, *_ in rows(section(PROJECT / "docs/contributing.md", "Tests"))]
    assert {line.partition(":")[0] for line in declared} == {name for name in told if "tests" not in name}


def test_what_contributing_names_is_there() -> None:
    for text in codes(read(PROJECT / "docs/contributing.md")):
        if re.fullmatch(r"(\.ci|\.github|docs|helm|listener|tests)(/[\w.-]+)*", text) and text != "listener":
            assert (PROJECT / text).exists(), text


def test_before_a_commit_runs_what_make_check_runs() -> None:
    hooks = yaml.safe_load(read(PROJECT / ".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == recipe("check")
    assert not any(hook["pass_filenames"] for hook in hooks[0]["hooks"])


def test_the_forge_runs_the_parts_of_ci() -> None:
    (job,) = yaml.safe_load(read(PROJECT / ".github/workflows/ci.yml"))["jobs"].values()
    parts = job["strategy"]["matrix"]["part"]
    steps = [step["run"] for step in job["steps"] if "run" in step]
    ci = [line for line in read(PROJECT / ".ci/run").splitlines() if not line.startswith(("step ", "#"))]
    assert steps[-1] == "${{ matrix.part }}"
    for run in (*steps[:-1], *parts):
        assert any(line.startswith(run) for line in ci), f"{run} is no part of .ci/run"
    made = re.findall(r"^make [a-z-]+|(?<=&& )make [a-z-]+", "\n".join(ci), re.MULTILINE)
    assert sorted(made) == sorted(re.findall(r"make [a-z-]+", "\n".join((*steps[1:-1], *parts))))


# -- configuration, architecture -------------------------------------------------------------------------------------


def test_every_command_has_its_exit_statuses() -> None:
    told = [
        name for first, *_ in rows(section(PROJECT / "docs/configuration.md", "Exit statuses")) for name in codes(first)
    ]
    assert sorted(told) == sorted(parsers())


def test_the_readiness_checks_are_told() -> None:
    roles = dict.fromkeys(("incoming", "data", "log", "state"), True)
    _, body = readiness(Conditions(heartbeat=0, writable=roles), 0)
    (example,) = blocks(PROJECT / "docs/operations.md", "json")
    assert list(json.loads(example)["checks"]) == list(body["checks"])


def test_the_packages_and_modules_of_the_architecture_are_there() -> None:
    page = PROJECT / "docs/architecture.md"
    packages = [codes(first)[0] for first, *_ in rows(section(page, "Packages"))]
    assert sorted(packages) == sorted(generate().package_imports())
    modules = [codes(first)[0] for first, *_ in rows(section(page, "The modules that matter"))]
    assert [name for name in modules if not (PROJECT / "listener" / f"{name.replace('.', '/')}.py").is_file()] == []
    assert len(modules) <= MOST_MODULES
    named = [text for text in codes(section(page, "The way of one file")) if text.split(".")[0] in packages]
    assert [name for name in named if not (PROJECT / "listener" / f"{name.replace('.', '/')}.py").is_file()] == []


def test_who_owns_whom_names_classes() -> None:
    page = PROJECT / "docs/architecture.md"
    (picture,) = re.findall(r"```mermaid\n(.*?)```", section(page, "Who owns whom"), re.DOTALL)
    records = [codes(first)[0] for first, *_ in rows(section(page, "The records that travel"))]
    named = {*re.findall(r"\w+(?= -->)|(?<=--> )\w+", picture), *records}
    assert [name for name in sorted(named) if not re.search(rf"^class {name}\b", SOURCE, re.MULTILINE)] == []


def test_a_file_takes_nine_steps_at_most() -> None:
    text = section(PROJECT / "docs/architecture.md", "The way of one file")
    assert 5 <= len(re.findall(r"^\d\. \*\*\w+\*\*", text, re.MULTILINE)) <= MOST_STEPS


def test_a_decision_that_is_struck_names_its_successor() -> None:
    decisions = re.split(r"^(?=\d+\. )", read(PROJECT / "docs/decisions.md"), flags=re.MULTILINE)[1:]
    assert [int(text.partition(".")[0]) for text in decisions] == list(range(1, len(decisions) + 1))
    for number, text in enumerate(decisions, 1):
        if "~~" in text:
            (successor,) = re.findall(r"~~ Superseded by decision (\d+)", text)
            assert number < int(successor) <= len(decisions)
            assert "~~" not in decisions[int(successor) - 1]


def test_performance_begins_with_five_numbers() -> None:
    first = read(PROJECT / "docs/performance.md").partition("\n## ")[0]
    assert [bool(re.search(r"\d{4}-\d\d-\d\d", day)) for *_, day in rows(first)] == [True] * 5


# -- layouts and logs ------------------------------------------------------------------------------------------------


def test_the_layouts_are_told() -> None:
    told = {codes(first)[0]: cells for first, *cells in rows(section(LAYOUTS_AND_LOGS, "Layouts"))}
    assert list(told) == list(plan.LAYOUTS)
    rx, before = plan.LAYOUTS["rx"], "as `rx`"
    for name, cells in told.items():
        preset = plan.LAYOUTS[name]
        # What is told last is the table of templates.
        for cell, template, usual in zip(
            cells,
            (preset.root, preset.study, preset.series, preset.image),
            (rx.root, rx.study, rx.series, rx.image),
            strict=True,
        ):
            expected = cell.replace(" and then as `rx`", usual).replace(before, usual).replace("`", "")
            assert template == expected


def test_the_template_table_is_what_comes_out() -> None:
    values = with_ages(
        {
            "PatientID": "12 34/5",
            "PatientName": "Doe^Jane",
            "PatientBirthDate": "20000101",
            "StudyDate": "20200301",
            "SeriesDescription": "SAG  MPRAGE!",
            "SeriesNumber": "5",
            "SeriesInstanceUID": "1.3.12.2.1107.5.2.19.45152.2013030808061520200285270.0.0.0",
        }
    )
    table = list(rows(section(LAYOUTS_AND_LOGS, "Templates")))
    for template, _, gives, in_path in table:
        rendered = compile_template(codes(template)[0], is_keyword).render(values)
        assert [rendered, sanitize(rendered)] == codes(gives) + codes(in_path)
    assert set(USAGE) == set(re.findall(r"%_([a-z0-9]+)[|_]", "".join(first for first, *_ in table)))


def test_the_refused_template_is_told_in_these_words() -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template("%_foo|3_PatientID", is_keyword)
    assert str(refused.value) in read(LAYOUTS_AND_LOGS)


def test_the_reasons_of_set_aside_are_told() -> None:
    assert [codes(first)[0] for first, *_ in rows(section(LAYOUTS_AND_LOGS, "Set-aside files"))] == list(
        SET_ASIDE_REASONS
    )


def test_the_events_are_told() -> None:
    text = section(LAYOUTS_AND_LOGS, "Events")
    of_ends = re.findall(r'def announced_as.*?return "([a-z-]+)"', SOURCE, re.DOTALL)
    service = [*re.findall(r'\.service\("([a-z-]+)"', SOURCE), *of_ends, *ANNOUNCED.values(), "events-lost"]
    told = [codes(first) for first, *_ in rows(text)]
    keys = [key for cell in told[: -len(OUTCOMES) - len(set(service))] for key in cell]
    assert sorted(keys) == sorted(event_of(_full_outcome(), phi=True))
    assert [cell[0] for cell in told[-len(OUTCOMES) - len(set(service)) :]] == [
        *OUTCOMES,
        *dict.fromkeys(_in_order(service)),
    ]


def _in_order(names: list[str]) -> list[str]:
    order = (
        "started",
        "standby",
        "took-over",
        "ready",
        "series-complete",
        "study-complete",
        "batch-queued",
        "batch-done",
        "batch-empty",
        "events-lost",
        "overflow",
        "worker-lost",
        "access",
        "reloaded",
        "reload-refused",
        "draining",
        "stopped",
    )
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _full_outcome() -> Outcome:
    more = {"reason": "x", "error": "x", "warning": "x", "superseded": "x", "missing": (Missing("", "", ""),)}
    more |= {"Modality": "x", "sender": "x"}
    return Outcome("set-aside", "/in/x", 0, 1, 2, **more)  # type: ignore[arg-type]


def test_the_example_events_have_the_keys_in_order() -> None:
    for block in blocks(LAYOUTS_AND_LOGS, "jsonl"):
        for line in block.splitlines():
            event = json.loads(line)
            if event["event"] in OUTCOMES:
                expected = list(event_of(_full_outcome(), phi="dst" in event))
                assert list(event) == [key for key in expected if key in event]


@pytest.mark.real
def test_the_documents_shown_are_the_documents_written(tmp_path: Path) -> None:
    make_series(tmp_path / "incoming", instances=2)
    arguments = [f"--data={tmp_path}/data", f"--log={tmp_path}/log"]
    command = [sys.executable, "-m", "listener", "repack", str(tmp_path / "incoming"), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    written: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in (tmp_path / "log").rglob("*.json"):
        document = json.loads(path.read_text().replace(str(tmp_path), "/srv/dicom"))
        written.setdefault(_kind(document), []).append(document)
    shown = [json.loads(block) for block in blocks(LAYOUTS_AND_LOGS, "json")]
    shown = [document for document in shown if "digest" not in document]
    assert {_kind(document) for document in shown} == set(written)
    for document in shown:
        alike = written[_kind(document)]
        if "DICOM" in _kind(document):
            _shorten(document, alike[0])
        assert document in alike


def _kind(document: dict[str, Any]) -> tuple[str, ...]:
    (inner,) = document.values()
    return tuple(inner) if isinstance(inner, dict) else tuple(document)


def _shorten(shown: dict[str, Any], written: dict[str, Any]) -> None:
    """Leave of the written map what is shown of it."""
    for study, entry in shown.items():
        whole = written[study]["DICOM"]
        written[study]["DICOM"] = {keyword: whole[keyword] for keyword in entry["DICOM"]}


# -- where packagers look --------------------------------------------------------------------------------------------


def test_wheel_and_chart_name_the_same_people_and_the_chart_s_icon_is_ours() -> None:
    project = tomllib.loads(read(PROJECT / "pyproject.toml"))["project"]
    chart = yaml.safe_load(read(PROJECT / "helm/listener/Chart.yaml"))
    assert chart["maintainers"] == project["maintainers"]
    assert chart.get("home", "") == project.get("urls", {}).get("Homepage", "")
    kind, _, data = chart["icon"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data) == (PROJECT / "docs/icon.svg").read_bytes()

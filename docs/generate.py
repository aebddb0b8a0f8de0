"""Write the generated parts of configuration.md, metrics.md and architecture.md anew from the code: `make docs`.

A test holds that they are up to date.
"""

# ruff: noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from listener import arguments, config
from listener.deidentify import metric_rows as deidentify_catalogue
from listener.deidentify.options import DeidentifyOptions
from listener.export import columns as export_columns
from listener.export import metric_rows as export_catalogue
from listener.export.options import ExportOptions
from listener.notify import metric_rows as notify_catalogue
from listener.notify.options import NotifyOptions
from listener.route import metric_rows as route_catalogue
from listener.route.options import RouteOptions
from listener.route.routes_file import Route, Routes, Target
from listener.serve import metrics as serve_metrics
from listener.serve.options import ServeOptions
from listener.telemetry import metric_rows

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "listener"

#: Labels of route's metrics are names of its file.
_ROUTES = Routes({"NAME": Target("NAME", is_worker=True)}, {"NAME": Route("NAME")})

#: Stages: the class of their options, and their own metrics.
STAGES: dict[str, tuple[type[Any], tuple[metric_rows.Row, ...]]] = {
    "deidentify": (DeidentifyOptions, deidentify_catalogue.ROWS),
    "export": (ExportOptions, export_catalogue.ROWS),
    "notify": (NotifyOptions, notify_catalogue.rows()),
    "route": (RouteOptions, route_catalogue.rows(_ROUTES)),
    "serve": (ServeOptions, serve_metrics.ROWS),
}

_PART = re.compile(r"(?<=<!-- generated: )([a-z-]+) -->\n.*?(?=<!-- end: \1 -->)", re.DOTALL)


def renewed(text: str) -> str:
    """A document with each of its generated parts made anew."""
    return _PART.sub(lambda part: "\n".join([f"{part[1]} -->", "", *PARTS[part[1]](), "", ""]), text)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = tuple(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _options() -> Iterator[str]:
    defaults = config.defaults()
    rows = []
    for name, row in config.options().items():
        flag = config.flag(name) if row.is_switch else f"{config.flag(name)} {row.metavar}"
        unit = row.unit or {"SIZE": "bytes"}.get(row.metavar, "")
        spelled = (f"`{flag}`", f"`{config.variable(name)}`", f"`{name.replace('_', '-')}`")
        rows.append((*spelled, _default(row, defaults[name]), unit, row.help, _commands(row.commands)))
    heads = ("flag", "environment variable", "TOML key", "default", "unit", "meaning", "commands")
    return _table(heads, rows)


def _stage_options(stage: str) -> Iterator[str]:
    """The options of a stage, each with its variable and its key in the table of the stage."""
    kind, _ = STAGES[stage]
    rows = []
    for one in fields(kind):
        row = one.metadata["option"]
        flag = config.flag(one.name) if row.is_switch else f"{config.flag(one.name)} {row.metavar}"
        spelled = (f"`{flag}`", f"`{config.variable(f'{stage}_{one.name}')}`", f"`{one.name.replace('_', '-')}`")
        rows.append((*spelled, _default(row, one.default), row.unit or "", row.help))
    return _table(("flag", "environment variable", f"key of `[{stage}]`", "default", "unit", "meaning"), rows)


def _stage_metrics(stage: str) -> Iterator[str]:
    rows = [(f"`{row.full_name}`", row.kind, _shown_labels(row), row.help) for row in STAGES[stage][1]]
    return _table(("name", "type", "labels", "meaning"), rows)


def _export_columns() -> Iterator[str]:
    kinds = {"text": "text", "whole": "whole number", "number": "number", "day": "date"}
    found = [export_columns.of_keyword(keyword) for keyword in export_columns.keywords()]
    for kind, words in kinds.items():
        named = ", ".join(f"`{column.name}`" for column in found if column.type == kind)
        yield f"- {words}: {named}"


def _shown_labels(row: metric_rows.Row) -> str:
    return "; ".join(f"`{name}`: {', '.join(f'`{value}`' for value in values)}" for name, values in row.labels)


def _reloads() -> Iterator[str]:
    named = [f"`{config.flag(name)}`" for name, row in config.options().items() if row.reloads]
    yield f"{', '.join(named)}, and the tables `[hooks.NAME]`."


def _default(row: config.Option, default: Any) -> str:
    if row.shown:
        return row.shown if " " in row.shown else f"`{row.shown}`"
    if row.is_switch:
        return "off"
    if isinstance(default, tuple):
        return " ".join(f"`{one}`" for one in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _commands(commands: frozenset[str]) -> str:
    every = parsers()
    return "all" if commands >= every.keys() else ", ".join(f"`{name}`" for name in every if name in commands)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by name, in the order of `listener --help`."""
    return arguments.commands_of(arguments.parser())


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag that a parser takes, in every spelling."""
    return {spelling for action in parser._actions for spelling in action.option_strings}  # noqa: SLF001


def _own_flags() -> Iterator[str]:
    rows = []
    for command, parser in parsers().items():
        shared = {config.flag(name) for name in config.options()} | {"--config", "--help"}
        shared |= {config.flag(one.name) for one in fields(STAGES[command][0])} if command in STAGES else set()
        for action in parser._actions:  # noqa: SLF001
            spelled = action.option_strings
            if shared.isdisjoint(spelled):
                words = (action.metavar,) if isinstance(action.metavar, str) else action.metavar or ()
                takes = " ".join(words) if action.nargs != 0 else ""
                names = [f"`{one} {takes}`" if takes else f"`{one}`" for one in spelled] or [f"`{action.metavar}`"]
                rows.append((f"`{command}`", ", ".join(names), action.help or ""))
            elif len(spelled) > 1 and "--help" not in spelled:
                rows.append((f"`{command}`", ", ".join(f"`{one}`" for one in spelled[1:]), f"as `{spelled[0]}`"))
    return _table(("command", "flag or argument", "meaning"), rows)


def _catalogue() -> Iterator[str]:
    rows = [
        (f"`{row.full_name}`", row.kind, ", ".join(f"`{name}`" for name in row.label_names), row.help)
        for row in metric_rows.rows()
    ]
    return _table(("name", "type", "labels", "meaning"), rows)


def _labels() -> Iterator[str]:
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for row in metric_rows.rows():
        for name, values in row.labels:
            found.setdefault((name, values), []).append(f"`{row.full_name}`")
    shown = "from the build or the configuration"
    rows = [
        (f"`{name}`", ", ".join(of), ", ".join(f"`{value}`" for value in values) or shown)
        for (name, values), of in found.items()
    ]
    return _table(("label", "of", "values"), rows)


def _buckets() -> Iterator[str]:
    bounds = {row.full_name: " ".join(f"{bound:.10g}" for bound in row.buckets) for row in metric_rows.rows()}
    rows = [(f"`{name}`", shown) for name, shown in bounds.items() if shown]
    return _table(("name", "upper bounds (`le`), beside `+Inf`"), rows)


def package_imports() -> dict[str, set[str]]:
    """The packages of `listener`, each with the packages that its modules import."""
    packages = {path.parent.name: path.parent for path in SOURCE.glob("*/__init__.py")}
    found: dict[str, set[str]] = {}
    for name, folder in packages.items():
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("*.py")]
        modules = [node.module or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        found[name] = {part for module in modules for part in module.split(".")[1:2] if part in packages} - {name}
    return found


def _without_detours(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The transitive reduction: an arrow is left out where others lead to the same package."""

    def reach(name: str) -> set[str]:
        return imports[name].union(*(reach(other) for other in imports[name]))

    return {
        name: {one for one in others if not any(one in reach(other) for other in others - {one})}
        for name, others in imports.items()
    }


def _packages() -> Iterator[str]:
    yield "```mermaid"
    yield "flowchart TD"
    for name, others in sorted(_without_detours(package_imports()).items()):
        for other in sorted(others):
            yield f"  {name} --> {other}"
    yield "```"


#: The parts that documents name in `<!-- generated: NAME -->`.
PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "options": _options,
    "own-flags": _own_flags,
    "reloads": _reloads,
    "catalogue": _catalogue,
    "labels": _labels,
    "buckets": _buckets,
    "packages": _packages,
}

PARTS["export-columns"] = _export_columns

for _stage in STAGES:
    PARTS |= {
        f"{_stage}-options": partial(_stage_options, _stage),
        f"{_stage}-metrics": partial(_stage_metrics, _stage),
    }

#: The page of a stage that has not its name.
_PAGES = {"notify": "chris", "route": "routing", "serve": "dicomweb"}

DOCUMENTS = (
    "configuration.md",
    "metrics.md",
    "architecture.md",
    *(f"{_PAGES.get(stage, stage)}.md" for stage in STAGES),
)


def main() -> int:
    """Write what is out of date, and name it."""
    for name in DOCUMENTS:
        path = HERE / name
        before = path.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"docs/{name} was written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The dashboard as its JSON says it: rows, panels, queries, and the queries as Grafana would ask them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[2] / "helm/listener/dashboards/listener.json"

#: What Grafana puts for the variables when "All" is chosen and the targets have no namespace and no pod.
EVERYTHING = {"job": ".+", "namespace": ".*", "pod": ".*"}


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    expression: str
    legend: str
    instant: bool

    def asked(self, interval: str, variables: Mapping[str, str] = EVERYTHING) -> str:
        """The query with its variables replaced; `interval` for `$__rate_interval`, such as "4s"."""
        text = self.expression.replace("$__rate_interval", interval)
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        return text


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: `kind` as Grafana names it, `json` everything that is written of it; `of_stages`: its row is about
    stages (docs/dashboard.py).
    """

    row: str
    kind: str
    title: str
    targets: tuple[Target, ...]
    json: dict[str, Any]
    of_stages: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """The standard options of its field."""
        found: dict[str, Any] = self.json["fieldConfig"]["defaults"]
        return found


def document() -> dict[str, Any]:
    """The whole dashboard."""
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def panels(dashboard: Mapping[str, Any]) -> Iterator[Panel]:
    """The panels in their order, each with the title of its row; those of a closed row lie in it."""
    row = ""
    for written in dashboard["panels"]:
        if written["type"] != "row":
            yield _panel(row, written)
            continue
        row = written["title"]
        for inside in written["panels"]:
            yield _panel(row, inside, of_stages=True)


def _panel(row: str, written: dict[str, Any], *, of_stages: bool = False) -> Panel:
    targets = tuple(Target(one["expr"], one["legendFormat"], one.get("instant", False)) for one in written["targets"])
    return Panel(row, written["type"], written["title"], targets, written, of_stages)

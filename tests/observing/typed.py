"""The dashboard as a TypeScript program: it compiles when the JSON is what Grafana's own schema says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.observing.dashboard import panels

#: Kind of a panel -> the module of its options, and whether its field has own options.
_SCHEMAS = {"stat": "Stat", "timeseries": "TimeSeries", "heatmap": "Heatmap", "table": "Table"}
_OWN_FIELDS = ("timeseries", "heatmap", "table")
_MODULE = "@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen"

#: What an annotation has of its data source, Prometheus: no schema tells of it.
_OF_PROMETHEUS = ("useValueForTime", "titleFormat", "textFormat", "expr")

# JSON has the values of enumerations, not their names.
_HEAD = """\
import type { Dashboard } from "@grafana/schema";
type Plain<T> =
  T extends string ? `${T}` :
  T extends number | boolean | null | undefined ? T :
  T extends Array<infer One> ? Plain<One>[] :
  T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def program(document: Mapping[str, Any]) -> str:
    """TypeScript that says: this is a dashboard, and each panel has the options of its kind."""
    return "\n".join([_HEAD, *_imports(), *_statements(document)])


def _imports() -> Iterator[str]:
    for kind, name in _SCHEMAS.items():
        module = _MODULE.format(kind=kind, name=name)
        yield f'import type {{ Options as {name}Options }} from "{module}";'
        if kind in _OWN_FIELDS:
            yield f'import type {{ FieldConfig as {name}Field }} from "{module}";'


def _statements(document: Mapping[str, Any]) -> Iterator[str]:
    shown = [_without(one, _OF_PROMETHEUS) for one in document["annotations"]["list"]]
    plain = {**document, "annotations": {"list": shown}}
    yield f"export const dashboard: Plain<Dashboard> = {json.dumps(plain, indent=1)};"
    for panel in panels(document):
        name, number = _SCHEMAS[panel.kind], panel.json["id"]
        yield f"export const options{number}: Plain<{name}Options> = {json.dumps(panel.json['options'])};"
        if panel.kind in _OWN_FIELDS:
            custom = json.dumps(panel.defaults["custom"])
            yield f"export const field{number}: Plain<{name}Field> = {custom};"


def _without(value: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A copy in which neither the value nor a mapping in it has these keys."""
    return {
        key: _without(one, names) if isinstance(one, Mapping) else one for key, one in value.items() if key not in names
    }

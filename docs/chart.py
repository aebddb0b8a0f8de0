"""Write the schema of the values and the table of the chart's README.md anew, from values.yaml and the options:
part of `make docs`. A test holds that they are up to date.

values.yaml is the only place where a value, its default and its meaning are told: the comment right above a key is its
description, the kind of its default is its type, and what a type cannot say stands in RULES.
"""

# ruff: noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from listener import config, hook_config
from listener.deidentify.options import DeidentifyOptions
from listener.export.options import ExportOptions
from listener.notify.options import NotifyOptions
from listener.route.options import RouteOptions
from listener.serve.options import ServeOptions

CHART = Path(__file__).resolve().parent.parent / "helm/listener"

#: Options of `listener run` that the chart sets itself.
CHARTS_OWN = ("incoming", "data", "log", "state", "http", "token_file", "http_cert", "http_key", "http_client_ca")

_ANY: dict[str, Any] = {"type": "object", "additionalProperties": True}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS = {"type": "array", "items": {"type": "object"}}
_NAMED = {"type": "array", "items": {"type": "object", "required": ["name"]}}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_UNPRIVILEGED = {"type": "integer", "minimum": 1024, "maximum": 65535}
_ID = {"type": ["integer", "null"], "minimum": 1, "maximum": 2147483647}
_NAME = {"type": "string", "maxLength": 50, "pattern": "^([a-z]([a-z0-9-]*[a-z0-9])?)?$"}
_NAMES = {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}}
_OWN_LABELS = r"^(app\.kubernetes\.io/(name|instance|component|version|managed-by)|helm\.sh/chart)$"
_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
_SERVICE = {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}
_SECONDS = {"type": "integer", "minimum": 0}
_PROBE_KEYS = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold")
_PROBE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {key: {"type": "integer", "minimum": 0 if key.startswith("initial") else 1} for key in _PROBE_KEYS},
}
_RESOURCES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": _ANY, "limits": _ANY, "claims": _OBJECTS},
}
_KEPT = {"enum": ["Retain", "Delete"]}

#: Path (or its end, with a leading dot) -> what a type cannot say.
RULES: dict[str, dict[str, Any]] = {
    "global.imagePullSecrets": {"type": "array", "items": {"type": ["string", "object"]}},
    "nameOverride": _NAME,
    "fullnameOverride": _NAME,
    "replicas": {"type": "integer", "minimum": 0, "maximum": 1000},
    "uid": _ID,
    "gid": _ID,
    "imagePullSecrets": _NAMES,
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 1},
    "podAnnotations": _TEXTS,
    "podLabels": _TEXTS,
    "commonLabels": _TEXTS | {"propertyNames": {"not": {"pattern": _OWN_LABELS}}},
    "nodeSelector": _TEXTS,
    "tolerations": _OBJECTS,
    "affinity": _ANY,
    "topologySpreadConstraints": {"type": "array", "items": {"type": "object", "required": ["topologyKey"]}},
    "updateStrategy": _ANY,
    "extraVolumes": _NAMED,
    "extraContainers": _NAMED,
    "extraObjects": {"type": "array", "items": {"type": "object", "required": ["apiVersion", "kind"]}},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"], "pattern": "^[0-9]+%$", "minimum": 0},
    "listener.secrets": _NAMES,
    "listener.port": _UNPRIVILEGED,
    "storescp.port": _UNPRIVILEGED,
    "serve.port": _UNPRIVILEGED,
    "serve.metricsPort": _UNPRIVILEGED,
    "notify.port": _UNPRIVILEGED,
    "export.port": _UNPRIVILEGED,
    "clean.port": _UNPRIVILEGED,
    "clean.collection.port": _UNPRIVILEGED,
    "clean.secrets": _NAMES,
    "route.secrets": _NAMES,
    "route.port": _UNPRIVILEGED,
    "route.inside.port": _UNPRIVILEGED,
    "route.inside.type": _SERVICE,
    "storescp.tls.peers": {"enum": ["require", "verify", "ignore"]},
    "storescp.tls.profile": {"enum": ["", "bcp195-nd", "bcp195", "bcp195-ex", "aes", "null"]},
    "storescp.command": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    "storescp.args": {"type": "array", "items": {"type": "string"}},
    "storescp.lingerSeconds": _SECONDS,
    "service.type": _SERVICE,
    "service.port": _PORT,
    "page.type": _SERVICE,
    "page.port": _PORT,
    "page.ingress.hosts": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "service.nodePort": {"type": "integer", "minimum": 0, "maximum": 65535},
    "service.externalTrafficPolicy": {"enum": ["Cluster", "Local"]},
    "service.loadBalancerSourceRanges": {"type": "array", "items": {"type": "string"}},
    ".size": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([KMGTPE]i?)?$"},
    ".accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
    },
    "persistence.whenDeleted": _KEPT,
    "persistence.whenScaled": _KEPT,
    "backfill.name": {"type": "string", "maxLength": 30, "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"},
    "backfill.completions": {"type": "integer", "minimum": 1, "maximum": 1000},
    "backfill.parallelism": {"type": "integer", "minimum": 1, "maximum": 1000},
    "backfill.backoffLimitPerIndex": {"type": "integer", "minimum": 0, "maximum": 1000},
    "backfill.partBy": {"enum": ["directory", "name"]},
    "networkPolicy.dicomFrom": _OBJECTS,
    "networkPolicy.dicomwebFrom": _OBJECTS,
    "networkPolicy.insideFrom": _OBJECTS,
    "networkPolicy.metricsFrom": _OBJECTS,
    "networkPolicy.pageFrom": _OBJECTS,
    "networkPolicy.egress": _OBJECTS,
    ".extraEnv": _NAMED,
    ".extraVolumeMounts": _NAMED,
    ".tlsConfig": _ANY,
    ".relabelings": _OBJECTS,
    ".metricRelabelings": _OBJECTS,
    ".pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    ".digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    ".repository": {"type": "string", "minLength": 1},
    ".interval": _DURATION,
    ".resources": _RESOURCES,
    ".labels": _TEXTS,
    ".annotations": _TEXTS,
    ".startupProbe": _PROBE,
    ".livenessProbe": _PROBE,
    ".readinessProbe": _PROBE,
    ".severity": {"enum": ["info", "warning", "critical"]},
    ".for": _DURATION,
}


# -- values.yaml, with its comments ----------------------------------------------------------------------------------


def comments(text: str) -> dict[str, str]:
    """The comment right above each key, by the key's dotted path. An empty line ends a comment."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in text.splitlines():
        key = re.match(r"( *)([A-Za-z]\w*):(?: |$)", line)
        if line.strip().startswith("#"):
            lines.append(line.strip().removeprefix("#").strip())
            continue
        if key:
            while path and path[-1][0] >= len(key[1]):
                path.pop()
            path.append((len(key[1]), key[2]))
            if lines:
                found[".".join(name for _, name in path)] = " ".join(lines)
        lines = []
    return found


def values() -> tuple[dict[str, Any], dict[str, str]]:
    """The defaults, and their descriptions."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text), comments(text)


# -- the schema ------------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The whole values.schema.json."""
    defaults, told = values()
    found = _of("", defaults, told)
    # Other charts have theirs there too.
    found["properties"]["global"]["additionalProperties"] = True
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart listener", **found}


def _of(path: str, value: Any, told: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": told[path]} if path in told else {}
    rule = RULES.get(path) or RULES.get("." + path.rpartition(".")[2])
    if path in _OPTIONS:
        return found | _OPTIONS[path]()
    if path == "listener.hooks":
        return found | hooks_schema()
    if rule:
        return found | rule
    if isinstance(value, dict):
        below = {key: _of(f"{path}.{key}".lstrip("."), one, told) for key, one in value.items()}
        return found | {"type": "object", "additionalProperties": False, "properties": below}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    return found | {"type": kinds[type(value)]}


def options_schema(command: str = "run", own: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every option of `listener run` (or of another command) by its TOML key, but the chart's `own`."""
    not_given = {*CHARTS_OWN, *own}
    rows = {name: row for name, row in config.options().items() if command in row.commands and name not in not_given}
    properties = {name.replace("_", "-"): _option(row) for name, row in rows.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def stage_options_schema(kind: type[Any], own: tuple[str, ...]) -> dict[str, Any]:
    """Every option of a stage by its TOML key, but those that the chart sets itself."""
    rows = {name: row for name, row in config.rows_of(kind).items() if name not in own}
    properties = {name.replace("_", "-"): _option(row) for name, row in rows.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


#: Where options of a command or a stage stand.
_OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "listener.options": options_schema,
    "backfill.options": lambda: options_schema("once", ("keep_source", "events")),
    "clean.collection.options": lambda: options_schema("run", ("batches", "batch_source", "batches_at_once")),
    "clean.options": lambda: stage_options_schema(DeidentifyOptions, ("into", "key_file", "http", "vault")),
    "notify.options": lambda: stage_options_schema(NotifyOptions, ("nats_file", "celery_file", "cube_login", "http")),
    "export.options": lambda: stage_options_schema(ExportOptions, ("http",)),
    "serve.options": lambda: stage_options_schema(ServeOptions, ("dicomweb", "http", "index", "token_file")),
    "route.options": lambda: stage_options_schema(RouteOptions, ("routes", "http")),
}


def hooks_schema() -> dict[str, Any]:
    """Tables [hooks.NAME], by name."""
    properties = {
        key: {"type": ["string", "array"], "items": {"type": "string"}}
        if several
        else {"type": "number" if key == "timeout" else "string"}
        for key, (_, several) in hook_config.KEYS.items()
    }
    table = {"type": "object", "additionalProperties": False, "properties": properties}
    either = [{"required": [key]} for key in ("url", "exec")]
    names = {"pattern": hook_config.NAME.pattern.join("^$")}
    return {"type": "object", "propertyNames": names, "additionalProperties": table | {"oneOf": either}}


def _option(row: config.Option) -> dict[str, Any]:
    kinds: dict[str, list[str]] = {
        "N": ["integer"],
        "SECONDS": ["number"],
        "DAYS": ["number"],
        "SIZE": ["integer", "string"],
    }
    types = ["boolean"] if row.is_switch else kinds.get(row.metavar, ["string"])
    if row.metavar.startswith("on|"):
        # YAML takes a plain on or off for a boolean.
        types = ["string", "boolean"]
    if row.several:
        # Texts such as CT=5 stand beside plain numbers.
        types = [*types, *(["string"] if "string" not in types else []), "array"]
    found: dict[str, Any] = {"description": row.help, "type": types[0] if len(types) == 1 else types}
    return found | ({"items": {"type": ["string", "number"]}} if row.several else {})


# -- the table of the README -----------------------------------------------------------------------------------------


def table() -> Iterator[str]:
    """One row a value that has a description, or stands below one."""
    defaults, told = values()
    yield "| value | default | meaning |"
    yield "|---|---|---|"
    for path, default in _leaves("", defaults, told):
        meaning = told.get(path) or f"as `{path.rpartition('.')[0]}`"
        shown = json.dumps(default) if not isinstance(default, str) or not default else default
        yield f"| `{path}` | `{shown}` | {meaning} |".replace("\\|", "|")


def _leaves(path: str, value: Any, told: dict[str, str]) -> Iterator[tuple[str, Any]]:
    described_inside = any(one.startswith(f"{path}.") for one in told) if path else True
    if isinstance(value, dict) and value and described_inside:
        for key, below in value.items():
            yield from _leaves(f"{path}.{key}".lstrip("."), below, told)
    else:
        yield path, value


_PART = re.compile(r"(?<=<!-- generated: values -->\n).*?(?=<!-- end: values -->)", re.DOTALL)


def renewed(readme: str) -> str:
    """The README with its table made anew."""
    return _PART.sub(lambda _: "\n" + "\n".join(table()) + "\n\n", readme)


def schema_text() -> str:
    """values.schema.json as it should lie there."""
    return json.dumps(schema(), indent=2) + "\n"


def main() -> int:
    """Write what is out of date, and name it."""
    readme = CHART / "README.md"
    wanted = {CHART / "values.schema.json": schema_text(), readme: renewed(readme.read_text(encoding="utf-8"))}
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"helm/listener/{path.name} was written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())

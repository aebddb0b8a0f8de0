"""Write the dashboard's rows of stages anew, and their table in dashboard.md, from the tables below: part of
`make docs`. A test holds that they are up to date, and that each metric of a stage that has rows here is in one of its
panels.

The rows of the service are written by hand, in `helm/listener/dashboards/listener.json` itself; those of stages come
behind them, closed (a closed row asks nothing), and a panel of theirs is one line here.
"""

# ruff: noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_HOME = Path(__file__).resolve().parent.parent
PATH, DOCUMENT = _HOME / "helm/listener/dashboards/listener.json", _HOME / "docs/dashboard.md"

_PART = re.compile(r"(<!-- generated: dashboard-rows -->\n).*?(<!-- end: dashboard-rows -->)", re.DOTALL)

#: What every selector has: the targets that a person chose.
CHOSEN = 'job=~"$job",namespace=~"$namespace",pod=~"$pod"'

#: Ids of a stage's panels begin at a thousand times its row's number here; those of the service are below.
_IDS = 1000

#: Panels beside each other, of the 24 columns, and the height of one.
_BESIDE, _HEIGHT = 4, 8

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(NamedTuple):
    """A query and the legend of its series."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph. `unit` is one of Grafana's."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]


class Row(NamedTuple):
    """A row: what it answers, and which stages it is about (() for all)."""

    title: str
    stages: Sequence[str]
    panels: Sequence[Panel]


# -- queries by metrics, without `listener_` -------------------------------------------------------------------------


def _summed(inner: str, by: Sequence[str], legend: str = "", how: str = "sum") -> Query:
    grouped = f"{how} by ({', '.join(by)})" if by else how
    return Query(f"{grouped} ({inner})", legend or ", ".join("{{" + name + "}}" for name in by))


def rate(name: str, *by: str, legend: str = "") -> Query:
    """A counter, a second."""
    return _summed(f"rate(listener_{name}{{{CHOSEN}}}[$__rate_interval])", by, legend)


def level(name: str, *by: str, legend: str = "", how: str = "sum") -> Query:
    """A gauge."""
    return _summed(f"listener_{name}{{{CHOSEN}}}", by, legend, how)


def age(name: str, *by: str, legend: str = "") -> Query:
    """The seconds since a moment, 0 where there is none."""
    moment = f"listener_{name}{{{CHOSEN}}}"
    return _summed(f"(time() - {moment}) * ({moment} > bool 0)", by, legend, "max")


def percentiles(name: str, *by: str) -> tuple[Query, ...]:
    """Median and 95th and 99th percentile of a histogram."""
    inner = f"sum by ({', '.join(('le', *by))}) (rate(listener_{name}_bucket{{{CHOSEN}}}[$__rate_interval]))"
    labels = "".join("{{" + label + "}}, " for label in by)
    return tuple(
        Query(f"histogram_quantile({share}, {inner})", f"{labels}{word}")
        for share, word in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


# -- the rows --------------------------------------------------------------------------------------------------------

ROWS = (
    Row(
        "Do the stages keep up?",
        (),
        (
            Panel(
                "Stages ready",
                "What /readyz of each stage says, of the process that works (a second one waits for it): 1 or 0.",
                "none",
                (level("consumer_ready", "consumer", how="max"),),
            ),
            Panel(
                "Stages with an owner",
                "How many processes of each stage work. 0: nobody does; see whether it runs.",
                "none",
                (level("consumer_is_owner", "consumer"),),
            ),
            Panel(
                "Since a stage's heartbeat",
                "How long ago the loop of each stage came round last; about a second.",
                "s",
                (age("consumer_heartbeat_timestamp_seconds", "consumer"),),
            ),
            Panel(
                "Deliveries answered",
                "Series and studies that a stage took, put off until later, or gave up.",
                "cps",
                (rate("consumer_deliveries_total", "consumer", "outcome"),),
            ),
            Panel(
                "Deliveries that wait",
                "Deliveries in the ledger that a stage has not taken yet, and those that it gave up: "
                "nothing of these is pruned.",
                "short",
                (
                    level("consumer_pending_deliveries", "consumer"),
                    level("consumer_failed_deliveries", "consumer", legend="{{consumer}}, given up"),
                ),
            ),
            Panel(
                "Oldest delivery that waits",
                "How long the oldest delivery of each stage has waited.",
                "s",
                (age("consumer_oldest_pending_timestamp_seconds", "consumer"),),
            ),
            Panel(
                "Time of a delivery",
                "From taking a delivery to answering it.",
                "s",
                percentiles("consumer_delivery_duration_seconds", "consumer"),
            ),
        ),
    ),
    Row(
        "Does each study reach its worker, and its result who asked?",
        ("route",),
        (
            Panel(
                "Attempts to send",
                "Attempts to send an instance to each target, by how they ended. full: it rests; unavailable: counted "
                "when it goes down.",
                "cps",
                (rate("route_sends_total", "target", "outcome"),),
            ),
            Panel(
                "Bytes sent",
                "Bytes of the files that were delivered.",
                "Bps",
                (rate("route_sent_bytes_total", "target"),),
            ),
            Panel(
                "Hop",
                "From close-write by storescp until the target had answered; only first attempts.",
                "s",
                percentiles("route_hop_seconds"),
            ),
            Panel(
                "Time to store",
                "From opening a file to the target's answer: its own speed, and the network's.",
                "s",
                percentiles("route_store_seconds", "target"),
            ),
            Panel(
                "Instances that wait",
                "Instances that are still to be sent to each target.",
                "short",
                (level("route_pending_instances", "target"),),
            ),
            Panel(
                "Oldest instance that waits",
                "How long the oldest instance has waited for each target.",
                "s",
                (age("route_oldest_pending_timestamp_seconds", "target"),),
            ),
            Panel(
                "Targets that answer",
                "1: it answers; 0: it is down or full. A worker's studies go to another one meanwhile, a destination's "
                "wait.",
                "none",
                (
                    level("route_target_up", "target", how="min"),
                    level("route_target_rejects_title", "target", legend="{{target}}, rejects an AE title", how="max"),
                ),
            ),
            Panel(
                "Studies, by worker",
                "Studies that each worker has something to do with, those that wait for a worker, and who was paused "
                "by a person (1).",
                "short",
                (
                    level("route_live_studies", "target"),
                    level("route_waiting_studies", legend="waiting for a worker"),
                    level("route_worker_paused", "target", legend="{{target}}, paused", how="max"),
                ),
            ),
            Panel(
                "Studies moved",
                "Studies moved whole to another worker, a second, by why.",
                "cps",
                (rate("route_failovers_total", "reason"),),
            ),
            Panel(
                "Given up, or not to be sent",
                "Dead letters of each target; instances that no route wants; sends that wait for a route or target "
                "which left the routes file.",
                "short",
                (
                    level("route_dead_letters", "target", legend="{{target}}, given up"),
                    level("route_unclaimed_instances", legend="unclaimed"),
                    level("route_held_sends", legend="route or target gone"),
                ),
            ),
            Panel(
                "Results",
                "Results that came back for each route, originals that came back (nobody gets these), studies that "
                "were told as unanswered, and instances that were re-encoded.",
                "cps",
                (
                    rate("route_results_total", "route"),
                    rate("route_originals_total", legend="originals that came back"),
                    rate("route_unanswered_total", legend="unanswered studies"),
                    rate("route_reencoded_total", "target", legend="{{target}}, re-encoded"),
                ),
            ),
            Panel(
                "Held results, unanswered studies",
                "What workers sent and nobody gets until a person decides, by why; studies of the last day that have "
                "no result.",
                "short",
                (
                    level("route_held_results", "reason"),
                    level("route_unanswered_studies", legend="unanswered"),
                ),
            ),
            Panel(
                "Behind the ledger",
                "Rows of the ledger's feed that were not taken yet, and whether the routes file is in use (1) or was "
                "refused (0).",
                "short",
                (
                    level("route_behind_rows", legend="rows behind"),
                    level("route_config_ok", legend="routes file in use", how="min"),
                ),
            ),
        ),
    ),
    Row(
        "Is what is complete in the target?",
        ("export",),
        (
            Panel(
                "Target takes what is exported",
                "1: it does; 0: it is away, full or refuses, and what is due waits.",
                "none",
                (level("export_target_ok", legend="target", how="min"),),
            ),
            Panel(
                "Generations answered for",
                "Generations of series that were exported, those whose newer one has all that they had, and those that "
                "cannot be exported, by why.",
                "cps",
                (
                    rate("export_series_total", "outcome"),
                    rate("export_failures_total", "reason", legend="failed: {{reason}}"),
                ),
            ),
            Panel(
                "Bytes to the target and back",
                "Bytes that were written, and those that were read back and compared.",
                "Bps",
                (
                    rate("export_bytes_total", legend="written"),
                    rate("export_verified_bytes_total", legend="read back"),
                ),
            ),
            Panel(
                "Objects",
                "Objects that were put, those that were tried again after an error, those that found another content "
                "under their key, and parts of the table.",
                "cps",
                (
                    rate("export_objects_total", legend="put"),
                    rate("export_retries_total", legend="tried again"),
                    rate("export_conflicts_total", legend="another content there"),
                    rate("export_parts_total", legend="parts of the table"),
                ),
            ),
            Panel(
                "Time of a generation",
                "From taking a generation of a series (with archives of studies or batches: all of it) to its end.",
                "s",
                percentiles("export_series_duration_seconds"),
            ),
            Panel(
                "Oldest generation that waits",
                "How long the oldest generation has waited to be exported.",
                "s",
                (level("export_oldest_pending_age_seconds", legend="oldest that waits", how="max"),),
            ),
            Panel(
                "Generations under way",
                "Generations of series that are being exported.",
                "short",
                (level("export_in_flight", legend="under way"),),
            ),
        ),
    ),
    Row(
        "Is ChRIS told?",
        ("notify",),
        (
            Panel(
                "Targets that take messages",
                "1: NATS is connected, CUBE's broker takes messages and CUBE answers; 0: not, and ends of series wait.",
                "none",
                (level("notify_connected", "target", how="min"),),
            ),
            Panel(
                "Messages to ChRIS",
                "Messages that the brokers took: progress, ends, series to be registered, and again those that CUBE "
                "did not register.",
                "cps",
                (rate("notify_messages_total", "target", "kind"),),
            ),
            Panel(
                "Until a series is told",
                "From the end of a series until the broker took its message or, with --cube, CUBE had registered it.",
                "s",
                percentiles("notify_confirmed_seconds"),
            ),
            Panel(
                "Not as it came",
                "Values that CUBE gets cut or not at all, by keyword; series that grew after CUBE had registered them; "
                "progress that was dropped, for NATS was away.",
                "cps",
                (
                    rate("notify_adjusted_total", "keyword"),
                    rate("notify_late_total", legend="late series"),
                    rate("notify_dropped_total", legend="dropped progress"),
                ),
            ),
        ),
    ),
    Row(
        "Can viewers look?",
        ("serve",),
        (
            Panel(
                "Services that are ready",
                "What /readyz of serve says (1 or 0), and how many processes answer.",
                "none",
                (level("serve_ready", legend="ready", how="min"), level("serve_processes", legend="processes")),
            ),
            Panel(
                "Requests over DICOMweb",
                "Requests, by resource and status.",
                "cps",
                (rate("serve_requests_total", "resource", "status"),),
            ),
            Panel(
                "Time of an answer",
                "From a request to its answer's end, by resource.",
                "s",
                percentiles("serve_request_duration_seconds", "resource"),
            ),
            Panel(
                "Bytes served",
                "Bytes of bodies that were sent, by resource.",
                "Bps",
                (rate("serve_bytes_total", "resource"),),
            ),
            Panel(
                "Frames served, connections",
                "Frames that were sent, a second, and connections that are open.",
                "short",
                (rate("serve_frames_total", legend="frames"), level("serve_connections", legend="connections")),
            ),
            Panel(
                "Series that are not indexed",
                "Series that searches do not find yet, and complete ones that are still to be indexed ahead.",
                "short",
                (
                    level("serve_index_waiting", legend="not in the catalogue"),
                    level("serve_index_documents_waiting", legend="to be indexed ahead"),
                ),
            ),
            Panel(
                "Lag of the catalogue",
                "How long ago the oldest series came that searches do not find yet.",
                "s",
                (level("serve_index_lag_seconds", legend="lag", how="max"),),
            ),
            Panel(
                "Series looked up",
                "Series that were asked for: open already, known to the index, made anew, failed.",
                "cps",
                (rate("serve_index_lookups_total", "result"),),
            ),
            Panel(
                "Time to index a series",
                "Time in which a series was indexed when it was asked for or ahead.",
                "s",
                percentiles("serve_index_duration_seconds"),
            ),
            Panel(
                "Bytes of the index", "What the index takes.", "bytes", (level("serve_index_bytes", legend="index"),)
            ),
        ),
    ),
)


# -- as Grafana has it -----------------------------------------------------------------------------------------------

_CUSTOM = {
    "axisPlacement": "auto",
    "drawStyle": "line",
    "fillOpacity": 10,
    "gradientMode": "none",
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "pointSize": 4,
    "showPoints": "never",
    "spanNulls": False,
    "stacking": {"group": "A", "mode": "none"},
}
_OPTIONS = {
    "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": 24 // _BESIDE, "x": x, "y": y},
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "palette-classic"},
                "mappings": [],
                "noValue": "no data",
                "unit": panel.unit,
                "min": 0,
                "custom": _CUSTOM,
            },
            "overrides": [],
        },
        "options": _OPTIONS,
        "targets": [
            {
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": query.expression,
                "format": "time_series",
                "legendFormat": query.legend,
                "refId": chr(ord("A") + place),
                "range": True,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def _rows(y: int) -> Iterator[dict[str, Any]]:
    """Yield the rows from line `y` on, each closed, with its panels in it."""
    for number, row in enumerate(ROWS, 1):
        inside = [
            _panel(
                number * _IDS + place + 1,
                panel,
                place % _BESIDE * (24 // _BESIDE),
                y + number + place // _BESIDE * _HEIGHT,
            )
            for place, panel in enumerate(row.panels)
        ]
        grid = {"h": 1, "w": 24, "x": 0, "y": y + number - 1}
        yield {
            "id": number * _IDS,
            "type": "row",
            "title": row.title,
            "collapsed": True,
            "gridPos": grid,
            "panels": inside,
        }


def renewed(text: str) -> str:
    """The dashboard with the rows of stages made anew."""
    document = json.loads(text)
    kept = [panel for panel in document["panels"] if panel["id"] < _IDS]
    y = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in kept)
    document["panels"] = [*kept, *_rows(y)]
    return json.dumps(document, indent=2) + "\n"


def retold(text: str) -> str:
    """The document of the dashboard with its table of these rows made anew."""
    lines = [f"| {row.title} | {', '.join(panel.title.lower() for panel in row.panels)} |" for row in ROWS]
    made = "\n".join(["", "| row | panels |", "|---|---|", *lines, "", ""])
    return _PART.sub(lambda part: part[1] + made + part[2], text)


def main() -> int:
    """Write what is out of date, and name it."""
    for path, made in ((PATH, renewed), (DOCUMENT, retold)):
        before = path.read_text(encoding="utf-8")
        after = made(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(_HOME)} was written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One set of metrics: the promise, the code, the page, the dashboard, the rules and the documents name the same."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from listener.backfill.metric_rows import ROWS as BACKFILL
from listener.deidentify import metric_rows as deidentify
from listener.export import metric_rows as export_catalogue
from listener.notify import metric_rows as notify
from listener.route import metric_rows as route
from listener.route.routes_file import Routes
from listener.serve.metrics import ROWS as SERVE
from listener.stages import metric_rows as stages
from listener.telemetry import metric_rows
from listener.telemetry.metrics import Metrics
from tests.conftest import PROJECT

LATENCY = ".001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 30 60 300 900"
REASONS = (
    "empty not-dicom incomplete missing-uid bad-uid uid-mismatch too-deep too-large not-regular unreadable conflict "
    "superseded unplaceable worker-lost internal"
)
STAGES = "claim read place describe release"
VOLUMES = {"volume": "incoming data log state"}

#: The promise: name -> (kind, labels with their values, upper bounds). Adding is fine, renaming is not: dashboards,
#: rules and other people's queries use these names.
PROMISED: dict[str, tuple[str, dict[str, str], str]] = {
    "files_discovered_total": ("counter", {"source": "event rescan startup retry batch"}, ""),
    "files_processed_total": ("counter", {"outcome": "published duplicate set-aside vanished"}, ""),
    "failures_total": (
        "counter",
        {"stage": STAGES, "reason": f"{REASONS} no-space io-error permission timeout"},
        "",
    ),
    "retries_total": ("counter", {"stage": STAGES}, ""),
    "incoming_bytes_total": ("counter", {}, ""),
    "published_bytes_total": ("counter", {}, ""),
    "ingest_latency_seconds": ("histogram", {}, LATENCY),
    "queue_duration_seconds": ("histogram", {}, LATENCY),
    "stage_duration_seconds": (
        "histogram",
        {"stage": STAGES},
        ".00005 .0001 .00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10",
    ),
    "file_size_bytes": ("histogram", {}, " ".join(str(4**power) for power in range(6, 16))),
    "pending_files": ("gauge", {"state": "waiting working retrying"}, ""),
    "pending_bytes": ("gauge", {}, ""),
    "batches": ("gauge", {"state": "new queue processing done empty"}, ""),
    "batches_with_error": ("gauge", {}, ""),
    "files_held_up": ("gauge", {"reason": "no-space io-error permission timeout locked"}, ""),
    "oldest_pending_timestamp_seconds": ("gauge", {}, ""),
    "last_success_timestamp_seconds": ("gauge", {}, ""),
    "last_event_timestamp_seconds": ("gauge", {}, ""),
    "heartbeat_timestamp_seconds": ("gauge", {}, ""),
    "last_rescan_timestamp_seconds": ("gauge", {}, ""),
    "rescan_duration_seconds": ("histogram", {}, " ".join(LATENCY.split()[:15])),
    "fs_event_queue_overflows_total": ("counter", {}, ""),
    "watched_directories": ("gauge", {}, ""),
    "watcher_alive": ("gauge", {}, ""),
    "watcher_polling": ("gauge", {}, ""),
    "watch_mode": ("gauge", {}, ""),
    "workers": ("gauge", {}, ""),
    "workers_busy": ("gauge", {}, ""),
    "worker_restarts_total": ("counter", {"reason": "exited killed deadline recycled"}, ""),
    "set_aside_files": ("gauge", {"reason": REASONS}, ""),
    "set_aside_bytes": ("gauge", {"reason": REASONS}, ""),
    "lease_supported": ("gauge", {}, ""),
    "series": ("gauge", {"state": "open complete incomplete"}, ""),
    "series_acknowledged": ("gauge", {}, ""),
    "series_completed_total": ("counter", {"result": "expected quiet late"}, ""),
    "filesystem_size_bytes": ("gauge", VOLUMES, ""),
    "filesystem_avail_bytes": ("gauge", VOLUMES, ""),
    "filesystem_files": ("gauge", VOLUMES, ""),
    "filesystem_files_free": ("gauge", VOLUMES, ""),
    "log_records_total": ("counter", {"level": "debug info warning error critical"}, ""),
    "ready": ("gauge", {}, ""),
    "standby": ("gauge", {}, ""),
    "build_info": ("info", {"version": "", "revision": "", "python": ""}, ""),
    "config_info": ("info", {"layout": "", "fsync": "", "on_conflict": "", "keep_source": "", "poll": ""}, ""),
}

#: What came since.
MORE = {"published_instances_total", "ledger_ok", "headers_read_total", "last_arrival_timestamp_seconds"}
MORE |= {"deliveries", "delivery_oldest_timestamp_seconds"}


def names(text: str) -> set[str]:
    """The metrics that a text names, without what a histogram's series are called."""
    known = {row.full_name for row in metric_rows.rows()}
    found = set(re.findall(r"\blistener_[a-z_]+\b", text))
    return {name if name in known else re.sub("_(bucket|sum|count)$", "", name) for name in found}


def read(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


def test_the_catalogue_keeps_the_promise() -> None:
    made = {
        row.name: (row.kind, {name: tuple(values) for name, values in row.labels}, row.buckets)
        for row in metric_rows.rows()
        if row.name not in MORE
    }
    promised = {
        name: (
            kind,
            {label: tuple(values.split()) for label, values in labels.items()},
            tuple(map(float, bounds.split())),
        )
        for name, (kind, labels, bounds) in PROMISED.items()
    }
    assert made == promised
    assert {row.name for row in metric_rows.rows()} - promised.keys() == MORE


def test_the_page_has_the_catalogue_and_nothing_else() -> None:
    page = Metrics({}, {}).exposition().decode()
    shown = {family.name: family.type for family in text_string_to_metric_families(page)}
    ours = {name for name in shown if name.startswith("listener_")}
    assert ours == {row.full_name.removesuffix("_total") for row in metric_rows.rows()}
    assert {name for name in shown if not name.startswith(("listener_", "process_"))} == set()


def test_everybody_names_the_same_metrics() -> None:
    """The document lists each; nobody asks for one that is not there. What the dashboard shows: test_dashboard."""
    known = {row.full_name for row in metric_rows.rows()}
    assert names(read("docs/metrics.md")) == known
    known |= {row.full_name for row in BACKFILL}
    of_route = stages.rows("route", route.rows(Routes({}, {})))
    tables = (*of_route, *export_catalogue.ROWS, *notify.rows(), *SERVE, *deidentify.ROWS)
    known |= {row.full_name for row in tables}
    for path in ("helm/listener/rules/listener.rules.yaml", "helm/listener/rules/alerts.yaml", "docs/runbook.md"):
        assert names(read(path)) <= known, path


def test_only_one_room_knows_the_client() -> None:
    package = Path(metric_rows.__file__).parents[1]
    importers = {path.name for path in package.rglob("*.py") if "prometheus_client import" in path.read_text()}
    assert importers == {"metrics.py"}

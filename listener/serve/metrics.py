"""PURE. Metrics of the stage serve."""

from __future__ import annotations

from listener.serve.resources import BULK, FRAMES, INSTANCES, METADATA, RENDERED, SEARCH, THUMBNAIL
from listener.telemetry.metric_rows import BUILD_LABELS, LATENCY, LEVELS, Row

RESOURCES = (INSTANCES, METADATA, FRAMES, BULK, RENDERED, THUMBNAIL, SEARCH, "other")
LOOKUPS = ("open", "known", "made", "failed")
STATUSES = ("2xx", "3xx", "4xx", "5xx")

_RESOURCE = ("resource", RESOURCES)

ROWS = (
    Row("build_info", "info", tuple((name, ()) for name in BUILD_LABELS), "Version, revision and Python."),
    Row("log_records_total", "counter", (("level", LEVELS),), "Diagnostics, by level."),
    Row("serve_requests_total", "counter", (_RESOURCE, ("status", STATUSES)), "Requests, by resource and status."),
    Row("serve_request_duration_seconds", "histogram", (_RESOURCE,), "From a request to its answer's end.", LATENCY),
    Row("serve_bytes_total", "counter", (_RESOURCE,), "Bytes of bodies that were sent."),
    Row("serve_frames_total", "counter", (), "Frames that were sent."),
    Row("serve_connections", "gauge", (), "Connections that are open."),
    Row("serve_ready", "gauge", (), "What /readyz says: 1 or 0."),
    Row("serve_processes", "gauge", (), "Processes that answer."),
    Row("serve_index_waiting", "gauge", (), "Series that the catalogue lacks: searches do not find them."),
    Row("serve_index_documents_waiting", "gauge", (), "Complete series that are to be indexed ahead."),
    Row("serve_index_lag_seconds", "gauge", (), "Since the oldest arrival of those that the catalogue lacks; 0: none."),
    Row("serve_index_bytes", "gauge", (), "Bytes of the index."),
    Row(
        "serve_index_lookups_total",
        "counter",
        (("result", LOOKUPS),),
        "Series that were looked up: open already, known to the index, made anew, failed.",
    ),
    Row("serve_index_duration_seconds", "histogram", (), "Time in which a series was indexed.", LATENCY),
)

"""PURE. Metrics of the stage export, beside those that every stage has."""

from __future__ import annotations

from listener.export.faults import REASONS
from listener.telemetry.metric_rows import LATENCY, Row

NAME = "export"

#: How a delivery of a series ended: `superseded`: a newer generation of it exports what this one had.
OUTCOMES = ("exported", "superseded", "failed")

ROWS = (
    Row("export_series_total", "counter", (("outcome", OUTCOMES),), "Generations of series that were answered for."),
    Row("export_failures_total", "counter", (("reason", REASONS),), "Generations that cannot be exported, by reason."),
    Row("export_objects_total", "counter", (), "Objects that were put: written, or found to be there already."),
    Row("export_bytes_total", "counter", (), "Bytes that were written to the target."),
    Row("export_verified_bytes_total", "counter", (), "Bytes that were read back and compared."),
    Row("export_parts_total", "counter", (), "Parts of the table that were written."),
    Row("export_retries_total", "counter", (), "Objects that were tried again after an error of the target."),
    Row(
        "export_conflicts_total", "counter", (), "Keys that had another content, so that an object got one of its own."
    ),
    Row("export_series_duration_seconds", "histogram", (), "From the taking of a generation to its end.", LATENCY),
    Row("export_in_flight", "gauge", (), "Generations of series that are being exported."),
    Row("export_target_ok", "gauge", (), "1 while the target takes what is exported."),
    Row("export_oldest_pending_age_seconds", "gauge", (), "Age of the oldest delivery that waits; 0: none."),
)

"""PURE. Metrics that every stage has; a stage adds its own. The label `consumer` is the stage's name, or of
deliveries that under which it takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from listener.telemetry.metric_rows import BUILD_LABELS, LATENCY, LEVELS, Row

#: How a delivery was answered: taken, tried again later, given up.
OUTCOMES = ("delivered", "postponed", "failed")


def rows(stage: str, own: Sequence[Row] = (), consumers: Sequence[str] = ()) -> tuple[Row, ...]:
    """Return the table of a stage's metrics, `own` last; `consumers` where it takes deliveries under other names."""
    process, of = ("consumer", (stage,)), ("consumer", tuple(consumers) or (stage,))
    return (
        Row("build_info", "info", tuple((name, ()) for name in BUILD_LABELS), "Version, revision and Python."),
        Row("log_records_total", "counter", (("level", LEVELS),), "Diagnostics, by level."),
        Row("consumer_is_owner", "gauge", (process,), "1: this process works; 0: it waits for the one that does."),
        Row("consumer_ready", "gauge", (process,), "What /readyz says: 1 or 0."),
        Row("consumer_heartbeat_timestamp_seconds", "gauge", (process,), "When the loop came round last."),
        Row("consumer_pending_deliveries", "gauge", (of,), "Deliveries in the ledger that are not taken yet."),
        Row(
            "consumer_failed_deliveries",
            "gauge",
            (of,),
            "Deliveries that were given up, until told again or forgotten.",
        ),
        Row("consumer_oldest_pending_timestamp_seconds", "gauge", (of,), "When the oldest of them was made; 0: none."),
        Row("consumer_deliveries_total", "counter", (of, ("outcome", OUTCOMES)), "Deliveries answered, by how."),
        Row("consumer_delivery_duration_seconds", "histogram", (of,), "From taking to answering a delivery.", LATENCY),
        *own,
    )

"""PURE. Metrics of the stage deidentify, beside those that every stage has."""

from __future__ import annotations

from listener.deidentify.holding import REASONS
from listener.telemetry.metric_rows import LATENCY, Row

NAME = "deidentify"

#: What becomes of an instance: it passes, a recipe leaves it out, or a person must look at it.
OUTCOMES = ("passed", "filtered", "held")

ROWS = (
    Row(
        "deidentify_instances_total",
        "counter",
        (("outcome", OUTCOMES),),
        "Instances that were looked at.",
    ),
    Row("deidentify_held", "gauge", (("reason", REASONS),), "Instances and units that wait for a person, by reason."),
    Row("deidentify_units_total", "counter", (), "Units that were handed over."),
    Row(
        "deidentify_provider_failures_total",
        "counter",
        (),
        "Requests for pseudonyms without an answer that makes sense.",
    ),
    Row("deidentify_unit_duration_seconds", "histogram", (), "From taking a unit to its end.", LATENCY),
)

"""PURE. Metrics of the stage notify, beside those that every stage has."""

from __future__ import annotations

from collections.abc import Sequence

from listener.notify.registration import MOST
from listener.telemetry.metric_rows import Row

NAME = "notify"

#: Its consumers: NATS and CUBE hold up nothing of each other.
NATS, CUBE = "notify-nats", "notify-cube"

#: Keywords of values that CUBE does not get as they are.
ADJUSTED = (*(keyword for keyword in MOST if keyword != "PatientID"), "PatientBirthDate", "PatientAge", "PatientSex")

#: What is told, over NATS and to CUBE (`again`: because CUBE had not registered it).
KINDS = ("number", "done", "error", "registration", "again")

#: Seconds from the end of a series until it is told or, with --cube, registered.
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600)

TARGETS = ("nats", "cube")


def rows(targets: Sequence[str] = TARGETS) -> tuple[Row, ...]:
    """Return the table of metrics of a stage that tells these targets."""
    target = ("target", tuple(targets))
    return (
        Row("notify_messages_total", "counter", (target, ("kind", KINDS)), "Messages that the broker took, by kind."),
        Row("notify_dropped_total", "counter", (), "Numbers of instances that were not told, for NATS was away."),
        Row("notify_connected", "gauge", (target,), "1 while messages are taken, 0 while not."),
        Row(
            "notify_confirmed_seconds",
            "histogram",
            (),
            "From the end of a series until it was told or, with --cube, registered.",
            _SECONDS,
        ),
        Row("notify_adjusted_total", "counter", (("keyword", ADJUSTED),), "Values that CUBE gets cut, or not at all."),
        Row("notify_late_total", "counter", (), "Generations that came when CUBE had registered the series already."),
    )

"""The metrics of this service, with what it is built and configured with."""

from __future__ import annotations

import platform

import listener
from listener.config import Config
from listener.diagnostics import count_into
from listener.service.probes import revision
from listener.telemetry.metrics import Metrics


def metrics_of(config: Config) -> Metrics:
    """All at zero; diagnostics are counted from now on."""
    metrics = Metrics(
        {"version": listener.__version__, "revision": revision(), "python": platform.python_version()},
        {
            "layout": config.layout,
            "fsync": config.fsync,
            "on_conflict": config.on_conflict,
            "keep_source": str(config.keep_source).lower(),
            "poll": str(config.poll).lower(),
        },
    )
    count_into(metrics.log_record)
    return metrics

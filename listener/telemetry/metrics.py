"""What the service counts, and the page that Prometheus reads. The only importer of prometheus_client.

A file costs the loop some microseconds here, so values are plain numbers, and the client's families are made from them
when somebody reads the page (a custom collector, as exporters have it) instead of taking a lock for each increment.

Threads: only the loop writes (but for `log_record`, which any thread may call and which takes a lock); the web thread
only reads. That is safe without a lock because every key exists from the start, so no dict changes its size while it is
read; because each number is replaced as a whole; and because a histogram's count is the sum of one copy of its buckets,
so that a page always agrees with itself. A page read in the middle of a file may show one metric a file ahead of
another; counters still only ever rise.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf
from threading import Lock

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from listener.errors import SET_ASIDE_REASONS, STEPS, SYSTEM_REASONS
from listener.records import Deferral, Outcome
from listener.telemetry.catalogue import LEVELS, READERS, Histogram, Numbers, Row, rows

#: What `exposition` returns (the text format that every Prometheus reads).
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NS = 1e-9
_READER = {True: (READERS[0],), False: (READERS[1],)}


class _Families(Collector):
    """Turns the numbers of a Metrics into the client's families, in the order of the catalogue."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for row in rows():
            yield self._metrics.family(row)


class Metrics(Numbers):
    """Every metric of the catalogue, each label combination at zero from the start.

    Args:
        build: values of the labels of `build_info` (see catalogue.BUILD_LABELS).
        config: values of the labels of `config_info` (see catalogue.CONFIG_LABELS). A label that is not given is "".
    """

    def __init__(self, build: Mapping[str, str], config: Mapping[str, str]) -> None:
        super().__init__()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._info = {"build_info": build, "config_info": config}
        # The hot path below reaches these by attribute: looking each up by name would cost as much as counting.
        self._processed = self.counters["files_processed_total"]
        self._headers = self.counters["headers_read_total"]
        self._latency = self.histograms["ingest_latency_seconds"][()]
        self._queue = self.histograms["queue_duration_seconds"][()]
        self._size = self.histograms["file_size_bytes"][()]
        self._stages = tuple(self.histograms["stage_duration_seconds"][(stage,)] for stage in STEPS)
        self._log_lock = Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    # -- one file ------------------------------------------------------------------------------------------------

    def discovered(self, source: str, n: int = 1) -> None:
        """`n` files entered; `source` is one of records.SOURCES."""
        self.add("files_discovered_total", n, source)

    def record(self, outcome: Outcome) -> None:
        """Count one file that is finished."""
        self.record_many((outcome,))

    def record_many(self, outcomes: Iterable[Outcome]) -> None:
        """Count files that are finished: the hot path, some microseconds a file."""
        incoming = published = newest = 0
        for outcome in outcomes:
            kind, arrived, finished, size = outcome.kind, outcome.arrived_ns, outcome.finished_ns, outcome.size
            self._processed[(kind,)] += 1
            # The clock may have been set back between the two ends of a difference: no lag is negative.
            if outcome.begun_ns:
                self._queue.observe(max(0, outcome.begun_ns - arrived) * _NS)
            # A stage that was not reached has no duration, and is absent or 0.
            for histogram, seconds in zip(self._stages, outcome.step_seconds, strict=False):
                if seconds > 0:
                    histogram.observe(seconds)
            if kind == "vanished":
                continue
            incoming += size
            self._headers[_READER[outcome.fast]] += bool(outcome.SOPInstanceUID)
            self._size.observe(size)
            if kind == "published":
                published += size
                self._latency.observe(max(0, finished - arrived) * _NS)
            if kind == "set-aside":
                self._failed(outcome.step, outcome.reason)
            elif finished > newest:
                newest = finished
        self.add("incoming_bytes_total", incoming)
        self.add("published_bytes_total", published)
        if newest:
            self.set("last_success_timestamp_seconds", newest * _NS)

    def deferred(self, deferral: Deferral) -> None:
        """Count an attempt that the system refused. A file that is still being written ("busy") is not a failure."""
        if deferral.reason in SYSTEM_REASONS:
            stage = self._failed(deferral.step, deferral.reason)
            self.add("retries_total", 1, stage)

    def _failed(self, stage: str, reason: str) -> str:
        """Count a failure and return its stage. A worker that died named no stage: all that is known is the claim."""
        stage = stage if stage in STEPS else STEPS[0]
        self.add("failures_total", 1, stage, reason)
        return stage

    # -- the service's state -------------------------------------------------------------------------------------

    def pending(self, waiting: int, working: int, retrying: int, size: int, oldest_ns: int) -> None:
        """The backlog: files by state, bytes, and when the oldest of them was written (0: there is none)."""
        for state, number in (("waiting", waiting), ("working", working), ("retrying", retrying)):
            self.set("pending_files", number, state)
        self.set("pending_bytes", size)
        self.set("oldest_pending_timestamp_seconds", oldest_ns * _NS)

    def set_aside(self, lying: Mapping[str, tuple[int, int]]) -> None:
        """What lies in set-aside now: files and bytes by reason; a reason that is not given has none."""
        for reason in SET_ASIDE_REASONS:
            files, size = lying.get(reason, (0, 0))
            self.set("set_aside_files", files, reason)
            self.set("set_aside_bytes", size, reason)

    def swept(self, seconds: float, now: float) -> None:
        """A complete sweep of incoming took `seconds` and ended at `now` (seconds since the epoch)."""
        self.observe("rescan_duration_seconds", seconds)
        self.set("last_rescan_timestamp_seconds", now)

    def volume(self, volume: str, found: os.statvfs_result) -> None:
        """What the loop found of one volume; never asked for during a scrape, which a hung mount would then hang."""
        self.set("filesystem_size_bytes", found.f_blocks * found.f_frsize, volume)
        self.set("filesystem_avail_bytes", found.f_bavail * found.f_frsize, volume)
        self.set("filesystem_files", found.f_files, volume)
        self.set("filesystem_files_free", found.f_favail, volume)

    def log_record(self, level: str) -> None:
        """Count a diagnostic, from any thread; a level that is none of catalogue.LEVELS counts as error."""
        with self._log_lock:
            self.add("log_records_total", 1, level if level in LEVELS else "error")

    # -- the page ------------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """The page, of type CONTENT_TYPE. Called by the web thread; touches no file but the process's own in /proc."""
        return generate_latest(self._registry)

    def family(self, row: Row) -> Metric:
        """One metric of the catalogue as it stands now."""
        if row.kind == "info":
            given = self._info[row.name]
            labels = {name: str(given.get(name, "")) for name in row.label_names}
            return InfoMetricFamily(row.full_name.removesuffix("_info"), row.help, value=labels)
        if row.kind == "histogram":
            histograms = HistogramMetricFamily(row.full_name, row.help, labels=row.label_names)
            for values, histogram in self.histograms[row.name].items():
                histograms.add_metric(values, _buckets(histogram), histogram.total)
            return histograms
        if row.kind == "counter":
            counters = CounterMetricFamily(row.full_name, row.help, labels=row.label_names)
            for values, count in self.counters[row.name].items():
                counters.add_metric(values, count)
            return counters
        gauges = GaugeMetricFamily(row.full_name, row.help, labels=row.label_names)
        for values, value in self.gauges[row.name].items():
            gauges.add_metric(values, value)
        return gauges


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, +Inf last, from one copy of the counts."""
    # The client's spelling of a bound (1.0, 4096.0), which is also what Prometheus 3 makes of any other.
    ends = [floatToGoString(bound) for bound in (*histogram.bounds, inf)]  # type: ignore[no-untyped-call]
    return list(zip(ends, accumulate(histogram.counts.copy()), strict=True))

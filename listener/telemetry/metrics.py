"""The service's metrics and their exposition for Prometheus. The only importer of prometheus_client.

Counting a file costs the loop some microseconds, so values are plain numbers without locks, and the client's families
are made from them at each scrape (a custom collector, as in exporters).

Threads: only the loop writes (except `log_record`, which any thread may call and which takes a lock); the HTTP thread
only reads. That is safe without a lock: every key exists from the start, so that no dict changes its size; each number
is replaced as a whole; and a histogram's count is the sum of one copy of its buckets. A scrape in the middle of a file
may show one metric a file ahead of another; counters only rise.
"""

from __future__ import annotations

import os
import platform
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

import listener
from listener.errors import STEPS
from listener.reasons import SET_ASIDE_REASONS, SYSTEM_REASONS
from listener.records import Deferral, Outcome
from listener.telemetry.metric_rows import DELIVERY_STATES, LEVELS, MODALITIES, READERS, Histogram, Numbers, Row, rows

#: What `exposition` returns (the text format that every Prometheus reads).
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NS = 1e-9
_OTHER = (MODALITIES[-1],)
_READER = {True: (READERS[0],), False: (READERS[1],)}


class _Families(Collector):
    """Makes the client's families from the numbers of an Exposition, in the order of its table."""

    def __init__(self, shown: Exposition) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        for row in self._shown.table:
            yield self._shown.family(row)


class Exposition(Numbers):
    """The numbers of a table of metrics, and the page that shows them. `info`: values of the labels of info metrics, by
    name; a label that is not given is "".
    """

    def __init__(self, table: Iterable[Row], info: Mapping[str, Mapping[str, str]]) -> None:
        self.table = tuple(table)
        super().__init__(self.table)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._info = info
        self._log_lock = Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    def renew(self, table: Iterable[Row]) -> None:
        """Show another table from now on; see Numbers.renew."""
        table = tuple(table)
        super().renew(table)
        self.table = table

    def log_record(self, level: str) -> None:
        """Count a diagnostic, in any thread; a level that is not in metric_rows.LEVELS counts as error."""
        with self._log_lock:
            self.add("log_records_total", 1, level if level in LEVELS else "error")

    def exposition(self) -> bytes:
        """Return the exposition, of type CONTENT_TYPE. Called in the HTTP thread; reads only /proc/self."""
        return generate_latest(self._registry)

    def family(self, row: Row) -> Metric:
        """Return one metric of the table with its current values."""
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


class Metrics(Exposition):
    """Every metric of the catalogue, each label combination at zero from the start.

    Args:
        build: values of the labels of `build_info` (see metric_rows.BUILD_LABELS).
        config: values of the labels of `config_info` (see metric_rows.CONFIG_LABELS). A label that is not given is "".
        senders: values of the label of `last_arrival_timestamp_seconds`.
    """

    def __init__(self, build: Mapping[str, str], config: Mapping[str, str], senders: Iterable[str] = ()) -> None:
        super().__init__(rows(), {"build_info": build, "config_info": config})
        self._arrivals = self.gauges["last_arrival_timestamp_seconds"]
        self._arrivals.update({(sender,): 0.0 for sender in senders})
        # For the hot path below: a lookup by name would cost as much as the counting.
        self._processed = self.counters["files_processed_total"]
        self._published = self.counters["published_instances_total"]
        self._headers = self.counters["headers_read_total"]
        self._latency = self.histograms["ingest_latency_seconds"][()]
        self._queue = self.histograms["queue_duration_seconds"][()]
        self._size = self.histograms["file_size_bytes"][()]
        self._step_seconds = tuple(self.histograms["stage_duration_seconds"][(step,)] for step in STEPS)

    # -- one file ------------------------------------------------------------------------------------------------

    def discovered(self, source: str, n: int = 1) -> None:
        """Count `n` files that entered; `source` is one of records.SOURCES."""
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
            # A step that was not reached is absent or 0.
            for histogram, seconds in zip(self._step_seconds, outcome.step_seconds, strict=False):
                if seconds > 0:
                    histogram.observe(seconds)
            if kind == "vanished":
                continue
            incoming += size
            self._headers[_READER[outcome.fast]] += bool(outcome.SOPInstanceUID)
            self._size.observe(size)
            if kind == "published":
                published += size
                modality = (outcome.Modality,)
                self._published[modality if modality in self._published else _OTHER] += 1
                self._latency.observe(max(0, finished - arrived) * _NS)
            if kind == "set-aside":
                self._failed(outcome.step, outcome.reason)
            elif finished > newest:
                newest = finished
        self.add("incoming_bytes_total", incoming)
        self.add("published_bytes_total", published)
        if newest:
            self.set("last_success_timestamp_seconds", newest * _NS)

    def arrived(self, sender: str, moment_ns: int) -> None:
        """Set the last arrival of a sender (nanoseconds since the epoch), if it is watched and none was later."""
        if (sender,) in self._arrivals:
            self._arrivals[(sender,)] = max(self._arrivals[(sender,)], moment_ns * _NS)

    def name_hooks(self, names: Iterable[str]) -> None:
        """Show metrics of these hooks and no others, from now on."""
        hooks = list(names)
        self.gauges["deliveries"] = {(hook, state): 0.0 for hook in hooks for state in DELIVERY_STATES}
        self.gauges["delivery_oldest_timestamp_seconds"] = {(hook,): 0.0 for hook in hooks}

    def delivery(self, hook: str, counts: Mapping[str, int], oldest_ns: int) -> None:
        """Set deliveries by state of a hook, and when the oldest that waits was made (nanoseconds; 0: none)."""
        if (hook,) in self.gauges["delivery_oldest_timestamp_seconds"]:
            for state in DELIVERY_STATES:
                self.set("deliveries", counts.get(state, 0), hook, state)
            self.set("delivery_oldest_timestamp_seconds", oldest_ns * _NS, hook)

    def deferred(self, deferral: Deferral) -> None:
        """Count an attempt that the system refused. A file that is still being written ("busy") is not a failure."""
        if deferral.reason in SYSTEM_REASONS:
            step = self._failed(deferral.step, deferral.reason)
            self.add("retries_total", 1, step)

    def _failed(self, step: str, reason: str) -> str:
        """Count a failure and return its step. A worker that died named none: only the claim is certain."""
        step = step if step in STEPS else STEPS[0]
        self.add("failures_total", 1, step, reason)
        return step

    # -- the service's state -------------------------------------------------------------------------------------

    def pending(self, waiting: int, working: int, retrying: int, size: int, oldest_ns: int) -> None:
        """Set the backlog: files by state, bytes, and when the oldest was written (nanoseconds; 0: none)."""
        for state, number in (("waiting", waiting), ("working", working), ("retrying", retrying)):
            self.set("pending_files", number, state)
        self.set("pending_bytes", size)
        self.set("oldest_pending_timestamp_seconds", oldest_ns * _NS)

    def set_aside(self, totals: Mapping[str, tuple[int, int]]) -> None:
        """Set files and bytes in set-aside by reason; 0 for a reason that is not given."""
        for reason in SET_ASIDE_REASONS:
            files, size = totals.get(reason, (0, 0))
            self.set("set_aside_files", files, reason)
            self.set("set_aside_bytes", size, reason)

    def rescanned(self, seconds: float, now: float) -> None:
        """Record a complete rescan that took `seconds` and ended at `now` (seconds since the epoch)."""
        self.observe("rescan_duration_seconds", seconds)
        self.set("last_rescan_timestamp_seconds", now)

    def volume(self, volume: str, usage: os.statvfs_result) -> None:
        """Set the numbers of a volume, read by the loop: a scrape must not wait for a mount that hangs."""
        self.set("filesystem_size_bytes", usage.f_blocks * usage.f_frsize, volume)
        self.set("filesystem_avail_bytes", usage.f_bavail * usage.f_frsize, volume)
        self.set("filesystem_files", usage.f_files, volume)
        self.set("filesystem_files_free", usage.f_favail, volume)


def build_labels() -> dict[str, str]:
    """Return the labels of build_info: version, revision (LISTENER_REVISION, which the build of an image sets) and that
    of Python.
    """
    revision = os.environ.get("LISTENER_REVISION", "")
    return {"version": listener.__version__, "revision": revision, "python": platform.python_version()}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound, +Inf last, from one copy of the counts."""
    # The client's spelling of a bound (1.0, 4096.0), which is also what Prometheus 3 makes of any other.
    ends = [floatToGoString(bound) for bound in (*histogram.bounds, inf)]  # type: ignore[no-untyped-call]
    return list(zip(ends, accumulate(histogram.counts.copy()), strict=True))

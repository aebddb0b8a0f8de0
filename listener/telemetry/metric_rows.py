"""PURE. Every metric of the service as a row of one table, and a number for each of its series.

Code and docs are made from the table. Names are a contract. Labels are closed sets, so that every combination is shown
from the start (a counter that appears with its first failure hides that failure from `increase()`), and no UID, path or
patient value can become a label, nor an AE title that the configuration does not name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from listener.errors import STEPS
from listener.reasons import HELD_UP_REASONS, SET_ASIDE_REASONS, SYSTEM_REASONS
from listener.records import OUTCOMES, SOURCES

PREFIX = "listener_"

PENDING_STATES = ("waiting", "working", "retrying")
RESTART_REASONS = ("exited", "killed", "deadline", "recycled")
VOLUMES = ("incoming", "data", "log", "state")
SERIES_STATES = ("open", "complete", "incomplete")
BATCH_STATES = ("new", "queue", "processing", "done", "empty")
DELIVERY_STATES = ("pending", "delivered", "failed")
READERS = ("own", "pydicom")
LEVELS = ("debug", "info", "warning", "error", "critical")

#: Modalities that are told apart (DICOM PS3.3 section C.7.3.1.1.1, without what is retired or rare), and all others.
_CODES = (
    "CR CT DX ECG ES IO IVOCT IVUS KO MG MR NM OCT OP OPT OT PR PT PX RF RTDOSE RTIMAGE RTPLAN RTSTRUCT SC SEG SM SR "
    "US XA XC"
)
MODALITIES = (*_CODES.split(), "other")

#: Labels of the two info metrics; their values are given once, when the service starts.
BUILD_LABELS = ("version", "revision", "python")
CONFIG_LABELS = ("layout", "fsync", "on_conflict", "keep_source", "poll")

#: Upper bounds of buckets: seconds from close to commit, seconds of one step, seconds of one rescan, bytes.
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
WORK = (0.00005, 0.0001, 0.00025, 0.0005, *LATENCY[:13])
RESCAN = LATENCY[:15]
SIZES = tuple(float(4**power) for power in range(6, 16))

Label = tuple[str, tuple[str, ...]]


class Row(NamedTuple):
    """One metric. `kind` is counter, gauge, histogram or info; `labels` are pairs of a name and its closed set of
    values (empty where they come with the service: of info metrics, `sender` and `hook`); `buckets` are upper bounds.
    """

    name: str
    kind: str
    labels: tuple[Label, ...]
    help: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """Return the name in the exposition."""
        return PREFIX + self.name

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the names of the labels, in the order of their values."""
        return tuple(name for name, _ in self.labels)

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Return every tuple of label values; one empty tuple for a metric without labels."""
        return product(*(values for _, values in self.labels))


_SOURCE = ("source", SOURCES)
_MODALITY = ("modality", MODALITIES)
_OUTCOME = ("outcome", OUTCOMES)
_READER = ("reader", READERS)
_STAGE = ("stage", STEPS)
_FAILURE = ("reason", SET_ASIDE_REASONS + SYSTEM_REASONS)
_SET_ASIDE = ("reason", SET_ASIDE_REASONS)
_HELD_UP = ("reason", HELD_UP_REASONS)
_STATE = ("state", PENDING_STATES)
_RESTART = ("reason", RESTART_REASONS)
_VOLUME = ("volume", VOLUMES)
_LEVEL = ("level", LEVELS)
_SERIES_STATE = ("state", SERIES_STATES)
_BATCH_STATE = ("state", BATCH_STATES)
_HOOK = ("hook", ())
_DELIVERY = ("state", DELIVERY_STATES)
_RESULT = ("result", ("expected", "quiet", "late"))

_FLOW = (
    Row("files_discovered_total", "counter", (_SOURCE,), "Files that entered; the rescan share is what events missed."),
    Row("files_processed_total", "counter", (_OUTCOME,), "Files that are finished, by how they ended."),
    Row("published_instances_total", "counter", (_MODALITY,), "Instances that were published, by modality."),
    Row("failures_total", "counter", (_STAGE, _FAILURE), "Attempts that failed, by stage and reason."),
    Row("retries_total", "counter", (_STAGE,), "Attempts that the system refused and that will be repeated."),
    Row("incoming_bytes_total", "counter", (), "Bytes of the files that are finished, however they ended."),
    Row("published_bytes_total", "counter", (), "Bytes of the files that were published."),
    Row("ingest_latency_seconds", "histogram", (), "The lag: from written to published and released.", LATENCY),
    Row("queue_duration_seconds", "histogram", (), "From the end of writing until a worker began.", LATENCY),
    Row("stage_duration_seconds", "histogram", (_STAGE,), "Work of one step on one file.", WORK),
    Row("headers_read_total", "counter", (_READER,), "Headers read, by our own reader alone or with pydicom's help."),
    Row("file_size_bytes", "histogram", (), "Size of the files that are finished.", SIZES),
)
_BACKLOG = (
    Row("pending_files", "gauge", (_STATE,), "Files that arrived and are not finished; the sum is the backlog."),
    Row("pending_bytes", "gauge", (), "Bytes of the files that arrived and are not finished."),
    Row("oldest_pending_timestamp_seconds", "gauge", (), "When the oldest unfinished file was written; 0: none."),
    Row(
        "files_held_up",
        "gauge",
        (_HELD_UP,),
        "Files that wait because their own place cannot be used; nobody else waits for them.",
    ),
    Row("set_aside_files", "gauge", (_SET_ASIDE,), "Files that lie in set-aside now."),
    Row("set_aside_bytes", "gauge", (_SET_ASIDE,), "Bytes that lie in set-aside now."),
)
_SERIES = (
    Row("ledger_ok", "gauge", (), "1 while the ledger can be written; files are published in any case."),
    Row("series", "gauge", (_SERIES_STATE,), "Series in the ledger; incomplete: fewer instances came than promised."),
    Row("series_acknowledged", "gauge", (), "Incomplete series of studies that a person said are known."),
    Row(
        "series_completed_total",
        "counter",
        (_RESULT,),
        "Series that were taken for complete; late: not the first time.",
    ),
    Row("batches", "gauge", (_BATCH_STATE,), "Folders as batches in the ledger, by state."),
    Row("batches_with_error", "gauge", (), "Batches of whose last generation a file did not pass."),
)
_HOOKS = (
    Row(
        "deliveries", "gauge", (_HOOK, _DELIVERY), "Deliveries in the ledger to a hook of the configuration, by state."
    ),
    Row(
        "delivery_oldest_timestamp_seconds",
        "gauge",
        (_HOOK,),
        "When the oldest delivery that waits for a hook was made; 0: none waits.",
    ),
)

_ALIVE = (
    Row("last_success_timestamp_seconds", "gauge", (), "When a file was last published or found to be a duplicate."),
    Row(
        "last_arrival_timestamp_seconds",
        "gauge",
        (("sender", ()),),
        "When the last file of a sender arrived (those of --watch-sender alone); 0: none ever came.",
    ),
    Row("last_event_timestamp_seconds", "gauge", (), "When the kernel last told of a file."),
    Row("heartbeat_timestamp_seconds", "gauge", (), "When the service's loop last came round."),
    Row("last_rescan_timestamp_seconds", "gauge", (), "When the last complete rescan of incoming ended."),
    Row("rescan_duration_seconds", "histogram", (), "Duration of one rescan of incoming.", RESCAN),
    Row(
        "fs_event_queue_overflows_total", "counter", (), "Overflows of the kernel's event queue; each forces a rescan."
    ),
    Row(
        "watched_directories",
        "gauge",
        (),
        "Directories that are watched, those below the incoming directories included.",
    ),
    Row("watcher_alive", "gauge", (), "1 while the observer and all of its emitters live."),
    Row("watcher_polling", "gauge", (), "1 when rescans alone find the files."),
    Row("watch_mode", "gauge", (), "How files are found; 2: events, 1: watchdog's public observer, 0: rescans alone."),
    Row("lease_supported", "gauge", (), "1 when the kernel tells whether a file is still open for writing."),
    Row("ready", "gauge", (), "1 when /readyz says ready."),
    Row(
        "standby",
        "gauge",
        (),
        "1 while it waits for another listener to end, and shows heartbeat and build_info alone.",
    ),
)
_MACHINE = (
    Row("workers", "gauge", (), "Worker processes that run."),
    Row("workers_busy", "gauge", (), "Worker processes that hold a file."),
    Row("worker_restarts_total", "counter", (_RESTART,), "Worker processes that were replaced, by reason."),
    Row("filesystem_size_bytes", "gauge", (_VOLUME,), "Size of the volume."),
    Row("filesystem_avail_bytes", "gauge", (_VOLUME,), "Space of the volume that the service may still use."),
    Row("filesystem_files", "gauge", (_VOLUME,), "Inodes of the volume."),
    Row("filesystem_files_free", "gauge", (_VOLUME,), "Free inodes of the volume."),
    Row("log_records_total", "counter", (_LEVEL,), "Diagnostics written, by level."),
    Row("build_info", "info", tuple((name, ()) for name in BUILD_LABELS), "What runs."),
    Row("config_info", "info", tuple((name, ()) for name in CONFIG_LABELS), "How it is configured."),
)


def rows() -> tuple[Row, ...]:
    """Return the whole catalogue in the order of the exposition (the standard `process_*` metrics come beside it)."""
    return _FLOW + _BACKLOG + _SERIES + _HOOKS + _ALIVE + _MACHINE


class Histogram:
    """Observations by bucket; a value equal to a bound belongs to that bucket (`le`)."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Numbers:
    """A number for each series of a table of metrics (the service's, if none is given), by name and label values; zero
    from the start.
    """

    def __init__(self, table: Iterable[Row] = ()) -> None:
        table = tuple(table) or rows()
        of_kind = {kind: [row for row in table if row.kind == kind] for kind in ("counter", "gauge", "histogram")}
        self.counters = {row.name: dict.fromkeys(row.combinations(), 0) for row in of_kind["counter"]}
        self.gauges = {row.name: dict.fromkeys(row.combinations(), 0.0) for row in of_kind["gauge"]}
        self.histograms = {
            row.name: {labels: Histogram(row.buckets) for labels in row.combinations()} for row in of_kind["histogram"]
        }

    def renew(self, table: Iterable[Row]) -> None:
        """Have exactly the series of these rows, with the values that they have already. Each dict is replaced as a
        whole: another thread may be reading it.
        """
        for row in table:
            if row.kind == "counter":
                counts = self.counters.get(row.name, {})
                self.counters[row.name] = {labels: counts.get(labels, 0) for labels in row.combinations()}
            elif row.kind == "gauge":
                values = self.gauges.get(row.name, {})
                self.gauges[row.name] = {labels: values.get(labels, 0.0) for labels in row.combinations()}
            elif row.kind == "histogram":
                observed = self.histograms.get(row.name, {})
                self.histograms[row.name] = {
                    labels: observed.get(labels) or Histogram(row.buckets) for labels in row.combinations()
                }

    def add(self, name: str, amount: int, *labels: str) -> None:
        """Add `amount` to a counter. Raises KeyError for a name or label values that are not in the catalogue."""
        self.counters[name][labels] += amount

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge. Raises KeyError for a name or label values that are not in the catalogue."""
        series = self.gauges[name]
        if labels not in series:
            raise KeyError((name, *labels))
        series[labels] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Observe a value in a histogram. Raises KeyError for a name or label values that are not in the catalogue."""
        self.histograms[name][labels].observe(value)

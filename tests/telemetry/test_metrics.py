"""The operator's view: what the page says before and after, and that the catalogue, the code and the page agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from listener.errors import STEPS
from listener.records import Deferral, Outcome
from listener.telemetry import metric_rows
from listener.telemetry.metric_rows import MODALITIES, Histogram, Row, rows
from listener.telemetry.metrics import Metrics

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]

BASE = 1_700_000_000_000_000_000
MS = 1_000_000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics({"version": "1.2.3", "revision": "abc", "python": "3.13.0"}, {"layout": "rx", "fsync": "batch"})


def read(metrics: Metrics) -> Page:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(page: Page, name: str, **labels: str) -> float:
    return page[f"listener_{name}", frozenset(labels.items())]


def published(size: int = 1000, lag_ns: int = 30 * MS, wait_ns: int = 4 * MS) -> Outcome:
    return Outcome(
        "published", "/in/a", 0, BASE, BASE + lag_ns, begun_ns=BASE + wait_ns, size=size,
        step_seconds=(0.00002, 0.0003, 0.00004, 0.00008, 0.00001),
    )  # fmt: skip


def failed(reason: str, stage: str) -> Outcome:
    return Outcome("set-aside", "/in/b", 0, BASE, BASE + MS, begun_ns=BASE, size=7, reason=reason, step=stage)


def test_every_series_is_there_from_the_start_and_no_other(metrics: Metrics) -> None:
    expected = set()
    for row in rows():
        for labels in row.combinations() if row.kind != "info" else ():
            pairs = frozenset(zip(row.label_names, labels, strict=True))
            if row.kind == "histogram":
                expected |= {(f"{row.full_name}{end}", pairs) for end in ("_count", "_sum")}
            else:
                expected.add((row.full_name, pairs))
    shown = {key: number for key, number in read(metrics).items() if key[0].startswith("listener_")}
    info = {key for key in shown if key[0].endswith("_info")}
    buckets = {key for key in shown if key[0].endswith("_bucket")}
    assert shown.keys() - buckets - info == expected
    assert all(number == 0 for key, number in shown.items() if key not in info)
    histograms = [row for row in rows() if row.kind == "histogram"]
    assert len(buckets) == sum((len(row.buckets) + 1) * len(list(row.combinations())) for row in histograms)


def test_the_page_tells_kind_and_help_of_every_row(metrics: Metrics) -> None:
    lines = metrics.exposition().decode().splitlines()
    for row in rows():
        assert f"# TYPE {row.full_name} {'gauge' if row.kind == 'info' else row.kind}" in lines
        assert f"# HELP {row.full_name} {row.help}" in lines


def test_build_and_configuration_are_labels(metrics: Metrics) -> None:
    page = read(metrics)
    assert value(page, "build_info", version="1.2.3", revision="abc", python="3.13.0") == 1
    assert value(page, "config_info", layout="rx", fsync="batch", on_conflict="", keep_source="", poll="") == 1


def test_a_published_file(metrics: Metrics) -> None:
    metrics.discovered("event")
    metrics.record(published())
    page = read(metrics)
    assert value(page, "files_discovered_total", source="event") == 1
    assert value(page, "files_processed_total", outcome="published") == 1
    assert value(page, "incoming_bytes_total") == value(page, "published_bytes_total") == 1000
    assert value(page, "ingest_latency_seconds_sum") == pytest.approx(0.030)
    assert value(page, "ingest_latency_seconds_bucket", le="0.025") == 0
    assert value(page, "ingest_latency_seconds_bucket", le="0.05") == 1
    assert value(page, "queue_duration_seconds_sum") == pytest.approx(0.004)
    assert value(page, "stage_duration_seconds_sum", stage="read") == pytest.approx(0.0003)
    assert all(value(page, "stage_duration_seconds_count", stage=stage) == 1 for stage in STEPS)
    assert value(page, "file_size_bytes_bucket", le="4096.0") == 1
    assert value(page, "last_success_timestamp_seconds") == pytest.approx((BASE + 30 * MS) / 1e9, abs=1e-6)


def test_a_file_that_is_set_aside_is_a_failure_with_stage_and_reason(metrics: Metrics) -> None:
    metrics.record_many([failed("not-dicom", "read"), failed("worker-lost", "")])
    page = read(metrics)
    assert value(page, "files_processed_total", outcome="set-aside") == 2
    assert value(page, "failures_total", stage="read", reason="not-dicom") == 1
    assert value(page, "failures_total", stage="claim", reason="worker-lost") == 1
    assert value(page, "incoming_bytes_total") == 14
    assert value(page, "published_bytes_total") == value(page, "last_success_timestamp_seconds") == 0
    assert value(page, "ingest_latency_seconds_count") == value(page, "stage_duration_seconds_count", stage="read") == 0


def test_a_duplicate_is_a_success_and_a_vanished_file_has_no_size(metrics: Metrics) -> None:
    metrics.record(published()._replace(kind="duplicate"))
    metrics.record(Outcome("vanished", "/in/c", 0, BASE, BASE + 99 * MS))
    page = read(metrics)
    assert value(page, "last_success_timestamp_seconds") == pytest.approx((BASE + 30 * MS) / 1e9, abs=1e-6)
    assert value(page, "incoming_bytes_total") == 1000
    assert value(page, "published_bytes_total") == value(page, "ingest_latency_seconds_count") == 0
    assert value(page, "file_size_bytes_count") == value(page, "queue_duration_seconds_count") == 1


def test_a_clock_that_was_set_back_makes_no_negative_lag(metrics: Metrics) -> None:
    metrics.record(published(lag_ns=-5 * MS, wait_ns=-7 * MS))
    page = read(metrics)
    assert value(page, "ingest_latency_seconds_sum") == value(page, "queue_duration_seconds_sum") == 0
    assert value(page, "ingest_latency_seconds_bucket", le="0.001") == 1


def test_what_the_system_refuses_is_a_failure_and_a_retry_but_a_busy_file_is_neither(metrics: Metrics) -> None:
    metrics.deferred(Deferral("/in/a", 0, BASE, "no-space", "place", "disk full"))
    metrics.deferred(Deferral("/in/a", 0, BASE, "busy", "claim", ""))
    page = read(metrics)
    assert value(page, "failures_total", stage="place", reason="no-space") == 1
    assert value(page, "retries_total", stage="place") == 1
    assert sum(number for (name, _), number in page.items() if name == "listener_failures_total") == 1
    assert value(page, "retries_total", stage="claim") == 0


def test_the_state_that_the_loop_tells(metrics: Metrics) -> None:
    metrics.pending(3, 2, 1, 4096, BASE)
    metrics.set_aside({"empty": (2, 0), "incomplete": (1, 77)})
    metrics.set_aside({"incomplete": (1, 77)})
    metrics.rescanned(0.02, BASE / 1e9)
    metrics.volume("data", os.statvfs("/"))
    metrics.set("ready", 1)
    metrics.add("worker_restarts_total", 1, "deadline")
    page = read(metrics)
    assert [value(page, "pending_files", state=state) for state in metric_rows.PENDING_STATES] == [3, 2, 1]
    assert value(page, "oldest_pending_timestamp_seconds") == pytest.approx(BASE / 1e9)
    assert value(page, "set_aside_files", reason="empty") == 0
    assert value(page, "set_aside_bytes", reason="incomplete") == 77
    assert value(page, "rescan_duration_seconds_count") == value(page, "ready") == 1
    assert value(page, "filesystem_size_bytes", volume="data") > 0
    assert value(page, "filesystem_files_free", volume="data") <= value(page, "filesystem_files", volume="data")
    assert value(page, "worker_restarts_total", reason="deadline") == 1


def test_what_the_catalogue_does_not_have_is_refused(metrics: Metrics) -> None:
    for wrong in (("ready", 1.0, "x"), ("set_aside_files", 1.0, "1.2.840.113619"), ("files_processed_total", 1.0)):
        with pytest.raises(KeyError):
            metrics.set(*wrong)
    with pytest.raises(KeyError):
        metrics.add("files_discovered_total", 1, "rumour")


def test_diagnostics_are_counted_from_any_thread(metrics: Metrics) -> None:
    def chat() -> None:
        for _ in range(2000):
            metrics.log_record("warning")

    threads = [threading.Thread(target=chat) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    metrics.log_record("notice")
    page = read(metrics)
    assert value(page, "log_records_total", level="warning") == 8000
    assert value(page, "log_records_total", level="error") == 1


def test_a_page_read_while_files_are_counted_agrees_with_itself(metrics: Metrics) -> None:
    done = threading.Event()
    outcomes = [published(size=size, lag_ns=size * MS) for size in range(1, 200)]

    def count() -> None:
        while not done.is_set():
            metrics.record_many(outcomes)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = 0.0
        for _ in range(20):
            page = read(metrics)
            total = value(page, "ingest_latency_seconds_count")
            assert total == value(page, "ingest_latency_seconds_bucket", le="+Inf") >= before
            before = total
    finally:
        done.set()
        thread.join()


def test_the_process_is_on_the_page_and_created_metrics_are_not(metrics: Metrics) -> None:
    text = metrics.exposition().decode()
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in text
    assert "_created" not in text


def test_instances_are_counted_by_modality_and_what_is_rare_as_other(metrics: Metrics) -> None:
    """Whatever a sender writes there, the labels stay a closed set."""
    outcomes = [published()._replace(Modality=code) for code in ("MR", "MR", "CT", "BDUS", "", "DOE^JANE")]
    metrics.record_many([*outcomes, failed("conflict", "place")._replace(Modality="MR")])
    page = read(metrics)
    found = {modality: value(page, "published_instances_total", modality=modality) for modality in MODALITIES}
    assert {modality: number for modality, number in found.items() if number} == {"MR": 2, "CT": 1, "other": 3}
    assert not any("DOE" in str(labels) for _, labels in page)


def test_nothing_of_a_file_reaches_the_page(metrics: Metrics) -> None:
    metrics.record(published()._replace(path="/in/DOE^JANE", PatientID="SECRET", SOPInstanceUID="1.2.3.4", error="DOE"))
    text = metrics.exposition().decode()
    assert not any(word in text for word in ("DOE", "SECRET", "1.2.3.4", "/in"))


def test_promtool_accepts_the_page(metrics: Metrics) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    metrics.record_many([published(), failed("empty", "read")])
    page = metrics.exposition()
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=120, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.parametrize("row", [row for row in rows() if row.buckets], ids=lambda row: row.name)
@given(data=st.data())
def test_a_histogram_equals_a_naive_one(row: Row, data: st.DataObject) -> None:
    numbers = st.one_of(st.sampled_from(row.buckets), st.floats(0, row.buckets[-1] * 2))
    values = data.draw(st.lists(numbers, max_size=30))
    histogram = Histogram(row.buckets)
    for one in values:
        histogram.observe(one)
    cumulative = [sum(histogram.counts[: at + 1]) for at in range(len(histogram.counts))]
    assert cumulative == [sum(one <= bound for one in values) for bound in (*row.buckets, float("inf"))]
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.slow
def test_a_scrape_is_cheap_after_a_million_files(metrics: Metrics) -> None:
    """5 ms are promised. Processor time, and the median of many: other processes of the machine do not count."""
    outcomes = [published(size=100 + 1000 * index, lag_ns=index * MS) for index in range(1000)]
    for _ in range(1000):
        metrics.record_many(outcomes)
    costs, page = [], b""
    for _ in range(41):
        begun = time.thread_time()
        page = metrics.exposition()
        costs.append(time.thread_time() - begun)
    assert b"listener_ingest_latency_seconds_count 1e+06" in page
    assert sorted(costs)[20] < 0.005

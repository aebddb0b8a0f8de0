"""Every alert on both sides of its threshold, by promtool; rules, chart, runbook and catalogue fit together."""

from __future__ import annotations

import copy
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from listener.backfill.metric_rows import ROWS as BACKFILL
from listener.deidentify.metric_rows import ROWS as DEIDENTIFY
from listener.export.metric_rows import ROWS as EXPORT
from listener.notify import metric_rows as notify
from listener.route import metric_rows as route
from listener.route.routes_file import Routes
from listener.serve.metrics import ROWS as SERVE
from listener.stages import metric_rows as stages
from listener.telemetry import metric_rows
from tests.conftest import PROJECT
from tests.observing import rules

#: The alerts that the platform promises: names are a contract.
PROMISED = """
    IngestStalled Absent LoopStuck VolumeAlmostFull VolumeInodesLow VolumeFillingUp IngestSlow BacklogGrowing
    FailureRatioHigh FilesSetAside SetAsideGrowing EventQueueOverflow RescanOverdue WorkersCrashing NotReady
    SeriesIncomplete BatchesWithError HookFailing LedgerBroken SenderSilent LogWriteFailing RouteNotRunning
    RouteTargetDown RouteTitleRejected RouteNoWorker RouteLate RouteDeadLetters RouteResultsHeld RouteUnclaimed
    RouteUnanswered BackfillPartFailed RouteConfigRefused ExportStalled ExportFailing ExportIdentified
    DeidentifyBehind DeidentifyHeld DeidentifyProviderFailing NotifyTargetAway NotifyStalled NotifyLate ServeIndexLags
    NotifyFailed
"""

TARGET = {"instance": "10.0.0.7:9464", "job": "dicom/listener", "namespace": "dicom", "pod": "listener-0"}

#: Samples a minute apart, in promtool's notation, by metric and labels.
Samples = dict[str, str]


@dataclass(frozen=True)
class Case:
    """What makes an alert fire, `at` that minute, with this summary and labels beyond TARGET's; what does not."""

    at: int
    fires: Samples
    summary: str
    quiet: list[Samples]
    labels: dict[str, str] = field(default_factory=dict)
    value: str = ""


CASES = {
    "IngestStalled": Case(
        at=20,
        fires={"oldest_pending_timestamp_seconds": "60x40"},
        summary="A file waits for 19m 0s on listener-0",
        quiet=[{"oldest_pending_timestamp_seconds": "301x40"}, {"oldest_pending_timestamp_seconds": "0x40"}],
    ),
    "Absent": Case(
        at=10,
        fires={"heartbeat_timestamp_seconds": "0+60x20", "standby": "1x20"},
        summary="Prometheus sees 0 listeners of 1",
        quiet=[
            {"heartbeat_timestamp_seconds": "0+60x20", "standby": "0x20"},
            {"heartbeat_timestamp_seconds": "0 60 120 _x4 480 540 600"},
        ],
    ),
    "LoopStuck": Case(
        at=10,
        fires={"heartbeat_timestamp_seconds": "60x20"},
        summary="The loop of listener-0 has not come round for 9m 0s",
        quiet=[{"heartbeat_timestamp_seconds": "0+60x20"}, {"heartbeat_timestamp_seconds": "0 60 60 60 240+60x20"}],
    ),
    "VolumeAlmostFull": Case(
        at=10,
        fires={
            'filesystem_avail_bytes{volume="data"}': "4.9x20",
            'filesystem_size_bytes{volume="data"}': "100x20",
            'filesystem_avail_bytes{volume="log"}': "50x20",
            'filesystem_size_bytes{volume="log"}': "100x20",
        },
        summary="The data volume of listener-0 has 4.9 % free",
        labels={"volume": "data"},
        quiet=[
            {'filesystem_avail_bytes{volume="data"}': "5x20", 'filesystem_size_bytes{volume="data"}': "100x20"},
            {'filesystem_avail_bytes{volume="data"}': "0x20", 'filesystem_size_bytes{volume="data"}': "0x20"},
        ],
    ),
    "VolumeInodesLow": Case(
        at=15,
        fires={'filesystem_files_free{volume="data"}': "49x20", 'filesystem_files{volume="data"}': "1000x20"},
        summary="The data volume of listener-0 has 4.9 % inodes left",
        labels={"volume": "data"},
        quiet=[
            {'filesystem_files_free{volume="data"}': "50x20", 'filesystem_files{volume="data"}': "1000x20"},
            # file systems that do not count inodes
            {'filesystem_files_free{volume="data"}': "0x20", 'filesystem_files{volume="data"}': "0x20"},
        ],
    ),
    "VolumeFillingUp": Case(
        at=90,
        fires={
            'filesystem_avail_bytes{volume="data"}': "38000-150x99",
            'filesystem_size_bytes{volume="data"}': "100000x99",
        },
        summary="The data volume of listener-0 will be full within 4 hours",
        labels={"volume": "data"},
        quiet=[
            # too slowly; from much to less; for a moment only
            {
                'filesystem_avail_bytes{volume="data"}': "38000-50x99",
                'filesystem_size_bytes{volume="data"}': "100000x99",
            },
            {
                'filesystem_avail_bytes{volume="data"}': "90000-400x99",
                'filesystem_size_bytes{volume="data"}': "100000x99",
            },
            {
                'filesystem_avail_bytes{volume="data"}': "38000x75 38000-500x24",
                'filesystem_size_bytes{volume="data"}': "100000x99",
            },
        ],
    ),
    "IngestSlow": Case(
        at=30,
        fires={
            'ingest_latency_seconds_bucket{le="60.0"}': "0x40",
            'ingest_latency_seconds_bucket{le="300.0"}': "0+10x40",
            'ingest_latency_seconds_bucket{le="+Inf"}': "0+10x40",
        },
        summary="One file in twenty takes longer than 4m 48s on listener-0",
        quiet=[
            {
                'ingest_latency_seconds_bucket{le="30.0"}': "0x40",
                'ingest_latency_seconds_bucket{le="60.0"}': "0+10x40",
                'ingest_latency_seconds_bucket{le="+Inf"}': "0+10x40",
            },
            # nothing comes at night
            {'ingest_latency_seconds_bucket{le="60.0"}': "0x40", 'ingest_latency_seconds_bucket{le="+Inf"}': "10x40"},
        ],
    ),
    "BacklogGrowing": Case(
        at=40,
        fires={'pending_files{state="waiting"}': "1000+20x60", 'pending_files{state="working"}': "4x60"},
        summary="The backlog of listener-0 grows by 20 files a minute",
        quiet=[
            {'pending_files{state="waiting"}': "5000x60"},
            {'pending_files{state="waiting"}': "5000-100x60"},
            {'pending_files{state="waiting"}': "0+20x60"},
        ],
    ),
    "FailureRatioHigh": Case(
        at=30,
        fires={
            'files_processed_total{outcome="set-aside"}': "0+1x40",
            'files_processed_total{outcome="published"}': "0+9x40",
        },
        summary="10 % of the files are set aside on listener-0",
        quiet=[
            {
                'files_processed_total{outcome="set-aside"}': "0+5x40",
                'files_processed_total{outcome="published"}': "0+95x40",
            },
            {
                'files_processed_total{outcome="set-aside"}': "0x25 3x15",
                'files_processed_total{outcome="published"}': "0x25 5x15",
            },
        ],
    ),
    "FilesSetAside": Case(
        at=10,
        fires={'set_aside_files{reason="incomplete"}': "2x20", 'set_aside_files{reason="superseded"}': "9x20"},
        summary="2 files are set aside as incomplete on listener-0",
        labels={"reason": "incomplete"},
        quiet=[
            {'set_aside_files{reason="incomplete"}': "0x20", 'set_aside_files{reason="superseded"}': "9x20"},
            {'set_aside_files{reason="incomplete"}': "0x6 2x3 0x10"},
        ],
    ),
    "SetAsideGrowing": Case(
        at=20,
        fires={
            'set_aside_bytes{reason="incomplete"}': "4x30",
            'set_aside_bytes{reason="superseded"}': "2x30",
            'filesystem_size_bytes{volume="state"}': "100x30",
            'filesystem_size_bytes{volume="data"}': "1x30",
        },
        summary="What is set aside takes 6 % of the state volume of listener-0",
        quiet=[
            {
                'set_aside_bytes{reason="incomplete"}': "3x30",
                'set_aside_bytes{reason="superseded"}': "2x30",
                'filesystem_size_bytes{volume="state"}': "100x30",
                'filesystem_size_bytes{volume="data"}': "1x30",
            }
        ],
    ),
    "EventQueueOverflow": Case(
        at=12,
        fires={"fs_event_queue_overflows_total": "0x10 1x10"},
        summary="The kernel's event queue overflowed on listener-0",
        quiet=[{"fs_event_queue_overflows_total": "1x20"}],
    ),
    "RescanOverdue": Case(
        at=20,
        fires={"last_rescan_timestamp_seconds": "60x30", 'pending_files{state="waiting"}': "9000x30"},
        summary="The last complete rescan on listener-0 is 19m 0s ago",
        quiet=[
            {"last_rescan_timestamp_seconds": "0+60x30", 'pending_files{state="waiting"}': "0x30"},
            # a rescan pauses while the queue is full
            {
                "last_rescan_timestamp_seconds": "60x30",
                'pending_files{state="waiting"}': "9000x30",
                'pending_files{state="working"}': "1x30",
            },
        ],
    ),
    "WorkersCrashing": Case(
        at=12,
        fires={
            'worker_restarts_total{reason="killed"}': "0x10 4x10",
            'worker_restarts_total{reason="recycled"}': "0x20",
        },
        summary="4 workers were lost within 15 minutes on listener-0",
        quiet=[
            {
                'worker_restarts_total{reason="killed"}': "0x10 3x10",
                'worker_restarts_total{reason="recycled"}': "0+5x20",
            }
        ],
    ),
    "NotReady": Case(
        at=10,
        fires={"ready": "0x20"},
        summary="listener-0 is not ready",
        quiet=[{"ready": "1x20"}, {"ready": "1x6 0x14"}],
    ),
    "SeriesIncomplete": Case(
        at=10,
        fires={
            'series{state="incomplete"}': "8x20",
            'series{state="complete"}': "9x20",
            "series_acknowledged": "7x20",
        },
        summary="1 series are incomplete on listener-0",
        labels={"state": "incomplete"},
        quiet=[
            {'series{state="incomplete"}': "0x20", 'series{state="complete"}': "9x20", "series_acknowledged": "0x20"},
            # a person knows of all
            {'series{state="incomplete"}': "7x20", "series_acknowledged": "7x20"},
        ],
    ),
    "BatchesWithError": Case(
        at=20,
        fires={"batches_with_error": "3x10 5x50"},
        summary="2 batches had an error in the last hour on listener-0",
        quiet=[{"batches_with_error": "3x80"}, {"batches_with_error": "3x5 2x40"}],
    ),
    "HookFailing": Case(
        at=20,
        fires={'delivery_oldest_timestamp_seconds{hook="webhook"}': "60x30"},
        summary="A delivery to the hook webhook has waited for 19m 0s on listener-0",
        labels={"hook": "webhook"},
        quiet=[
            # nothing waits
            {'delivery_oldest_timestamp_seconds{hook="webhook"}': "0x30"},
            # what waits is told in time
            {'delivery_oldest_timestamp_seconds{hook="webhook"}': "60+60x30"},
            # no hook at all
            {},
            # nothing was given up
            {'deliveries{hook="webhook",state="failed"}': "0x30", 'deliveries{hook="webhook",state="pending"}': "3x30"},
        ],
    ),
    "LedgerBroken": Case(
        at=8,
        fires={"ledger_ok": "0x20"},
        summary="The ledger cannot be written on listener-0",
        # written again within the time
        quiet=[{"ledger_ok": "1x20"}, {"ledger_ok": "1 0 0 0 1x20"}],
    ),
    "SenderSilent": Case(
        at=4400,
        fires={'last_arrival_timestamp_seconds{sender="CT1"}': "60x4500"},
        summary="Nothing came for 3d 1h 19m 0s from CT1",
        labels={"sender": "CT1"},
        quiet=[
            {'last_arrival_timestamp_seconds{sender="CT1"}': "3600x4500"},
            # not watched at all
            {},
        ],
    ),
    "LogWriteFailing": Case(
        at=12,
        fires={
            'failures_total{stage="describe",reason="no-space"}': "0x10 1x10",
            'failures_total{stage="describe",reason="permission"}': "0x10 1x10",
        },
        summary="The JSON logs cannot be written on listener-0",
        value="2",
        quiet=[
            {
                'failures_total{stage="place",reason="no-space"}': "0x10 2x10",
                'failures_total{stage="describe",reason="internal"}': "0x10 2x10",
            }
        ],
    ),
    "RouteNotRunning": Case(
        at=10,
        fires={'consumer_heartbeat_timestamp_seconds{consumer="route"}': "60x20"},
        summary="The stage route has not come round for 9m 0s on listener-0",
        labels={"consumer": "route"},
        quiet=[
            {'consumer_heartbeat_timestamp_seconds{consumer="route"}': "0+60x20"},
            {'consumer_heartbeat_timestamp_seconds{consumer="export"}': "60x20"},
        ],
    ),
    "RouteTargetDown": Case(
        at=10,
        fires={'route_target_up{target="gpu1"}': "0x20", 'route_target_up{target="gpu2"}': "1x20"},
        summary="gpu1 is down or full, says route on listener-0",
        labels={"target": "gpu1"},
        quiet=[{'route_target_up{target="gpu1"}': "1x20"}, {'route_target_up{target="gpu1"}': "1 1 0 0 1x20"}],
    ),
    "RouteTitleRejected": Case(
        at=5,
        fires={'route_target_rejects_title{target="pacs"}': "1x20"},
        summary="pacs rejects an AE title of route on listener-0",
        labels={"target": "pacs"},
        quiet=[{'route_target_rejects_title{target="pacs"}': "0x20"}],
    ),
    "RouteNoWorker": Case(
        at=5,
        fires={"route_waiting_studies": "3x20"},
        summary="3 studies wait for a worker on listener-0",
        quiet=[{"route_waiting_studies": "0x20"}],
    ),
    "RouteLate": Case(
        at=20,
        fires={'route_oldest_pending_timestamp_seconds{target="pacs"}': "60x40"},
        summary="An instance for pacs has waited for 19m 0s on listener-0",
        labels={"target": "pacs"},
        quiet=[
            {'route_oldest_pending_timestamp_seconds{target="pacs"}': "0x40"},
            {'route_oldest_pending_timestamp_seconds{target="pacs"}': "301x40"},
        ],
    ),
    "RouteDeadLetters": Case(
        at=5,
        fires={'route_dead_letters{target="pacs"}': "2x20"},
        summary="2 instances for pacs were given up on listener-0",
        labels={"target": "pacs"},
        quiet=[{'route_dead_letters{target="pacs"}': "0x20"}],
    ),
    "RouteResultsHeld": Case(
        at=10,
        fires={'route_held_results{reason="orphan"}': "4x20", 'route_held_results{reason="patient"}': "0x20"},
        summary="4 results are held on listener-0: orphan",
        labels={"reason": "orphan"},
        quiet=[{'route_held_results{reason="orphan"}': "0x20"}],
    ),
    "RouteUnclaimed": Case(
        at=90,
        fires={"route_unclaimed_instances": "5+1x100"},
        summary="60 instances came within an hour that no route wants on listener-0",
        quiet=[{"route_unclaimed_instances": "5x100"}, {"route_unclaimed_instances": "500-1x100"}],
    ),
    "RouteUnanswered": Case(
        at=90,
        fires={"route_unanswered_total": "0x60 2x100"},
        summary="2 studies had no result within an hour on listener-0",
        quiet=[{"route_unanswered_total": "7x100"}],
    ),
    "BackfillPartFailed": Case(
        at=10,
        fires={
            'backfill_parts{state="left"}': "1x20",
            'backfill_parts{state="silent"}': "2x20",
            'backfill_parts{state="ended"}': "9x20",
        },
        summary="3 parts of the backfill are left or silent",
        quiet=[{'backfill_parts{state="running"}': "4x20", 'backfill_parts{state="left"}': "0x20"}, {}],
    ),
    "RouteConfigRefused": Case(
        at=5,
        fires={"route_config_ok": "0x20"},
        summary="The routes file is refused on listener-0",
        quiet=[{"route_config_ok": "1x20"}],
    ),
    "ExportStalled": Case(
        at=420,
        fires={'consumer_oldest_pending_timestamp_seconds{consumer="export"}': "60x500"},
        summary="A series has waited for 6h 59m 0s to be exported by listener-0",
        labels={"consumer": "export"},
        quiet=[
            {'consumer_oldest_pending_timestamp_seconds{consumer="export"}': "0x500"},
            {'consumer_oldest_pending_timestamp_seconds{consumer="export"}': "0+60x500"},
            {'consumer_oldest_pending_timestamp_seconds{consumer="route"}': "60x500"},
        ],
    ),
    "ExportFailing": Case(
        at=20,
        fires={'consumer_failed_deliveries{consumer="export"}': "0x5 2x30"},
        summary="2 generations of series could not be exported by listener-0",
        labels={"consumer": "export"},
        quiet=[{'consumer_failed_deliveries{consumer="export"}': "0x40"}, {}],
    ),
    "ExportIdentified": Case(
        at=20,
        fires={'export_failures_total{reason="identified"}': "0x5 1x30"},
        summary="Identified series were to be exported by listener-0",
        labels={"reason": "identified"},
        quiet=[
            {'export_failures_total{reason="identified"}': "3x40"},
            {'export_failures_total{reason="gone"}': "0x5 1x30"},
        ],
    ),
    "DeidentifyBehind": Case(
        at=380,
        fires={'consumer_oldest_pending_timestamp_seconds{consumer="deidentify"}': "60x400"},
        summary="A series has waited for 6h 19m 0s to be cleaned by listener-0",
        labels={"consumer": "deidentify"},
        quiet=[
            {'consumer_oldest_pending_timestamp_seconds{consumer="deidentify"}': "0x400"},
            {'consumer_oldest_pending_timestamp_seconds{consumer="export"}': "60x400"},
        ],
    ),
    "DeidentifyHeld": Case(
        at=80,
        fires={'deidentify_held{reason="burned-in"}': "2x100", 'deidentify_held{reason="residual"}': "1x100"},
        summary="3 instances or units wait for a person at listener-0",
        quiet=[{'deidentify_held{reason="burned-in"}': "0x100"}],
    ),
    "DeidentifyProviderFailing": Case(
        at=30,
        fires={"deidentify_provider_failures_total": "0+1x60"},
        summary="Who gives pseudonyms does not answer listener-0",
        quiet=[{"deidentify_provider_failures_total": "2x60"}],
    ),
    "NotifyTargetAway": Case(
        at=10,
        fires={'notify_connected{target="nats"}': "0x20", 'notify_connected{target="cube"}': "1x20"},
        summary="nats takes nothing from notify on listener-0",
        labels={"target": "nats"},
        quiet=[{'notify_connected{target="nats"}': "1x20"}, {'notify_connected{target="cube"}': "1 0 0 1x20"}],
    ),
    "NotifyStalled": Case(
        at=25,
        fires={'consumer_oldest_pending_timestamp_seconds{consumer="notify-cube"}': "60x40"},
        summary="The end of a series has waited for 24m 0s (notify-cube) on listener-0",
        labels={"consumer": "notify-cube"},
        quiet=[
            {'consumer_oldest_pending_timestamp_seconds{consumer="notify-nats"}': "0x60"},
            {'consumer_oldest_pending_timestamp_seconds{consumer="notify-nats"}': "0+60x60"},
            {'consumer_oldest_pending_timestamp_seconds{consumer="route"}': "60x60"},
        ],
    ),
    "NotifyLate": Case(
        at=20,
        fires={"notify_late_total": "0x5 1x30"},
        summary="1 series grew within an hour after CUBE had registered them, on listener-0",
        quiet=[{"notify_late_total": "3x40"}],
    ),
    "ServeIndexLags": Case(
        at=20,
        fires={"serve_index_lag_seconds": "0+60x60"},
        summary="A series has not been in the catalogue of serve for 20m 0s on listener-0",
        quiet=[{"serve_index_lag_seconds": "0x60"}, {"serve_index_lag_seconds": "700x3 0x60"}],
    ),
    "NotifyFailed": Case(
        at=5,
        fires={'consumer_failed_deliveries{consumer="notify-cube"}': "2x20"},
        summary="2 ends of series were not told (notify-cube) on listener-0",
        labels={"consumer": "notify-cube"},
        quiet=[
            {'consumer_failed_deliveries{consumer="notify-cube"}': "0x20"},
            {'consumer_failed_deliveries{consumer="export"}': "2x20"},
        ],
    ),
}


#: Alerts that are of more than one listener, and which of TARGET's labels they keep.
KEPT = {"Absent": (), "SenderSilent": ("namespace", "job")}


def written() -> list[dict[str, Any]]:
    """The alerts of the plain rules file."""
    (group,) = yaml.safe_load(rules.PLAIN.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def rule(name: str) -> dict[str, Any]:
    (found,) = [one for one in written() if one["alert"] == f"Listener{name}"]
    return found


def series(samples: Samples, target: dict[str, str]) -> list[dict[str, str]]:
    made = []
    for metric, values in samples.items():
        name, _, labels = metric.removesuffix("}").partition("{")
        pairs = [f'{key}="{value}"' for key, value in target.items()] + [labels] * bool(labels)
        made.append({"series": f"listener_{name}{{{','.join(pairs)}}}", "values": values})
    return made


def expectation(name: str, case: Case) -> dict[str, Any]:
    """What promtool shall see: every label and every text."""
    alert = rule(name)
    annotations = {
        "summary": case.summary,
        "description": re.sub(r"\{\{.*?\}\}", case.value, alert["annotations"]["description"]),
        "runbook_url": alert["annotations"]["runbook_url"],
    }
    target = {key: value for key, value in TARGET.items() if key in KEPT.get(name, TARGET)}
    return {"exp_labels": {**target, **case.labels, **alert["labels"]}, "exp_annotations": annotations}


def trial(name: str, samples: Samples, at: int, expected: list[dict[str, Any]]) -> dict[str, Any]:
    asked = {"eval_time": f"{at}m", "alertname": f"Listener{name}", "exp_alerts": expected}
    return {"interval": "1m", "input_series": series(samples, TARGET), "alert_rule_test": [asked]}


def promtool_says(promtool: str, folder: Path, trials: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    asked = {one["alertname"] for trial in trials for one in trial["alert_rule_test"]}
    chosen = folder / "chosen.rules.yaml"  # The others would be evaluated every minute of days.
    group = {"name": "listener", "rules": [one for one in written() if one["alert"] in asked]}
    chosen.write_text(yaml.safe_dump({"groups": [group]}))
    path = folder / "alerts.test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(chosen)], "tests": trials}))
    return subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("name", CASES)
def test_it_fires_and_it_does_not(name: str, promtool: str, tmp_path: Path) -> None:
    case = CASES[name]
    trials = [trial(name, case.fires, case.at, [expectation(name, case)])]
    if rule(name)["for"] != "0m":
        trials.append(trial(name, case.fires, 0, []))
    trials += [trial(name, samples, case.at, []) for samples in case.quiet]
    done = promtool_says(promtool, tmp_path, trials)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hook_fails_also_when_nothing_waits_any_more_and_some_was_given_up(promtool: str, tmp_path: Path) -> None:
    case = Case(
        at=5,
        fires={
            'delivery_oldest_timestamp_seconds{hook="webhook"}': "0x30",
            'deliveries{hook="webhook",state="failed"}': "3x30",
        },
        summary="3 deliveries to the hook webhook were given up on listener-0",
        labels={"hook": "webhook", "state": "failed"},
        quiet=[],
    )
    trials = [trial("HookFailing", case.fires, case.at, [expectation("HookFailing", case)])]
    done = promtool_says(promtool, tmp_path, trials)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_sender_is_silent_when_it_is_so_everywhere(promtool: str, tmp_path: Path) -> None:
    """It may come to any of several listeners; one that never came is told in other words."""
    one, other = (
        series({'last_arrival_timestamp_seconds{sender="CT1"}': values}, {**TARGET, "pod": pod})
        for pod, values in (("listener-0", "60x4500"), ("listener-1", "60x4000 240000x500"))
    )
    here = trial("SenderSilent", {}, 4400, []) | {"input_series": [*one, *other]}
    never = expectation("SenderSilent", CASES["SenderSilent"])
    never["exp_annotations"]["summary"] = "Nothing ever came from CT1"
    # Days of promtool begin with the epoch, those of a real Prometheus 56 years later.
    lately = trial("SenderSilent", {'last_arrival_timestamp_seconds{sender="CT1"}': "-1800000000x4500"}, 4400, [never])
    done = promtool_says(promtool, tmp_path, [here, lately])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_that_is_wrong_is_seen(promtool: str, tmp_path: Path) -> None:
    """The other way round: promtool does not agree to everything."""
    case = CASES["NotReady"]
    for samples, expected in ((case.fires, []), (case.quiet[0], [expectation("NotReady", case)])):
        assert promtool_says(promtool, tmp_path, [trial("NotReady", samples, case.at, expected)]).returncode != 0


def test_promtool_finds_nothing(promtool: str) -> None:
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(rules.PLAIN)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_promised_alerts_are_there_and_each_has_its_case() -> None:
    assert [one["alert"] for one in written()] == [f"Listener{name}" for name in PROMISED.split()]
    assert list(CASES) == PROMISED.split()


def test_the_plain_file_is_made_of_the_chart_s() -> None:
    assert rules.PLAIN.read_text(encoding="utf-8") == rules.plain(rules.defaults()), "run `make docs`"


def test_every_word_of_the_texts_has_a_value() -> None:
    for one in written():
        texts = [one["expr"], *one["annotations"].values()]
        assert not [word for text in texts for word in re.findall(r"\$(\w+)", text) if word not in ("value", "labels")]


def test_the_thresholds_are_the_values() -> None:
    """Each number of the values is in the rule, and changes it."""
    settings = rules.defaults()
    for name, own in settings["alerts"].items():
        for word in own.keys() - {"enabled", "severity", "for"}:
            changed = copy.deepcopy(settings)
            changed["alerts"][name][word] = 123_456_789
            (made,) = [one for one in rules.rules(changed)["groups"][0]["rules"] if one["alert"] == f"Listener{name}"]
            assert "123456789" in made["expr"], f"{name}.{word}"
        assert own["severity"] in ("info", "warning", "critical")
    switched = copy.deepcopy(settings)
    switched["alerts"]["NotReady"]["enabled"] = False
    assert len(rules.rules(switched)["groups"][0]["rules"]) == len(CASES) - 1


def test_rules_ask_for_metrics_and_labels_of_the_catalogue() -> None:
    table = [
        *metric_rows.rows(),
        *BACKFILL,
        *stages.rows("route", route.rows(Routes({}, {}))),
        *stages.rows("export", EXPORT),
        *stages.rows("deidentify", DEIDENTIFY),
        *stages.rows("notify", notify.rows(), (notify.NATS, notify.CUBE)),
        *SERVE,
    ]
    known: dict[str, dict[str, set[str]]] = {}
    for row in table:  # Each stage has rows of its own for what all of them have.
        for label, values in row.labels:
            known.setdefault(row.full_name, {}).setdefault(label, set()).update(values)
        known.setdefault(row.full_name, {})
    for one in written():
        for name, matchers in re.findall(r"\b(listener_\w+)(\{[^}]*\})?", one["expr"]):
            labels = known[name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)]
            for label, value in re.findall(r'(\w+)!?=~?"([^"]*)"', matchers):
                assert set(value.split("|")) <= labels[label], f"{one['alert']}: {label}={value}"


def test_every_alert_has_a_heading_in_the_runbook_with_meaning_check_and_remedy() -> None:
    text = (PROJECT / "docs/runbook.md").read_text(encoding="utf-8")
    for one in written():
        assert one["annotations"]["runbook_url"].endswith(f"runbook.md#{one['alert'].lower()}")
        found = re.search(rf"^### {one['alert']}\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
        assert found, f"{one['alert']} has no heading in docs/runbook.md"
        for word in ("Meaning", "Check", "Remedy"):
            assert re.search(rf"^\*\*{word}\.\*\* \S", found[1], re.MULTILINE), f"{one['alert']}: {word}"
    told = re.findall(r"^### Listener(\w+)$", text, re.MULTILINE)
    assert told == PROMISED.split()

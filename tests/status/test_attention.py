"""What needs attention: each condition gives its finding, with a remedy and a heading that the runbook has."""

from __future__ import annotations

import re
from typing import Any

import pytest

from listener.status.attention import PROBLEM, WARNING, anchor, findings, volumes_of
from listener.status.document import NOTHING_HELD_UP, RUNNING, DirectoryTotals, LedgerView, document
from listener.telemetry.health import Conditions, readiness
from tests.conftest import PROJECT

NOW = 1_800_000_000 * 10**9

GB = 10**9


def volume(used: int = 50, number: str = "a", **more: Any) -> dict[str, Any]:
    return {"size": 100 * GB, "available": (100 - used) * GB, "files": 1000, "files_free": 900, "id": number} | more


def well(**more: Any) -> dict[str, Any]:
    """The document of a service that is well, with some of its parts replaced."""
    ready = Conditions(heartbeat=0, watching=True, scanned=True, space_ok=True, writable={"data": True})
    live = {
        "version": "1", "started": "2026-11-21T07:00:00.000000Z", "state": "ready", "time_ns": NOW,
        "checks": readiness(ready, 0)[1]["checks"], "held_up": NOTHING_HELD_UP, "lost": {"workers": 0, "events": 0},
        "volumes": dict.fromkeys(("incoming", "data", "log", "state"), volume()),
    }  # fmt: skip
    return document(live, None, LedgerView(), NOW) | more


def hook(**more: Any) -> dict[str, Any]:
    return {"webhook": {"state": "active", "pending": 0, "delivered": 9, "failed": 0, "oldest": "", "error": ""} | more}


def check(name: str, text: str) -> dict[str, Any]:
    return {"state": "not-ready", "checks": {name: {"ok": False, "text": text}}}


def reasons(**numbers: int) -> dict[str, Any]:
    return {"reasons": {name: {"files": files, "bytes": files * 1000} for name, files in numbers.items()}}


#: What is so, and the only finding of it: severity, a part of what it says, the runbook's heading.
CASES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "space": (
        {"service": check("space", "free space is below --min-free: make room")},
        (PROBLEM, "free space is below --min-free", "Not ready"),
    ),
    "watch": (
        {"service": check("watching", "incoming is not watched: raise the limits")},
        (PROBLEM, "incoming is not watched", "No events"),
    ),
    "stage lost": (
        {"stages": {"route": {"state": "lost", "seen": "2026-11-21T07:00:00Z", "version": "1"}}},
        (PROBLEM, "the stage route gives no word for more than ten seconds, since 2026-11-21", "A stage does not run"),
    ),
    "stage stopped": (
        {"stages": {"export": {"state": "stopped", "seen": None, "version": "1"}}},
        (WARNING, "the stage export is stopped", "A stage does not run"),
    ),
    "lock": (
        {"service": check("locks", "x holds it: end it")},
        (WARNING, "x holds it", "Not ready"),
    ),
    "lost": ({"service": {"state": "lost", "checks": {}}}, (PROBLEM, "no word", "ListenerAbsent")),
    "stopped": ({"service": {"state": "stopped", "checks": {}}}, (WARNING, "stopped", "ListenerAbsent")),
    "ledger": (
        {"ledger": {"readable": False, "error": "damaged"}},
        (PROBLEM, "the ledger cannot be read: damaged", "Not ready"),
    ),
    "held up": (
        {"held_up": {"files": 2, "places": 1, "shown": []}},
        (PROBLEM, "2 files cannot be placed, in 1 place", "Files are held up"),
    ),
    "hook fails": (
        {"hooks": hook(pending=209, error="503", oldest="2026-11-21T07:00:00.000000Z")},
        (
            WARNING,
            "hook webhook has not been told since 2026-11-21 07:00 UTC, 209 messages wait: 503",
            "A hook is not told",
        ),
    ),
    "hook gave up": (
        {"hooks": hook(failed=1, error="503")},
        (PROBLEM, "hook webhook: 1 delivery was given up: 503", "A hook is not told"),
    ),
    "hook is stopped": (
        {"hooks": hook(state="stopped", pending=1, error="410")},
        (PROBLEM, "hook webhook wants no more messages: 410", "A hook is not told"),
    ),
    "set aside": (
        {"set_aside": reasons(incomplete=12, superseded=3)},
        (WARNING, "12 files are set aside: incomplete (12 kB)", "Files are set aside"),
    ),
    "incomplete": (
        {"studies": {"open": 4, "incomplete": 1}},
        (WARNING, "1 study lacks instances", "ListenerSeriesIncomplete"),
    ),
    "incomplete, and some of it known": (
        {"studies": {"open": 4, "incomplete": 9, "acknowledged": 7}},
        (WARNING, "2 studies lack instances", "ListenerSeriesIncomplete"),
    ),
    "full": (
        {"volumes": {"incoming": volume(95), "data": volume(95), "log": volume(95), "state": volume(7, "b")}},
        (WARNING, "the volume of incoming, data and log is 95 % full; 5 GB are left", "ListenerVolumeAlmostFull"),
    ),
    "inodes": (
        {"volumes": {"data": volume(files_free=50)}},
        (WARNING, "the volume of data is 95 % out of inodes; 50 are left", "ListenerVolumeInodesLow"),
    ),
    "workers": (
        {"lost": {"workers": 2, "events": 0}},
        (WARNING, "2 workers were lost and replaced in the last hour", "Workers are lost"),
    ),
    "events": (
        {"lost": {"workers": 0, "events": 1}},
        (WARNING, "overflowed 1 time in the last hour", "ListenerEventQueueOverflow"),
    ),
}  # fmt: skip


def test_nothing_needs_attention_where_all_is_well() -> None:
    assert findings(well()) == []
    assert well()["attention"] == []
    assert findings(well(set_aside=reasons(superseded=7))) == [], "nothing is wrong with what was corrected"
    assert findings(well(hooks=hook(pending=3))) == [], "what is on its way is no failure"
    assert findings(well(volumes={"data": volume(90)})) == []
    assert findings(well(studies={"incomplete": 7, "acknowledged": 7})) == [], "somebody knows of them"
    assert findings(well(volumes={"data": volume(100) | {"size": 0, "files": 0}})) == [], "a size that is not known"


@pytest.mark.parametrize("name", CASES)
def test_each_condition_is_found_once(name: str) -> None:
    changed, (severity, what, heading) = CASES[name]
    (found,) = findings(well(**changed))
    assert (found.severity, found.runbook) == (severity, heading)
    assert what in found.what
    assert found.remedy


def test_problems_come_first() -> None:
    found = findings(well(**CASES["set aside"][0], **CASES["held up"][0]))
    assert [one.severity for one in found] == [PROBLEM, WARNING]


def test_every_heading_is_in_the_runbook() -> None:
    text = (PROJECT / "docs/runbook.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^##+ (.*)$", text, re.MULTILINE))
    assert {heading for _, (_, _, heading) in CASES.values()} <= headings
    assert anchor("Files are held up") == "files-are-held-up"
    assert f"(#{anchor('The system refuses')})" in text


def test_every_check_of_readiness_says_what_to_do() -> None:
    """All at once, none of which is well."""
    worst = Conditions(
        heartbeat=-100, writable={"data": False}, refusal="no-space", backlog=2, backlog_limit=1, draining=True,
        ledger="the ledger is locked: wait", locks="x holds it", missing=("data",),
    )  # fmt: skip
    service = {"state": "not-ready", "checks": readiness(worst, 0)[1]["checks"]}
    found = findings(well(service=service))
    assert len(found) == len(service["checks"])
    assert [one for one in found if not one.remedy or ": " in one.what] == []


def test_a_service_of_before_has_no_identities_of_volumes() -> None:
    old = {role: {"size": 9, "available": 1, "files": 1, "files_free": 1} for role in ("data", "log")}
    assert [name for name, _ in volumes_of(well(volumes=old))] == ["data and log"]


def test_without_a_service_the_directories_speak() -> None:
    looked = DirectoryTotals({"empty": (2, 30)}, {"data": volume(99)})
    found = document(None, looked, LedgerView(missing=True), NOW)
    assert found["service"]["state"] not in RUNNING
    assert [one["runbook"] for one in found["attention"]] == ["ListenerVolumeAlmostFull", "Files are set aside"]

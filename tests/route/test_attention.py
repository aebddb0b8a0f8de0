"""What of route needs attention: each condition gives its finding, with a remedy and a heading that the runbook has."""

from __future__ import annotations

from typing import Any

import pytest

from listener.route.attention import REMEDIES, findings
from listener.route.pages import _NOTHING
from listener.route.returns import HELD
from listener.status.attention import PROBLEM, WARNING
from tests.conftest import PROJECT

WELL: dict[str, Any] = {**_NOTHING, "error": "", "service": {"state": "ready", "checks": {}}}


def target(state: str, **more: Any) -> dict[str, Any]:
    about = {"name": "gpu1", "kind": "worker", "state": state, "paused": False, "since": "2026-01-02T03:04:05Z"}
    return {**about, "cause": "", "error": "", "pending": 2, **more}


ROUTE = {"name": "all", "workers": ["gpu1"]}

#: What is so, and the findings of it: severity and heading.
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "all is well": ({}, []),
    "lost": ({"service": {"state": "lost", "checks": {}}}, [(PROBLEM, "ListenerRouteNotRunning")]),
    "stopped": ({"service": {"state": "stopped", "checks": {}}}, [(WARNING, "ListenerRouteNotRunning")]),
    "unreadable": ({"error": "disk I/O error"}, [(PROBLEM, "ListenerRouteNotRunning")]),
    "refused file": (
        {"service": {"state": "not-ready", "checks": {"routes": {"ok": False, "text": "it is refused: mend it"}}}},
        [(WARNING, "ListenerRouteConfigRefused")],
    ),
    "other check": (
        {"service": {"state": "not-ready", "checks": {"following": {"ok": False, "text": "locked"}}}},
        [(WARNING, "ListenerRouteNotRunning")],
    ),
    "down": ({"targets": [target("down", error="refused")]}, [(WARNING, "ListenerRouteTargetDown")]),
    "full": ({"targets": [target("full", error="A700")]}, [(WARNING, "ListenerRouteTargetDown")]),
    "title": ({"targets": [target("down", cause="title")]}, [(PROBLEM, "ListenerRouteTitleRejected")]),
    "paused alone": ({"targets": [target("up", paused=True)], "routes": [ROUTE]}, [(PROBLEM, "ListenerRouteNoWorker")]),
    "up": ({"targets": [target("up")], "routes": [ROUTE]}, []),
    "dead": ({"dead": 3}, [(PROBLEM, "ListenerRouteDeadLetters")]),
    "held": ({"held": {"orphan": 1, "patient": 0}}, [(WARNING, "ListenerRouteResultsHeld")]),
    "held and grave": ({"held": {"patient": 1}}, [(PROBLEM, "ListenerRouteResultsHeld")]),
    "unclaimed": ({"unclaimed": 1}, [(WARNING, "ListenerRouteUnclaimed")]),
    "unanswered": ({"unanswered": 1}, [(WARNING, "ListenerRouteUnanswered")]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_needs_attention(name: str) -> None:
    changes, wanted = CASES[name]
    found = findings({**WELL, **changes})
    assert [(one.severity, one.runbook) for one in found] == wanted
    assert all(one.what and one.remedy for one in found)


def test_every_heading_is_in_the_runbook() -> None:
    text = (PROJECT / "docs/runbook.md").read_text(encoding="utf-8")
    for _, wanted in CASES.values():
        for _, heading in wanted:
            assert f"### {heading}\n" in text, heading


def test_every_reason_has_a_remedy_and_stands_in_the_documents() -> None:
    text = (PROJECT / "docs/routing.md").read_text(encoding="utf-8")
    assert REMEDIES.keys() == HELD.keys()
    assert [reason for reason in HELD if f"| `{reason}` |" not in text] == []

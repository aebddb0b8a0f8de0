"""PURE. What of route needs a person's attention: the same for its page, its API and its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.route.returns import HELD
from listener.status.attention import PROBLEM, WARNING, Finding
from listener.status.formatting import moment, several

#: What to do about a held result, by its reason.
REMEDIES = {
    "ambiguous": "give the routes different workers or the same results; 'listener route held --send ID DEST' decides",
    "other-worker": "see who else sends to that worker; 'listener route held --send ID DEST' decides",
    "unknown-sender": "name the worker's calling AE title in its returns-as, or find out who sends there",
    "orphan": "have the worker refer to the images that it used; 'listener route held --send ID DEST' decides",
    "patient": "look at once whether the worker mixes patients; 'listener route held' names the study",
    "partial": "the other worker's result comes; 'listener route held --discard ID' lets this one be",
    "altered": "stop the worker from writing under an original's UID; see --on-conflict keep-both",
    "route-gone": "give the route back, or 'listener route held --send ID DEST'",
}

Document = Mapping[str, Any]


def findings(document: Document) -> list[Finding]:
    """Return what needs attention by what route's state says (see standing.summary), problems first."""
    found = [finding for part in (_service, _targets, _routes, _dead, _held, _rest) for finding in part(document)]
    return sorted(found, key=lambda finding: finding.severity != PROBLEM)


def _service(document: Document) -> Iterator[Finding]:
    service = document["service"]
    if document["error"]:
        what = f"the state of route cannot be read: {document['error']}"
        yield Finding(
            PROBLEM, what, "see owner, mode, space and mount of the state directory", "ListenerRouteNotRunning"
        )
    if service["state"] in ("lost", "stopped"):
        what = "the stage route is stopped" if service["state"] == "stopped" else "no word from the stage route"
        remedy = "start it; what came meanwhile is sent then"
        yield Finding(PROBLEM if service["state"] == "lost" else WARNING, what, remedy, "ListenerRouteNotRunning")
    for name, check in service["checks"].items():
        if not check["ok"]:
            what, _, remedy = check["text"].partition(": ")
            heading = "ListenerRouteConfigRefused" if name == "routes" else "ListenerRouteNotRunning"
            yield Finding(WARNING, what, remedy or "see the runbook", heading)


def _targets(document: Document) -> Iterator[Finding]:
    for target in document["targets"]:
        since = f" since {moment(target['since'])[:16]} UTC" if target["since"] else ""
        name = f"{target['kind']} {target['name']}"
        why = target["error"] or target["cause"]
        if target["cause"] == "title" and target["state"] == "down":
            what = f"{name} rejects an AE title{since}: {why}"
            yield Finding(PROBLEM, what, "make aet and calling what the peer expects", "ListenerRouteTitleRejected")
        elif target["state"] == "down":
            what = f"{name} is down{since}, {several(target['pending'], 'instance')} waiting: {why}"
            yield Finding(WARNING, what, "mend it; what waits is sent by itself", "ListenerRouteTargetDown")
        elif target["state"] == "full":
            what = f"{name} has no room{since}: {why}"
            yield Finding(WARNING, what, "make room there; what waits is sent by itself", "ListenerRouteTargetDown")


def _routes(document: Document) -> Iterator[Finding]:
    targets = {target["name"]: target for target in document["targets"]}
    for route in document["routes"]:
        workers = [targets[name] for name in route["workers"] if name in targets]
        if workers and all(one["state"] in ("down", "full") or one["paused"] for one in workers):
            what = f"route {route['name']} has no worker that may get a study"
            remedy = "mend one of its workers, or 'listener route resume W'; new studies wait for it"
            yield Finding(PROBLEM, what, remedy, "ListenerRouteNoWorker")


def _dead(document: Document) -> Iterator[Finding]:
    if document["dead"]:
        what = f"{several(document['dead'], 'instance was', 'instances were')} given up"
        remedy = "'listener route status' says why; mend that, then 'listener route retry'"
        yield Finding(PROBLEM, what, remedy, "ListenerRouteDeadLetters")


def _held(document: Document) -> Iterator[Finding]:
    for reason, number in document["held"].items():
        if number:
            what = f"{several(number, 'result is', 'results are')} held: {HELD.get(reason, reason)}"
            severity = PROBLEM if reason in ("patient", "altered") else WARNING
            yield Finding(severity, what, REMEDIES.get(reason, "see 'listener route held'"), "ListenerRouteResultsHeld")


def _rest(document: Document) -> Iterator[Finding]:
    if document["unclaimed"]:
        what = f"{several(document['unclaimed'], 'instance has', 'instances have')} no route"
        remedy = "give a route for its root or sender, then 'listener route send --study UID'"
        yield Finding(WARNING, what, remedy, "ListenerRouteUnclaimed")
    if document["unanswered"]:
        number = several(document["unanswered"], "study was", "studies were")
        remedy = "see whether the worker works; 'listener route send --study UID' sends it again"
        yield Finding(WARNING, f"{number} not answered", remedy, "ListenerRouteUnanswered")

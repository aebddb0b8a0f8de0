"""PURE. What needs a person's attention, found in a status document: the same for page, terminal, JSON and badge.

Each finding says what is so, what to do about it, and under which heading of the runbook more is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from listener.status.formatting import count, moment, several, share, size

#: A volume is almost full, or almost without inodes, above this share.
FULL = 0.9

#: Severities: files are at stake or are kept waiting; or something waits for a person.
PROBLEM, WARNING = "problem", "warning"

#: Checks of readiness that have a heading of their own, and those that pass by themselves or change no verdict.
_HEADINGS = {"watching": "No events", "system": "The system refuses", "backlog": "Files are late"}
_MILD = frozenset({"scanned", "draining", "ledger", "locks", "backlog"})

Document = Mapping[str, Any]


#: Stages that only read, and so are no consumers of the ledger.
READERS = ("serve",)


class Finding(NamedTuple):
    """What needs attention. `severity` is PROBLEM or WARNING; `what` is a fact, `remedy` what to do; `runbook` the
    heading in the runbook.
    """

    severity: str
    what: str
    remedy: str
    runbook: str


def findings(document: Document) -> list[Finding]:
    """Return what needs attention in a status document, problems first."""
    found = [finding for part in _PARTS for finding in part(document)]
    return sorted(found, key=lambda finding: finding.severity != PROBLEM)


def anchor(heading: str) -> str:
    """Return the fragment of a heading in a Markdown document, as forges make it."""
    kept = "".join(character for character in heading.lower() if character.isalnum() or character in " -")
    return kept.replace(" ", "-")


def _service(document: Document) -> Iterator[Finding]:
    service = document["service"]
    if service["state"] == "lost":
        what = "no word from the service for more than ten seconds"
        remedy = "see whether its process lives; if it hangs, look for a mount that does not answer, and restart it"
        yield Finding(PROBLEM, what, remedy, "ListenerAbsent")
    elif service["state"] == "stopped":
        yield Finding(
            WARNING, "the service is stopped", "start it; files wait in incoming until then", "ListenerAbsent"
        )


def _checks(document: Document) -> Iterator[Finding]:
    for name, check in document["service"]["checks"].items():
        if not check["ok"]:
            what, _, remedy = check["text"].partition(": ")
            yield Finding(
                WARNING if name in _MILD else PROBLEM,
                what,
                remedy or "see the runbook",
                _HEADINGS.get(name, "Not ready"),
            )


def _ledger(document: Document) -> Iterator[Finding]:
    ledger = document["ledger"]
    if not ledger["readable"]:
        remedy = (
            "files are published all the same; 'listener check' says more, 'listener verify --repair' makes it anew"
        )
        yield Finding(PROBLEM, f"the ledger cannot be read: {ledger['error']}", remedy, "Not ready")


def _held_up(document: Document) -> Iterator[Finding]:
    held = document["held_up"] or {}
    if held.get("files"):
        what = f"{several(held['files'], 'file')} cannot be placed, in {several(held['places'], 'place')}"
        remedy = "mend the places that 'listener status' and this page name; the next try publishes the files"
        yield Finding(PROBLEM, what, remedy, "Files are held up")


def _hooks(document: Document) -> Iterator[Finding]:
    heading = "A hook is not told"
    for name, hook in document["hooks"].items():
        if hook["failed"]:
            number = several(hook["failed"], "delivery was", "deliveries were")
            what = f"hook {name}: {number} given up: {hook['error']}"
            remedy = f"mend the receiver, then 'listener hooks redeliver {name} --yes', or 'forget' instead"
            yield Finding(PROBLEM, what.rstrip(": "), remedy, heading)
        if hook["state"] == "stopped":
            remedy = f"take its flag away, or mend the receiver and 'listener hooks redeliver {name} --yes'"
            yield Finding(PROBLEM, f"hook {name} wants no more messages: {hook['error']}", remedy, heading)
        elif hook["pending"] and hook["error"]:
            since = f" since {moment(hook['oldest'])[:16]} UTC" if hook["oldest"] else ""
            waiting = several(hook["pending"], "message waits", "messages wait")
            what = f"hook {name} has not been told{since}, {waiting}: {hook['error']}"
            yield Finding(WARNING, what, "mend the receiver; what waits is told again by itself", heading)


def _stages(document: Document) -> Iterator[Finding]:
    for name, stage in document["stages"].items():
        # What only reads holds nothing up while it does not run.
        if stage["state"] == "lost" or (stage["state"] == "stopped" and name not in READERS):
            said = "is stopped" if stage["state"] == "stopped" else "gives no word for more than ten seconds"
            since = f", since {moment(stage['seen'])[:16]} UTC" if stage["seen"] else ""
            what = f"the stage {name} {said}{since}"
            remedy = f"start 'listener {name}'; what came meanwhile it does then"
            yield Finding(WARNING if stage["state"] == "stopped" else PROBLEM, what, remedy, "A stage does not run")


def _set_aside(document: Document) -> Iterator[Finding]:
    reasons = (document["set_aside"] or {}).get("reasons", {})
    for reason, totals in reasons.items():
        if reason != "superseded":  # the corrected instance is in its place
            what = f"{several(totals['files'], 'file is', 'files are')} set aside: {reason} ({size(totals['bytes'])})"
            remedy = f"'listener set-aside --reason {reason}' names senders and studies, and what to do"
            yield Finding(WARNING, what, remedy, "Files are set aside")


def _incomplete(document: Document) -> Iterator[Finding]:
    studies = document["studies"]
    number = studies["incomplete"] - studies.get("acknowledged", 0)
    if number > 0:
        what = f"{several(number, 'study lacks', 'studies lack')} instances that were promised"
        remedy = (
            "'listener find --only incomplete' names them; have the sender send again, or where the promise was wrong, "
            "'listener expect UID N' sets it right; where the rest will not come, 'listener acknowledge'"
        )
        yield Finding(WARNING, what, remedy, "ListenerSeriesIncomplete")


def _volumes(document: Document) -> Iterator[Finding]:
    for name, volume in volumes_of(document):
        for whole, free, what, heading in (
            (volume["size"], volume["available"], "full", "ListenerVolumeAlmostFull"),
            (volume["files"], volume["files_free"], "out of inodes", "ListenerVolumeInodesLow"),
        ):
            if whole and (whole - free) / whole > FULL:
                left = f"{size(free)} are" if what == "full" else f"{count(free)} are"
                text = f"the volume of {name} is {share(whole - free, whole)} {what}; {left} left"
                yield Finding(WARNING, text, "make room there, or make the volume larger", heading)


def volumes_of(document: Document) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each volume once, by the names of the directories that lie on it ("data, log and state")."""
    names: dict[tuple[object, ...], list[str]] = {}
    volumes: dict[tuple[object, ...], Mapping[str, Any]] = {}
    for role, volume in document["volumes"].items():
        # Without an identity (an older service, some network file systems) equal sizes tell.
        key = (volume.get("id") or volume["available"], volume["size"], volume["files"])
        names.setdefault(key, []).append(role)
        volumes[key] = volume
    return [(_listed(roles), volumes[key]) for key, roles in names.items()]


def _lost(document: Document) -> Iterator[Finding]:
    lost = document["lost"] or {"workers": 0, "events": 0}
    if lost["workers"]:
        what = f"{several(lost['workers'], 'worker was', 'workers were')} lost and replaced in the last hour"
        remedy = "nothing is lost; the log says why: memory, a file that ends workers, or a volume that hangs"
        yield Finding(WARNING, what, remedy, "Workers are lost")
    if lost["events"]:
        what = f"the queue of file system events overflowed {several(lost['events'], 'time')} in the last hour"
        remedy = "a rescan found what it dropped; raise fs.inotify.max_queued_events if it happens often"
        yield Finding(WARNING, what, remedy, "ListenerEventQueueOverflow")


_PARTS = (_service, _checks, _ledger, _held_up, _hooks, _stages, _volumes, _lost, _set_aside, _incomplete)


def _listed(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)

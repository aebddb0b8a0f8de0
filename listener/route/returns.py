"""PURE. What a file that came into an inside root is: a result, of which study and for whom; or why nobody gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from listener.route.routes_file import Route, Target

#: What the ledger writes for a PatientID that is absent.
_ABSENT = ("", "PatientID")

#: Why a result is held: kept and visible, but sent to nobody. Values of a metric's label.
HELD = {
    "ambiguous": "it belongs to routes that have different results",
    "other-worker": "its study was given to another worker",
    "unknown-sender": "its calling AE title is no worker's",
    "orphan": "neither its study nor what it refers to is known",
    "patient": "its PatientID is another one than the study's",
    "partial": "the study moved away from its worker before that had the whole of it",
    "altered": "it has the UID of an original, but other bytes",
    "route-gone": "the route of its study is no longer in the routes file",
}


class Arrived(NamedTuple):
    """An instance in an inside root. `was_there` is set when the same data set was there before (a duplicate),
    `is_original` when an instance of this UID came from outside.
    """

    sender: str
    PatientID: str
    was_there: bool = False
    is_original: bool = False


class Given(NamedTuple):
    """A study that a route gave to a worker, now or before it moved. `had_all`: nothing of it went to another worker
    only. `patients` are the PatientIDs of the originals.
    """

    route: str
    StudyInstanceUID: str
    worker: str
    had_all: bool = True
    patients: frozenset[str] = frozenset()


class Verdict(NamedTuple):
    """What is done with it. `kind` is "result" (it goes to `destinations`, which are none where the route has no
    results), "original" (a worker sent back what it got: counted), or "held" with a `reason` of HELD. `route`,
    `StudyInstanceUID` and `worker` say whose result it is, as far as that is known.
    """

    kind: str
    reason: str = ""
    destinations: tuple[str, ...] = ()
    route: str = ""
    StudyInstanceUID: str = ""
    worker: str = ""


def workers_of(sender: str, targets: Mapping[str, Target]) -> frozenset[str]:
    """Return the workers whose results come under this calling AE title."""
    return frozenset(
        target.name
        for target in targets.values()
        if target.is_worker and sender in (target.returns_as or (target.aet,))
    )


def judge(arrived: Arrived, workers: frozenset[str], given: Sequence[Given], routes: Mapping[str, Route]) -> Verdict:
    """Return what an instance in an inside root is. `workers` are those of its sender; `given` are all that got its
    study, or if that is not known, those that it refers to.
    """
    if not workers:
        return Verdict("held", "unknown-sender")
    if arrived.is_original:
        return Verdict("original") if arrived.was_there else Verdict("held", "altered")
    if not given:
        return Verdict("held", "orphan", worker=_only(workers))
    own = [one for one in given if one.worker in workers]
    if not own:
        return _held("other-worker", given)
    whole = [one for one in own if one.had_all]
    if not whole:
        return _held("partial", own)
    same = [one for one in whole if _agree(arrived.PatientID, one.patients)]
    if not same:
        return _held("patient", whole)
    return _addressed(same, routes)


def _addressed(given: Sequence[Given], routes: Mapping[str, Route]) -> Verdict:
    """Return for whom a result of these is."""
    there = [one for one in given if one.route in routes]
    if not there:
        return _held("route-gone", given)
    # Where it goes must follow from whose it is: two studies of one route go one way, two routes may not.
    ways = {frozenset(routes[one.route].results) for one in there}
    if len(ways) > 1 or len(there) < len(given):
        return _held("ambiguous", given)
    first = there[0]
    return Verdict("result", "", routes[first.route].results, first.route, first.StudyInstanceUID, first.worker)


def _held(reason: str, given: Sequence[Given]) -> Verdict:
    """Return that it is held, with what all of these have in common."""
    names = (_only(one[field] for one in given) for field in (0, 1, 2))
    return Verdict("held", reason, (), *(str(name) for name in names))


def _only(values: Iterable[object]) -> str:
    """Return the one value; "" of several."""
    found = set(values)
    return str(found.pop()) if len(found) == 1 else ""


def _agree(patient: str, others: frozenset[str]) -> bool:
    """Return whether a PatientID is one of the originals'; an absent one agrees with all."""
    known = {other.strip() for other in others} - set(_ABSENT)
    return patient.strip() in _ABSENT or not known or patient.strip() in known

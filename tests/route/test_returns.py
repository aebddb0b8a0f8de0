"""What a file that came from a worker is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from listener.route import returns
from listener.route.returns import Arrived, Given, Verdict, judge, workers_of
from listener.route.routes_file import Route, Target

ROUTES = {
    "stockholm": Route("stockholm", root="stockholm", workers=("gpu1", "gpu2"), results=("sto",)),
    "uppsala": Route("uppsala", root="uppsala", workers=("gpu1", "gpu2"), results=("upp", "archive")),
    "stockholm-too": Route("stockholm-too", root="stockholm", workers=("gpu1",), results=("sto",)),
    "silent": Route("silent", root="stockholm", workers=("gpu1",)),
}
PATIENT = frozenset({"P1"})


def got(route: str = "stockholm", worker: str = "gpu1", **more: Any) -> Given:
    return Given(route, more.pop("study", "1.2"), worker, **{"patients": PATIENT, **more})


def result(route: str, destinations: tuple[str, ...], study: str = "1.2") -> Verdict:
    return Verdict("result", "", destinations, route, study, "gpu1")


class Case(NamedTuple):
    given: list[Given]
    wanted: Verdict
    arrived: Arrived = Arrived("GPU1", "P1")
    workers: frozenset[str] = frozenset({"gpu1"})


CASES = {
    "its worker's": Case([got()], result("stockholm", ("sto",))),
    "of two hospitals each": Case([got("uppsala"), got(worker="gpu2")], result("uppsala", ("upp", "archive"))),
    "of two routes with one destination": Case([got(), got("stockholm-too")], result("stockholm", ("sto",))),
    "of two studies of one route": Case([got(), got(study="1.3")], result("stockholm", ("sto",))),
    "of a route without results": Case([got("silent")], result("silent", ())),
    "before it moved": Case([got(worker="gpu2"), got(had_all=True)], result("stockholm", ("sto",))),
    "without a patient": Case([got()], result("stockholm", ("sto",)), Arrived("GPU1", "")),
    "the ledger's word for none": Case([got()], result("stockholm", ("sto",)), Arrived("GPU1", "PatientID")),
    "of originals without a patient": Case([got(patients=frozenset({"", "PatientID"}))], result("stockholm", ("sto",))),
    "with blanks around the patient": Case([got(patients=frozenset({"P1 "}))], result("stockholm", ("sto",))),
    "an original": Case([got()], Verdict("original"), Arrived("GPU1", "P1", was_there=True, is_original=True)),
    "again": Case([got()], result("stockholm", ("sto",)), Arrived("GPU1", "P1", was_there=True)),
    "ambiguous": Case([got(), got("uppsala")], Verdict("held", "ambiguous", (), "", "1.2", "gpu1")),
    "ambiguous with nobody": Case([got(), got("silent")], Verdict("held", "ambiguous", (), "", "1.2", "gpu1")),
    "ambiguous with a route that went": Case([got(), got("gone")], Verdict("held", "ambiguous", (), "", "1.2", "gpu1")),
    "other-worker": Case([got(worker="gpu2")], Verdict("held", "other-worker", (), "stockholm", "1.2", "gpu2")),
    "no worker yet": Case([got(worker="")], Verdict("held", "other-worker", (), "stockholm", "1.2", "")),
    "unknown-sender": Case([got()], Verdict("held", "unknown-sender"), Arrived("WHO", "P1"), frozenset()),
    "orphan": Case([], Verdict("held", "orphan", worker="gpu1")),
    "patient": Case([got()], Verdict("held", "patient", (), "stockholm", "1.2", "gpu1"), Arrived("GPU1", "P2")),
    "partial": Case(
        [got(worker="gpu2"), got(had_all=False)], Verdict("held", "partial", (), "stockholm", "1.2", "gpu1")
    ),
    "altered": Case([got()], Verdict("held", "altered"), Arrived("GPU1", "P1", is_original=True)),
    "route-gone": Case([got("gone")], Verdict("held", "route-gone", (), "gone", "1.2", "gpu1")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_from_a_worker(name: str) -> None:
    case = CASES[name]
    assert judge(case.arrived, case.workers, case.given, ROUTES) == case.wanted


def test_every_reason_has_a_case() -> None:
    assert returns.HELD.keys() == {case.wanted.reason for case in CASES.values()} - {""}


def test_results_come_under_the_called_title_or_those_that_are_named() -> None:
    targets = {
        "gpu1": Target("gpu1", is_worker=True, aet="GPU1"),
        "gpu2": Target("gpu2", is_worker=True, aet="GPU2", returns_as=("AI", "GPU2B")),
        "gpu3": Target("gpu3", is_worker=True, aet="AI"),
        "pacs": Target("pacs", is_worker=False, aet="PACS"),
    }
    found = {sender: set(workers_of(sender, targets)) for sender in ("GPU1", "GPU2", "AI", "PACS", "")}
    assert found == {"GPU1": {"gpu1"}, "GPU2": set(), "AI": {"gpu2", "gpu3"}, "PACS": set(), "": set()}


ANY = st.builds(
    Given,
    st.sampled_from([*ROUTES, "gone"]),
    st.sampled_from(["1.2", "1.3"]),
    st.sampled_from(["gpu1", "gpu2", ""]),
    st.booleans(),
    st.sets(st.sampled_from(["P1", "P2", "", "PatientID"])).map(frozenset),
)


@given_by(st.lists(ANY, max_size=5), st.sampled_from(["P1", ""]), st.sets(st.sampled_from(["gpu1", "gpu2"])))
def test_nobody_gets_what_is_not_his(given: list[Given], patient: str, workers: set[str]) -> None:
    verdict = judge(Arrived("GPU", patient), frozenset(workers), given, ROUTES)
    if verdict.kind == "result":
        mine = [one for one in given if one.worker in workers and one.had_all]
        assert verdict.route in {one.route for one in mine}
        assert verdict.destinations == ROUTES[verdict.route].results
    # In whatever order the facts come: held or not, for whom and why.
    other = judge(Arrived("GPU", patient), frozenset(workers), given[::-1], ROUTES)
    assert (other.kind, other.reason, set(other.destinations)) == (
        verdict.kind,
        verdict.reason,
        set(verdict.destinations),
    )

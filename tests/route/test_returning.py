"""What comes back: given, held, looked at again; and what never came."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.instances import ABSENT, instance, uid
from tests.ledger_world import World as LedgerWorld
from tests.route.world import ROUTES, SECOND, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def made_of(*images: Dataset, study: int = 0, series: int = 90, number: int = 1, **more: Any) -> Dataset:
    """A result that refers to images; of their study where that is 0, or of another one."""
    ds = instance(study=study, series=series, number=number, Modality="OT", **more)
    items = []
    for image in images:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        items.append(one)
    ds.SourceImageSequence = Sequence(items)
    return ds


def test_a_result_goes_to_who_asked(world: World) -> None:
    image = instance()
    world.sent(image, "stockholm", "gpu1")
    (told,) = world.came(made_of())
    assert told.event == "returned"
    assert told.fields == {
        "SOPInstanceUID": made_of().SOPInstanceUID,
        "StudyInstanceUID": image.StudyInstanceUID,
        "route": "stockholm",
        "worker": "gpu1",
        "of": image.StudyInstanceUID,
        "destinations": ["sto"],
    }
    assert world.results() == [(2, "sto", "pending", 1)]
    assert world.row("SELECT priority FROM sends WHERE kind = 'result'") == (0,)
    assert world.row("SELECT results, result_ns FROM studies") == (1, world.now_ns)
    assert world.answered == [("stockholm", image.StudyInstanceUID)]


def test_two_hospitals_with_one_study_get_what_their_own_worker_made(world: World) -> None:
    image = instance()
    world.sent(image, "stockholm", "gpu1")
    world.sent(image, "uppsala", "gpu2")
    world.came(made_of(number=1), "GPU1")
    world.came(made_of(number=2), "GPU2")
    assert [target for _, target, *_ in world.results()] == ["sto", "upp"]


def test_where_one_worker_had_it_from_both_nobody_gets_it(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    world.sent(instance(), "uppsala", "gpu1")
    (told,) = world.came(made_of())
    assert (told.event, told.fields["reason"], world.results()) == ("held", "ambiguous", [])


def test_a_result_with_a_study_of_its_own_belongs_to_what_it_refers_to(world: World) -> None:
    image = instance()
    world.sent(image, "stockholm", "gpu1")
    (told,) = world.came(made_of(image, study=7))
    assert (told.fields["of"], world.results()[0][1]) == (image.StudyInstanceUID, "sto")
    # What was made of the result, too.
    (told,) = world.came(made_of(made_of(image, study=7), study=8))
    assert told.fields["of"] == image.StudyInstanceUID


def test_a_study_that_came_counts_more_than_what_is_referred_to(world: World) -> None:
    prior = instance(study=3)
    world.sent(prior, "uppsala", "gpu1")
    world.sent(instance(), "stockholm", "gpu1")
    assert world.came(made_of(prior))[0].fields["route"] == "stockholm"


def test_an_orphan_is_looked_at_again_as_studies_come(world: World) -> None:
    image = instance()
    (told,) = world.came(made_of(image, study=7))
    assert (told.fields["reason"], world.held()) == ("orphan", [(1, "orphan")])
    assert world.turn() == []
    world.sent(instance(patient=5), "stockholm", "gpu1")
    assert world.turn() == []
    world.sent(image, "stockholm", "gpu1")
    (told,) = world.turn()
    assert (told.event, world.held(), world.results()) == ("returned", [], [(1, "sto", "pending", 1)])
    assert world.row("SELECT outcome, settled_ns FROM held") == ("returned", world.now_ns)
    assert world.rows("SELECT * FROM hints") == []
    assert world.turn() == []


def test_an_orphan_of_another_worker_s_study_stays_held_for_another_reason(world: World) -> None:
    world.came(made_of(instance(), study=7))
    world.sent(instance(), "stockholm", "gpu2")
    (told,) = world.turn()
    assert (told.fields["reason"], world.held(), world.turn()) == ("other-worker", [(1, "other-worker")], [])


def test_what_refers_to_nothing_stays_held(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    world.came(instance(study=9, Modality="SR", pixels=None))
    world.sent(instance(patient=4), "stockholm", "gpu1")
    assert (world.turn(), world.held()) == ([], [(2, "orphan")])


def test_an_original_that_comes_back_is_counted_and_not_returned(world: World) -> None:
    image = instance()
    number = world.sent(image, "stockholm", "gpu1")
    assert world.came(image, number=number, kind="duplicate") == []
    assert (world.returns.originals, world.results(), world.held()) == (1, [], [])


def test_other_bytes_under_an_original_s_uid_are_held(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    assert world.came(instance(PatientComments="seen"))[0].fields["reason"] == "altered"
    assert not world.returns.is_ours(instance().SOPInstanceUID)


def test_a_result_that_comes_again_is_sent_again_once(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    world.came(made_of())
    world.came(made_of(), number=2, kind="duplicate")
    assert world.results() == [(2, "sto", "pending", 1)]
    world.run("UPDATE sends SET state = 'delivered' WHERE kind = 'result'")
    world.came(made_of(), number=2, kind="duplicate")
    assert world.results() == [(2, "sto", "pending", 2)]


def test_a_worker_whose_study_moved_before_it_had_all_is_not_believed(world: World) -> None:
    study = instance().StudyInstanceUID
    world.sent(instance(number=1), "stockholm", "gpu1")
    world.sent(instance(number=2), "stockholm", "gpu1", "pending")
    world.moved("stockholm", study, "gpu2")
    assert world.came(made_of(), "GPU1")[0].fields["reason"] == "partial"
    assert world.came(made_of(number=2), "GPU2")[0].event == "returned"


def test_a_worker_that_had_all_when_its_study_moved_may_answer(world: World) -> None:
    world.sent(instance(number=1), "stockholm", "gpu1")
    world.moved("stockholm", instance().StudyInstanceUID, "gpu2")
    assert world.came(made_of(), "GPU1")[0].event == "returned"
    world.sent(instance(number=2), "stockholm", "gpu2")
    assert world.came(made_of(number=2), "GPU1")[0].fields["reason"] == "partial"


@pytest.mark.parametrize(
    ("patient", "event"),
    [("P0000", "returned"), ("", "returned"), (ABSENT, "returned"), ("P0001", "held"), ("p0000", "held")],
)
def test_the_patient_must_be_the_study_s(world: World, patient: Any, event: str) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    (told,) = world.came(made_of(PatientID=patient))
    assert told.event == event
    assert "P0" not in str(told)


def test_of_files_that_were_removed_the_ledger_tells_the_patient(tmp_path: Path) -> None:
    ledger = LedgerWorld(tmp_path)
    ledger.came(0, 1)
    ledger.close()
    world = World(tmp_path)
    number = world.sent(instance(), "stockholm", "gpu1")
    os.unlink(world.data / f"{number}.dcm")
    assert world.came(made_of(PatientID="P0001"))[0].fields["reason"] == "patient"
    assert world.came(made_of(number=2))[0].event == "returned"
    world.close()


def test_a_result_whose_file_is_gone_or_broken_ends_nothing(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    number = world.file(made_of(), "GPU1", "/srv/inside")
    (world.data / f"{number}.dcm").write_bytes(b"no DICOM")
    assert world.came(made_of(), number=number)[0].event == "returned"
    other = world.file(made_of(study=4, number=2), "GPU1", "/srv/inside")
    os.unlink(world.data / f"{other}.dcm")
    assert world.came(made_of(study=4, number=2), number=other)[0].fields["reason"] == "orphan"


def test_what_came_from_a_worker_is_known_when_it_comes_from_outside(world: World) -> None:
    image = instance()
    world.sent(image, "stockholm", "gpu1")
    world.came(made_of())
    world.came(made_of(study=6, number=2))
    ours = [ds.SOPInstanceUID for ds in (made_of(), made_of(study=6, number=2))]
    assert [world.returns.is_ours(one) for one in (*ours, image.SOPInstanceUID, uid("other"))] == [
        True,
        True,
        False,
        False,
    ]


def test_another_routes_file_names_an_unknown_sender(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    assert world.came(made_of(), "AI")[0].fields["reason"] == "unknown-sender"
    assert world.turn() == []
    world.use(ROUTES.replace('aet = "GPU1"', 'aet = "GPU1"\nreturns-as = ["AI"]'))
    assert [told.event for told in world.turn()] == ["returned"]
    assert world.turn() == []


def test_a_route_more_changes_no_answer(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    world.use(ROUTES + '[routes.more]\nroot = "stockholm"\nworkers = ["gpu1"]\nresults = ["upp"]\n')
    world.came(made_of())
    assert [target for _, target, *_ in world.results()] == ["sto"]


def test_a_study_without_a_result_is_told_of_once(world: World) -> None:
    world.sent(instance(), "stockholm", "gpu1")
    world.sent(instance(patient=2), "uppsala", "gpu2")
    world.came(made_of())
    world.now_ns += 599 * SECOND
    assert world.turn() == []
    (told,) = world.turn()
    assert (told.event, told.fields["route"], told.fields["worker"]) == ("unanswered", "uppsala", "gpu2")
    assert world.turn() == []

"""Many writers of shared documents: workers, two services, two `repack` processes. No study, no document is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from listener.repacking import setaside
from tests.accounting import Canary, account, miscounted, sent
from tests.instances import write_instance
from tests.service_process import Done, Places, finish, listener, service, settled, start

pytestmark = pytest.mark.real

STUDIES = 24


def studies(folders: tuple[Path, Path]) -> list[Path]:
    """24 studies of one patient with two instances each, by turns into two folders: both meet every study."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return [
        write_instance(folders[(study + number) % 2] / f"{study}-{number}", study=study, number=number)
        for study in range(STUDIES)
        for number in range(2)
    ]


def one_series(folders: tuple[Path, Path]) -> list[Path]:
    """One series of 80 instances, by turns into two folders."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return [write_instance(folders[number % 2] / f"{number}", number=number + 1) for number in range(80)]


def the_same_twice(folders: tuple[Path, Path]) -> list[Path]:
    """The same 40 instances into both folders: each is published once, by whoever comes first."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return [write_instance(folder / f"{number}", number=number + 1) for number in range(40) for folder in folders]


Make = Callable[[tuple[Path, Path]], list[Path]]
CASES = pytest.mark.parametrize("make", [studies, one_series, the_same_twice])


def kinds(files: int, expected: int) -> list[str]:
    return ["duplicate"] * (files - expected) + ["published"] * expected


@CASES
def test_two_services_with_four_workers_on_one_tree(places: Places, make: Make) -> None:
    """Their own incoming and state, the same data and log; what waits is the same for both from the start."""
    second = places.beside("second")
    sources = make((places.incoming, second.incoming))
    expected = sent(sources)
    with (
        service(places, "--workers", "2", ready=False) as one,
        service(second, "--workers", "2", ready=False) as other,
    ):
        for running in (one, other):
            scrape = settled(running, len(sources) // 2)
            assert not list(miscounted(scrape, running.events()))
        ended = sorted(event["event"] for running in (one, other) for event in running.events() if "src" in event)
    assert ended == kinds(len(sources), len(expected))
    account(places, expected)
    account(second, expected)
    if make is studies:
        check_study_list(places)


@CASES
def test_two_repacks_at_once(places: Places, make: Make) -> None:
    """`listener repack` takes no ownership: two of them write one tree."""
    folders = (places.base / "sent" / "a", places.base / "sent" / "b")
    sources = make(folders)
    expected, canary = sent(sources), Canary(places)
    running = [start("repack", *places.outputs(), str(folder)) for folder in folders]
    done: list[Done] = [finish(process) for process in running]
    assert [one.status for one in done] == [0, 0], done
    assert sorted(kind for one in done for kind in one.kinds()) == kinds(len(sources), len(expected))
    account(places, expected)
    assert not list(canary.changed())
    assert all(path.exists() for path in sources)
    if make is studies:
        check_study_list(places)


def test_a_repack_beside_a_service(places: Places) -> None:
    """Both write the studies of one patient, and `--cleanup` takes the sources of what was published."""
    folder = places.base / "sent"
    sources = studies((places.incoming, folder))
    expected = sent(sources)
    with service(places, ready=False) as running:
        done = finish(start("repack", *places.outputs(), "--cleanup", str(folder)))
        settled(running, STUDIES)
    assert done.status == 0, done
    account(places, expected)
    check_study_list(places)
    assert list(folder.iterdir()) == []


def check_study_list(places: Places) -> None:
    """The one patient's StudyList has all studies, each once."""
    (path,) = (places.log / "patientData").iterdir()
    (entry,) = orjson.loads(path.read_bytes()).values()
    assert (len(entry["StudyList"]), len(set(entry["StudyList"]))) == (STUDIES, STUDIES)


def test_eight_workers_that_replace_one_another_set_nothing_aside_as_conflict(places: Places) -> None:
    """Each instance in eight data sets, under two names of the patient, so that its place in the tree changes, too."""
    for version in range(8):
        for number in range(12):
            path = places.incoming / f"{number % 3}-{version}-{number}"
            name = f"Name^{'AB'[version % 2]}"
            write_instance(path, number=number, pixels=bytes([version]) * 32, Rows=4, Columns=4, PatientName=name)
    expected = sorted(path.read_bytes() for path in places.incoming.iterdir())
    done = listener("once", *places.flags(), "--min-free=0", "--fsync=none", "--workers=8")
    assert {event["event"] for event in done.events if "src" in event} <= {"published", "duplicate"}
    tree = [path for path in places.data.rglob("*.dcm") if ".listener" not in path.parts]
    kept = [Path(entry.path) for entry in setaside.entries(str(places.state / "set-aside" / "superseded"))]
    assert len(tree) == 12
    assert len(kept) == 7 * 12
    assert sorted(path.read_bytes() for path in tree + kept) == expected
    verified = listener("verify", "--deep", *places.outputs(), f"--state={places.state}")
    assert verified.status == 0, verified.stdout

"""One patient's place cannot be used, under the real service and the real `once`: from the first refusal to the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.accounting import Canary, account, read_set_aside, sent
from tests.instances import instance, write_instance
from tests.repacking.tree import DIRECTORY
from tests.service_process import Places, listener, once, service, settled, until_value, value
from tests.waiting import until
from tests.workbench import tmpfs

pytestmark = pytest.mark.real

#: The patient whose place it is, and everybody else.
BAD, OTHERS = 1, (2, 3, 4)


def bring(places: Places, patient: int, count: int, into: Path | None = None) -> list[Path]:
    """Instances of a patient, left in incoming; where they were made."""
    folder = places.base / "sent"
    folder.mkdir(exist_ok=True)
    made = [
        write_instance(folder / f"{patient}-{number}", patient=patient, number=number) for number in range(1, count + 1)
    ]
    for path in made:
        ((into or places.incoming) / path.name).write_bytes(path.read_bytes())
    return made


def test_the_others_go_on_and_it_is_told_and_set_aside_and_brought_back(places: Places) -> None:
    place, canary = places.data / DIRECTORY, Canary(places)
    place.symlink_to("/nonexistent/archive")
    flags = ("--workers", "1", "--min-free", "1", "--drain", "0")
    with service(places, "--give-up", "3600", *flags) as running:
        bad = bring(places, BAD, 5)
        until_value(running, 5, "files_held_up", reason="io-error")
        good = [path for patient in OTHERS for path in bring(places, patient, 4)]
        running.wait_for("published", len(good))
        assert running.get("/readyz").status == 200
        told = running.get("/api/v1/status").json()["held_up"]
        assert (told["files"], told["places"]) == (5, 1)
        (shown,) = told["shown"]
        series = str(instance(patient=BAD).SeriesInstanceUID)
        where = "level 1 below the data directory, a link"
        assert (shown["place"], shown["SeriesInstanceUID"], shown["files"]) == (where, series, 5)
        page = running.get("/").body.decode()
        assert where in page
        screen = listener("status", "--state", str(places.state)).stdout.decode()
        assert f"{where}: No such file or directory" in screen
        for text in (running.stderr, page, screen):
            assert series in text
            assert "P0001" not in text
    with service(places, "--give-up", "1", *flags) as running:
        running.wait_for("set-aside", 5, seconds=20)
        until_value(running, 0, "files_held_up")
        assert {event["reason"] for event in running.events("set-aside")} == {"unplaceable"}
        assert value(running.scrape(), "failures_total", reason="unplaceable") == 5
        assert {one.reason for one in read_set_aside(places)} == {"unplaceable"}
        place.unlink()
        assert listener("retry", *places.flags(), "--reason", "unplaceable").status == 0
        running.wait_for("published", 5)
    account(places, sent([*bad, *good]))
    assert not list(canary.changed())


def test_what_is_mended_in_time_is_published(places: Places) -> None:
    (places.data / DIRECTORY).write_text("in the way")
    with service(places) as running:
        bad = bring(places, BAD, 3)
        until_value(running, 3, "files_held_up", reason="io-error")
        (places.data / DIRECTORY).unlink()
        settled(running, 3)
        until_value(running, 0, "files_held_up")
        until(lambda: "no file is held up any more" in running.stderr, what="told")
    account(places, sent(bad))


def test_once_leaves_it_claimed_and_says_why(places: Places) -> None:
    """As with all that the system refuses; the next run goes on. With a --give-up that is shorter it is set aside."""
    place = places.data / DIRECTORY
    place.symlink_to("/nonexistent/archive")
    bad, good = bring(places, BAD, 3), bring(places, 2, 3)
    done = once(places, "--settle", "0")
    assert (done.status, done.kinds()) == (1, ["published"] * 3)
    assert "3 left in incoming" in done.stderr
    assert "held up, io-error (level 1 below the data directory, a link: No such file or directory): 3" in done.stderr
    assert [len(names) for _, _, names in os.walk(places.state / "claim") if names] == [3]
    done = once(places, "--settle", "0", "--give-up", "0")
    assert (done.status, done.kinds()) == (1, ["set-aside"] * 3)
    assert {event["reason"] for event in done.events} == {"unplaceable"}
    place.unlink()
    assert listener("retry", *places.flags(), "--all").status == 0
    assert once(places).status == 0
    account(places, sent([*bad, *good]))


def test_what_comes_on_a_volume_mounted_below_incoming_is_claimed_by_a_copy(places: Places) -> None:
    """No claim can be renamed from there: it held up everybody."""
    folder = places.incoming / "site"
    with tmpfs(folder), service(places) as running:
        bad, good = bring(places, BAD, 4, folder), bring(places, 2, 4)
        (folder / "text").write_text("this is no DICOM file" * 10)
        settled(running, 9)
        assert os.listdir(folder) == []
        assert value(running.scrape(), "failures_total", reason="not-dicom") == 1
        assert not running.events("duplicate")
        account(places, sent([*bad, *good]), aside={"not-dicom": 1})

"""`listener once --finish`: the ledger of what the parts brought, each series ended once, and their set-aside files."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.backfill.finish import take_over
from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from tests.backfill.archives import BY_NAME, NORMAL, SMALL, archive, finish_all, part, parts, rows
from tests.instances import instance, write_instance
from tests.ledger_world import assert_ledger_equals_logs
from tests.service_process import Places, listener, make_places, service
from tests.waiting import until

pytestmark = pytest.mark.real


def test_the_ledger_gets_what_the_parts_brought_and_nobody_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = make_places(tmp_path)
    files = archive(places, 5)
    with contextlib.closing(open_writer(path_of(str(places.state)))) as ledger:
        deliveries.register(ledger, "somebody", 1)
    assert part(places, "--part", "0/2", *BY_NAME) == 0
    assert finish_all(places) == 1
    assert "nothing is finished before all parts have ended" in capfd.readouterr().err
    assert not rows(places, "SELECT * FROM series")
    assert part(places, "--part", "1/2", *BY_NAME) == 0
    assert finish_all(places, "--batch", "archive of 1999") == 0
    assert_ledger_equals_logs(places)
    assert rows(places, "SELECT state, result, generation FROM series") == [("complete", "recounted", 1)] * 5
    assert rows(places, "SELECT state FROM study_states") == [("complete",)] * 5
    assert not rows(places, "SELECT * FROM deliveries WHERE series_id > 0")
    assert rows(places, "SELECT folder, state, generation, files FROM batches") == [
        (b"archive of 1999", "done", 1, len(files))
    ]
    assert rows(places, "SELECT sum(instances), count(*) FROM batch_series") == [(len(files) - 2, 5)]
    assert [path.name for path in (places.state / "set-aside/not-dicom").glob("[!.]*")] == ["text", "text.json"]
    assert orjson.loads((places.state / "set-aside/not-dicom/text.json").read_bytes())["batch"] == "archive of 1999"
    assert rows(places, "SELECT path FROM set_aside") == [("not-dicom/text",)]
    before = rows(places, "SELECT id, changed_ns FROM series")
    assert finish_all(places, "--batch", "archive of 1999") == 0
    assert rows(places, "SELECT id, changed_ns FROM series") == before
    assert (
        listener("verify", "--data", str(places.data), "--log", str(places.log), "--state", str(places.state)).status
        == 0
    )


def test_consumers_are_told_once_where_that_is_wanted(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    archive(places, 4)
    with contextlib.closing(open_writer(path_of(str(places.state)))) as ledger:
        deliveries.register(ledger, "somebody", 1)
    parts(places)
    assert finish_all(places, "--announce") == 0
    assert finish_all(places, "--announce") == 0
    assert rows(places, "SELECT event, generation FROM deliveries WHERE series_id > 0") == [("series-complete", 1)] * 4


def given_out(ledger: sqlite3.Connection, consumer: int, now_ns: int) -> list[str]:
    """Events and UIDs in the order in which a consumer gets them."""
    taken = deliveries.lease(ledger, consumer, now_ns, now_ns + 1, limit=100)
    return [f"{one.event} {(one.series or one.study or one.aside).StudyInstanceUID}" for one in taken]  # type: ignore[union-attr]


def test_what_comes_now_is_told_before_what_a_backfill_brought(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    archive(places, 3)
    wants = '{"events": ["series-complete", "study-complete", "set-aside"]}'
    with contextlib.closing(open_writer(path_of(str(places.state)))) as ledger:
        consumer = deliveries.register(ledger, "somebody", 1, wants=wants)
        parts(places)
        assert finish_all(places, "--announce") == 0
        write_instance(places.incoming / "late", patient=77, study=77, series=77)
        (places.incoming / "text").write_text("no DICOM\n" * 40)
        quiet = ("--series-quiet", "0", "--study-quiet", "0")
        assert listener("once", *places.flags(), *SMALL, *quiet).status == 1
        until(lambda: rows(places, "SELECT count(*) FROM study_states WHERE state = 'open'") == [(0,)], 10)
        order = given_out(ledger, consumer, time.time_ns() + 10**12)
    study = instance(77, 77, 77).StudyInstanceUID
    now = [one.split()[0] for one in order if one.endswith(f" {study}")]
    assert sorted(now) == ["series-complete", "study-complete"]
    told = [one.split()[0] for one in order]
    assert told[:3] == [*now, "set-aside"], order
    assert Counter(told) == {"series-complete": 4, "study-complete": 4, "set-aside": 2}


def test_what_the_ledger_had_goes_on_in_the_next_generation_and_ends(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    write_instance(places.incoming / "first", number=1)
    assert listener("once", *places.flags(), *SMALL, "--series-quiet", "0").status == 0
    assert rows(places, "SELECT state, generation, instances FROM series") == [("complete", 1, 1)]
    for number in (2, 3):
        write_instance(places.incoming / f"P{number}", number=number)
    parts(places)
    assert finish_all(places) == 0
    assert rows(places, "SELECT state, generation, instances FROM series") == [("complete", 2, 3)]


def test_a_series_that_is_open_in_the_ledger_ends_where_nobody_works_on_it(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    write_instance(places.incoming / "first", number=1)
    assert listener("once", *places.flags(), *SMALL).status == 0
    write_instance(places.incoming / "second", number=2)
    parts(places)
    assert rows(places, "SELECT state, generation, instances FROM series") == [("open", 1, 1)]
    assert finish_all(places) == 0
    assert rows(places, "SELECT state, generation, instances FROM series") == [("complete", 1, 2)]


def test_a_service_on_another_incoming_of_the_collection_goes_on(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    archive(places, 6)[-1].unlink()  # Rows of set-aside files are the service's: half a minute later.
    live = Places(tmp_path, (tmp_path / "live",), places.data, places.log, places.state).make()
    with service(live, "--series-quiet", "1") as running:
        for number in range(2):
            assert listener("once", *places.flags(), *SMALL, *NORMAL, "--part", f"{number}/2", *BY_NAME).status == 0
        write_instance(live.incoming / "x", patient=77, study=77, series=77)
        assert listener("once", *places.flags(), *SMALL, "--finish").status == 0
        running.wait_for("series-complete")
        assert len(running.events("series-complete")) == 1, "the service tells of its own series alone"
    assert_ledger_equals_logs(places)


def test_set_aside_files_that_a_kill_left_halfway_are_taken_over(tmp_path: Path) -> None:
    """The reason file is there, the file is not; and one of that name is there already."""
    folder, state = tmp_path / "parts/one", tmp_path
    source, target = folder / "set-aside/empty", state / "set-aside/empty"
    for directory in (source, target):
        directory.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (source / name).write_text(name)
        (source / f"{name}.json").write_text(f"why {name}")
    (target / "b").write_text("another")
    (target / "b.json").write_text("another")
    (source / "a.json").rename(target / "a.json")
    assert take_over(str(folder), "one", str(state), "archive") == 3
    assert take_over(str(folder), "one", str(state), "archive") == 0
    assert [path.name for path in source.iterdir() if path.name != ".lock"] == []
    found = {path.name: path.read_text() for path in target.iterdir() if path.name != ".lock"}
    (other,) = {name for name in found if name.startswith("b-") and not name.endswith(".json")}
    assert found == {
        "a": "a", "a.json": "why a", "b": "another", "b.json": "another", other: "b", f"{other}.json": "why b",
        "c": "c", "c.json": "why c",
    }  # fmt: skip


def test_finish_is_no_part(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = make_places(tmp_path)
    assert finish_all(places, "--part", "0/2") == 2
    assert cli.main(["once", *places.flags(), "--announce"]) == 2
    assert "go with --finish" in capfd.readouterr().err
    assert finish_all(places) == 1, "no part was begun"

"""The ledger of the real service: real storescp, real files, real kills."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from listener.ledger.connection import open_writer, path_of
from listener.ledger.reader import Reader, reading
from listener.planning.documents import retrieve_path
from tests.dicomnet import storescp, storescu
from tests.instances import uid, write_instance
from tests.ledger_world import assert_ledger_equals_logs
from tests.reloading import reloading
from tests.service_process import (
    Places,
    Service,
    listener,
    once,
    service,
    settled,
    until_value,
    value,
)
from tests.waiting import until
from tests.workbench import tmpfs

pytestmark = pytest.mark.real


def series(number: int = 0) -> str:
    return str(uid("series", 0, 0, number))


def promise(places: Places, number: int, which: int = 0) -> None:
    path = places.log / retrieve_path(series(which))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({"NumberOfSeriesRelatedInstances": str(number)}))


def instances(folder: Path, count: int, which: int = 0, first: int = 1) -> list[Path]:
    folder.mkdir(exist_ok=True)
    numbers = range(first, first + count)
    return [write_instance(folder / f"{which}-{number}", series=which, number=number) for number in numbers]


@contextlib.contextmanager
def read(places: Places) -> Iterator[Reader]:
    with reading(str(places.state)) as reader:
        yield reader


def ends(running: Service, which: int = 0) -> list[tuple[int, int, int, str]]:
    return [
        (one["generation"], one["instances"], one["expected"], one["result"])
        for one in running.events("series-complete")
        if one["SeriesInstanceUID"] == series(which)
    ]


def wait_for_ends(running: Service, count: int, seconds: float = 30) -> list[tuple[int, int, int, str]]:
    try:
        return until(lambda: ends(running) if len(ends(running)) >= count else [], seconds, what=f"{count} ends")
    except AssertionError as error:
        raise AssertionError(f"{error}; {running}") from None


# -- complete --------------------------------------------------------------------------------------------------------


def test_the_promised_number_is_complete_at_once_and_a_late_one_is_generation_two(
    places: Places, dcmtk: None, tmp_path: Path
) -> None:
    sent = instances(tmp_path / "sent", 6)
    promise(places, 5)
    with (
        reloading(places, series_timeout="3600") as (running, change),
        storescp(places.incoming, "--fork", "+uf", "+xa") as receiver,
    ):
        storescu(receiver.port, sent[:4])
        settled(running, 4)
        assert ends(running) == []
        storescu(receiver.port, sent[4:5])
        settled(running, 5)
        assert wait_for_ends(running, 1) == [(1, 5, 5, "expected")], "at once: no time that is asked for is over"
        # One more than was there is promised now: incomplete after the timeout, and then it comes.
        promise(places, 7)
        storescu(receiver.port, sent[5:])
        settled(running, 6)
        change(series_timeout="0.5")
        assert wait_for_ends(running, 2)[1:] == [(2, 6, 7, "incomplete")]
        until_value(running, 1, "series", state="incomplete")
        late = instances(tmp_path / "late", 1, first=7)
        storescu(receiver.port, late)
        assert wait_for_ends(running, 3)[2:] == [(3, 7, 7, "late")]
        scrape = running.scrape()
        assert value(scrape, "series_completed_total", result="expected") == 1
        assert value(scrape, "series_completed_total", result="late") == 1
        until_value(running, 1, "series", state="complete")
        assert value(running.scrape(), "ledger_ok") == 1
    with read(places) as reader:
        row = reader.series(series())
        assert row
        # storescu says so itself, and storescp writes it into the file.
        assert (row.sender, row.state, row.PatientID, row.AccessionNumber) == ("STORESCU", "complete", "P0000", "A00")
    assert_ledger_equals_logs(places)


def test_without_a_promise_quiet_completes_by_modality_and_a_person_may_say_the_number(places: Places) -> None:
    with service(places, "--series-quiet", "60", "--series-quiet", "MR=1") as running:
        write_instance(places.incoming / "a", series=0)
        write_instance(places.incoming / "b", series=1, Modality="CT")
        settled(running, 2)
        assert wait_for_ends(running, 1) == [(1, 1, 0, "quiet")]
        assert ends(running, 1) == []
        done = listener("expect", series(1), "1", "--state", str(places.state))
        assert done.status == 0, done.stderr
        until(lambda: ends(running, 1) == [(1, 1, 1, "expected")], 10)


# -- quiet -----------------------------------------------------------------------------------------------------------


def test_a_series_whose_rest_comes_while_the_service_is_stopped_is_told_once(places: Places, tmp_path: Path) -> None:
    with service(places, "--series-quiet", "2") as running:
        which, rest = halted_with_an_open_series(running, tmp_path / "sent")
        try:
            for path in rest:
                shutil.copyfile(path, places.incoming / path.name)
            time.sleep(4)  # Longer than it takes a series to be quiet.
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert until(lambda: ends(running, which), 30) == [(1, 6, 0, "quiet")]


def halted_with_an_open_series(running: Service, folder: Path) -> tuple[int, list[Path]]:
    """Stop the service as soon as it has three instances of a series; which one, and the other three instances.

    On a busy machine the series may be quiet before: then it is tried with the next one.
    """
    for which in range(100):
        sent = instances(folder, 6, which)
        for path in sent[:3]:
            shutil.copyfile(path, running.places.incoming / path.name)
        running.wait_for("published", 3 * which + 3)
        running.process.send_signal(signal.SIGSTOP)
        if not ends(running, which):
            return which, sent[3:]
        running.process.send_signal(signal.SIGCONT)
    raise AssertionError("never quick enough")


@pytest.mark.slow
def test_a_series_whose_rest_waits_for_space_is_told_once(places: Places, tmp_path: Path) -> None:
    sent = instances(tmp_path / "sent", 6)
    with tmpfs(tmp_path / "data", "30m") as data:
        small = replace(places, data=data)
        with reloading(small, "--min-free", "8MiB", series_quiet="3600") as (running, change):
            begun = time.monotonic()
            for path in sent[:3]:
                shutil.copyfile(path, places.incoming / path.name)
            settled(running, 3)
            (data / "filler").write_bytes(bytes(24 * 2**20))
            until(lambda: running.get("/readyz").status == 503, 10)
            for path in sent[3:]:
                shutil.copyfile(path, places.incoming / path.name)
            quiet = time.monotonic() - begun + 0.5  # It was not quiet for so long when the rest came.
            change(series_quiet=f"{quiet:.1f}")
            time.sleep(quiet + 1)  # Longer than it takes a series to be quiet.
            assert ends(running) == []
            (data / "filler").unlink()
            assert wait_for_ends(running, 1) == [(1, 6, 0, "quiet")]


def test_a_series_whose_file_has_no_place_is_not_told_complete(places: Places) -> None:
    """Of one patient, whose directory is a link to nowhere; the others' series are."""
    write_instance(places.incoming / "good", patient=1)
    with reloading(places, series_quiet="3600") as (running, change):
        settled(running, 1)
        (good,) = places.data.rglob("*.dcm")
        begun = time.monotonic()
        write_instance(places.incoming / "first", series=3, number=1)
        settled(running, 2)
        (first,) = [path for path in places.data.rglob("*.dcm") if path != good]
        first.parent.rename(places.base / "aside")
        first.parent.symlink_to(places.base / "nowhere")
        write_instance(places.incoming / "second", series=3, number=2)
        until(lambda: running.get("/api/v1/status").json()["held_up"]["files"] == 1, 10)
        quiet = time.monotonic() - begun + 0.5  # It was not quiet for so long when the second came.
        change(series_quiet=f"{quiet:.1f}")
        time.sleep(quiet + 1)  # Longer than it takes a series to be quiet.
        assert ends(running, 3) == []
        first.parent.unlink()
        (places.base / "aside").rename(first.parent)
        until(lambda: ends(running, 3) == [(1, 2, 0, "quiet")], 45)


def test_where_rescans_alone_find_files_a_series_is_quiet_after_the_rescan_that_found_none(
    places: Places, tmp_path: Path
) -> None:
    with service(places, "--poll", "--rescan", "3", "--series-quiet", "1") as running:
        which, rest = halted_with_an_open_series(running, tmp_path / "sent")
        for path in rest:
            shutil.copyfile(path, places.incoming / path.name)
        running.process.send_signal(signal.SIGCONT)  # They lie there unseen when it is quiet.
        assert until(lambda: ends(running, which), 30) == [(1, 6, 0, "quiet")]


def test_once_with_other_options_leaves_the_series_of_a_service_alone(places: Places) -> None:
    other = places.beside("other")
    other = Places(other.base, other.incomings, places.data, places.log, places.state)
    with service(places, "--series-quiet", "3600") as running:
        write_instance(places.incoming / "a", number=1)
        settled(running, 1)
        write_instance(other.incoming / "b", series=1)
        time.sleep(0.2)  # Its own series is old enough then.
        done = once(other, "--series-quiet", "0.1")
        assert done.status == 0, done.stderr
        assert [one["SeriesInstanceUID"] for one in done.events if one["event"] == "series-complete"] == [series(1)]
        write_instance(places.incoming / "c", number=2)
        until(lambda: _recorded(places) == 2, 10)
        with read(places) as reader:
            row = reader.series(series())
        assert row
        assert (row.state, row.generation) == ("open", 1)


def test_a_series_that_nobody_expects_any_more_is_forgotten(places: Places) -> None:
    with service(places, "--series-quiet", "0.1") as running:
        for number, word in (("3", "3 instances"), ("0", "nothing has come"), ("0", "nothing has come")):
            done = listener("expect", series(), number, "--state", str(places.state))
            assert done.status == 0, done.stderr
            assert word in done.stderr
        assert b"1 " not in listener("series", "--state", str(places.state)).stdout
        assert ends(running) == []


# -- kills -----------------------------------------------------------------------------------------------------------


def test_after_kills_in_bursts_the_ledger_has_what_the_tree_has(places: Places, tmp_path: Path) -> None:
    dice = random.Random(7)
    told: list[tuple[str, int]] = []
    total = 0
    for burst in range(3):
        with contextlib.suppress(AssertionError), service(places, "--series-quiet", "1", ready=False) as running:
            running.wait_for("ready")
            for which in range(3):
                for number in range(40):
                    write_instance(tmp_path / "x", series=which, number=burst * 40 + number + 1)
                    os.rename(tmp_path / "x", places.incoming / f"{burst}-{which}-{number}")
                    total += 1
            time.sleep(dice.uniform(0.0, 0.4))  # A moment of no meaning is what is wanted.
            running.kill()
            told += [(one["SeriesInstanceUID"], one["generation"]) for one in running.events("series-complete")]
    with service(places, "--series-quiet", "1") as running:
        until(lambda: _all_are_complete(places, total), 30, what="every series is complete")
    # When it has stopped all events are out.
    told += [(one["SeriesInstanceUID"], one["generation"]) for one in running.events("series-complete")]
    assert_ledger_equals_logs(places)
    with read(places) as reader:
        for which in range(3):
            row = reader.series(series(which))
            assert row
            assert row.instances == total // 3
            recorded = [one.generation for one in reader.history(series(which)) if one.state != "open"]
            assert recorded == list(range(1, row.generation + 1))
            assert {generation for uid_, generation in told if uid_ == series(which)} >= set(recorded)


def _all_are_complete(places: Places, total: int) -> bool:
    with read(places) as reader:
        rows = reader.listed()
    return sum(row.instances for row in rows) == total and {row.state for row in rows} == {"complete"}


# -- two listeners ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False], ids=["one state", "two states"])
def test_two_listeners_on_two_roots_and_one_tree(places: Places, shared: bool) -> None:
    """Each has half of a promised series: it is complete when both halves are there."""
    other = places.beside("b")
    if shared:
        other = Places(other.base, other.incomings, other.data, other.log, places.state)
    promise(places, 20)
    with service(places) as first, service(other) as second:
        for number in range(10):
            write_instance(places.incoming / f"a{number}", number=number + 1)
            write_instance(other.incoming / f"b{number}", number=number + 11)
        settled(first, 10)
        settled(second, 10)
        until(lambda: len(ends(first) + ends(second)) >= (1 if shared else 2), 20, what="it is complete")
        assert set(ends(first) + ends(second)) == {(1, 20, 20, "expected")}
        for running in (first, second):
            until_value(running, 1, "series", state="complete")
    assert_ledger_equals_logs(places)
    assert_ledger_equals_logs(other)


# -- faults ----------------------------------------------------------------------------------------------------------


def damaged(path: str) -> None:
    Path(path).write_bytes(b"no ledger" * 1000)


def newer(path: str) -> None:
    open_writer(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("harm", "word"),
    [(damaged, "damaged"), (newer, "newer version")],
    ids=["damaged", "newer"],
)
def test_without_a_ledger_intake_goes_on_and_everybody_is_told(places: Places, harm: object, word: str) -> None:
    assert callable(harm)
    harm(path_of(str(places.state)))
    with service(places, "--series-quiet", "1") as running:
        write_instance(places.incoming / "a")
        settled(running, 1)
        assert wait_for_ends(running, 1) == [(1, 1, 0, "quiet")]
        until_value(running, 0, "ledger_ok")
        answer = running.get("/readyz")
        assert answer.status == 200, "files are kept"
        told = answer.json()["checks"]["ledger"]
        assert not told["ok"]
        assert word in told["text"]
        assert running.stderr.count(word) == 1, "told once"
    checked = listener("check", *places.flags(), "--json")
    assert checked.status == 1
    assert word in checked.stdout.decode()


def test_a_ledger_that_is_locked_for_a_while_misses_nothing(places: Places) -> None:
    with service(places) as running:
        with contextlib.closing(open_writer(path_of(str(places.state)))) as lock:
            lock.execute("BEGIN IMMEDIATE")
            for number in range(20):
                write_instance(places.incoming / f"a{number}", number=number + 1)
            settled(running, 20)
            until_value(running, 0, "ledger_ok")
        until_value(running, 1, "ledger_ok")
        until(lambda: _recorded(places) == 20, 30)
    assert_ledger_equals_logs(places)


def _recorded(places: Places) -> int:
    with read(places) as reader:
        row = reader.series(series())
        return row.instances if row else 0


# -- once ------------------------------------------------------------------------------------------------------------


def test_once_records_and_ends_what_is_to_end(places: Places) -> None:
    promise(places, 2, 1)
    for which in (0, 1):
        for number in (1, 2):
            write_instance(places.incoming / f"{which}{number}", series=which, number=number)
    done = once(places)
    assert done.status == 0, done.stderr
    assert [one["result"] for one in done.events if one["event"] == "series-complete"] == ["expected"]
    again = once(places, "--series-quiet", "0.1")
    assert [one["result"] for one in again.events if one["event"] == "series-complete"] == ["quiet"]
    assert not [one for one in once(places).events if one["event"] == "series-complete"]
    assert_ledger_equals_logs(places)


@pytest.mark.parametrize("harm", ["removed", "replaced by rubbish"])
def test_a_ledger_whose_file_goes_under_a_service_is_told_and_hooks_go_on(places: Places, harm: str) -> None:
    """A damaged one is made anew by `verify --repair`, beside the service."""
    path = Path(path_of(str(places.state)))
    told = places.base / "told"
    with service(places, "--series-quiet", "0.5", "--on-series-complete-exec", f"tee -a {told}") as running:
        write_instance(places.incoming / "a")
        wait_for_ends(running, 1)
        until(lambda: hook_was_told(told) == {series()}, 10)
        for file in places.state.glob("ledger.sqlite*"):
            file.unlink()
        if harm == "replaced by rubbish":
            path.write_bytes(b"no ledger" * 9000)
        write_instance(places.incoming / "b", series=1)
        until(lambda: ends(running, 1), 20, what="it is announced")
        if harm != "removed":
            until_value(running, 0, "ledger_ok")
            assert not running.get("/readyz").json()["checks"]["ledger"]["ok"]
            assert listener("check", *places.flags()).status == 1
            assert listener("verify", *places.outputs(), "--state", str(places.state), "--repair").status == 0
        until(lambda: hook_was_told(told) == {series(), series(1)}, 30, what="the hook is told")
        until_value(running, 1, "ledger_ok")
        complaints = [line for line in running.stderr.splitlines() if '"error"' in line]
        assert len(complaints) == 1 if harm == "removed" else len(complaints) <= 3, complaints
        with read(places) as reader:
            assert {row.state for row in reader.listed()} == {"complete"}


def hook_was_told(path: Path) -> set[str]:
    """The series of the JSON lines that the hook's program kept."""
    text = path.read_text() if path.exists() else ""
    return {orjson.loads(line)["SeriesInstanceUID"] for line in text.splitlines()}

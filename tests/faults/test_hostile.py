"""Hostile and odd input, all of it at once: every case gets what the table says, and nothing else is touched."""

from __future__ import annotations

import os
import resource
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import orjson
import pytest

from listener.planning.names import printable
from tests.accounting import Canary, miscounted
from tests.faults.hostile import (
    CASES,
    LEFT,
    PUBLISHED,
    SECRETS,
    Case,
    bundled,
    contradictions,
    device,
    digest_of,
    may_make_devices,
    patients,
)
from tests.ledger_world import assert_ledger_equals_logs
from tests.service_process import Event, Places, make_places, once, service, settled

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

#: Fields of an event that are not about a patient.
PLAIN = ("src", "time", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def lay_out(places: Places, cases: Mapping[str, Case], *, with_bundle: bool) -> tuple[dict[str, str], set[str]]:
    """Put everything into incoming; what each must get, and the texts that nobody may read in what is said."""
    wanted, files = {}, []
    for name, one in cases.items():
        one.make(places.incoming / name)
        wanted[printable(name)] = one.gets
    if may_make_devices(places.incoming):
        device(places.incoming / "device")
        wanted["device"] = "not-regular"
    for name, (path, gets) in bundled().items() if with_bundle else ():
        shutil.copyfile(path, places.incoming / name)
        files.append(path)
        wanted[name] = gets
    return wanted, patients(files)


def digests(places: Places) -> dict[str, str]:
    return {printable(entry.name): digest_of(Path(entry.path)) for entry in os.scandir(places.incoming)}


def got(events: Collection[Event]) -> dict[str, str]:
    return {event["src"]: str(event.get("reason", event["event"])) for event in events}


def told_of_patients(events: Collection[Event], stderr: str, secrets: Collection[str]) -> list[str]:
    """Texts of patients in what was said."""
    said = [orjson.dumps({key: value for key, value in event.items() if key not in PLAIN}) for event in events]
    text = b"\n".join(said).decode() + stderr
    return sorted(secret for secret in secrets if secret in text)


def check(places: Places, wanted: Mapping[str, str], events: Collection[Event], sources: Mapping[str, str]) -> None:
    expected = {name: gets for name, gets in wanted.items() if gets != LEFT}
    found = got(events)
    wrong = [
        f"{name!r} gets {found.get(name)}, not {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    left = [name for name, gets in wanted.items() if gets == LEFT]
    wrong += [
        f"{event['src']!r} warns of {event.get('warning')}, not {CASES[event['src']].warning}"
        for event in events
        if event["event"] == PUBLISHED
        and event["src"] in CASES
        and event.get("warning", "") != CASES[event["src"]].warning
    ]
    wrong += contradictions(places, {name: sources[name] for name in sources if name in wanted}, events, left)
    assert not wrong, "\n".join([f"{len(wrong)} violations:", *wrong[:40]])
    assert all((places.incoming / name).exists() for name in left)


def test_the_whole_corpus_through_once(places: Places) -> None:
    """Every case and every file that pydicom brings, in one run of one worker (so that it is known which of two equal
    files is the duplicate): each gets what the table says; the tree, the logs and set-aside hold exactly what was told;
    nothing of a patient is said; no worker is lost; the world around is as it was.
    """
    wanted, names = lay_out(places, CASES, with_bundle=True)
    sources, canary = digests(places), Canary(places)
    done = once(places, "--workers", "1", "--fsync", "none", seconds=120)
    assert done.status == 1
    check(places, wanted, done.events, sources)
    assert told_of_patients(done.events, done.stderr, {*SECRETS, *names}) == []
    assert_ledger_equals_logs(places)
    assert "ledger" not in done.stderr
    assert "lost" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(canary.changed())
    counts = Counter(wanted.values())
    print(f"{len(wanted)} files: {dict(counts)}")
    assert "internal" not in counts


@pytest.mark.parametrize("layout", ["px", "oxidicom"])
def test_the_whole_corpus_in_other_layouts(places: Places, layout: str) -> None:
    """The same of the layouts that fill in other texts for what is absent, or make a directory of the sender's name."""
    light = {name: one for name, one in CASES.items() if not one.heavy}
    wanted, _ = lay_out(places, light, with_bundle=False)
    sources, canary = digests(places), Canary(places)
    done = once(places, "--fsync", "none", "--layout", layout, seconds=120)
    check(places, wanted, done.events, sources)
    assert not list(canary.changed())


def test_the_corpus_through_the_service(places: Places) -> None:
    """Files that come while `run` watches, each case but the heaviest: the same ends, counters that add up, and a
    service that is well afterwards.
    """
    light = {name: one for name, one in CASES.items() if not one.heavy}
    with service(places, "--fsync", "none", "--rescan", "0.5") as running:
        pid, workers = running.pid, set(running.workers())
        # laid out in a second area, then moved in at once
        other = make_places(places.base / "outside" / "other")
        wanted, _ = lay_out(other, light, with_bundle=False)
        sources = digests(other)
        canary = Canary(places)
        for path in sorted(other.incoming.iterdir()):
            path.rename(places.incoming / path.name)
        count = sum(gets != LEFT for gets in wanted.values())
        scrape = settled(running, count, 100)
        events = running.events("published", "duplicate", "set-aside", "vanished")
        assert not list(miscounted(scrape, events))
        assert running.get("/readyz").status == 200
        assert set(running.workers()) == workers, "a worker was lost"
        assert told_of_patients(events, running.stderr, SECRETS) == []
        assert "Traceback" not in running.stderr
        assert running.pid == pid
    check(places, wanted, events, sources)
    assert not list(canary.changed())


#: The heaviest cases, alone.
HEAVY = {name: one for name, one in CASES.items() if one.heavy or name.startswith(("200000", "5000"))}


@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_file_takes_moments_and_the_others_wait_no_longer(places: Places, name: str) -> None:
    """No bomb, however it is packed, costs more than five seconds of processor time (here about a quarter of it)."""
    CASES[name].make(places.incoming / name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = once(places, "--fsync", "none")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (event,) = done.events
    assert event.get("reason", event["event"]) == CASES[name].gets
    # Not the clock's: other programs of the machine take their share of that.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5

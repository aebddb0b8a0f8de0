"""Real senders, an unmodified storescp, the real service: every instance is published once, whole and described."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from listener.storescp import RECOMMENDED
from tests.accounting import Canary, Sent, account, files_below, miscounted, read, read_tree, sent
from tests.dicomnet import dcmsend, storescp, storescu
from tests.instances import write_instance
from tests.service_process import Places, Service, make_places, once, rescan_on, service, settled, value

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("dcmtk")]

#: Scenario -> options of storescp.
RECEIVERS = {
    "recommended": RECOMMENDED,
    "without +uf": ("--fork", "+xa", "-ts", "60", "-pm"),
    "bit preserving": (*RECOMMENDED, "+B"),
    "a directory for each study": (*RECOMMENDED, "-su", "study"),
    "a directory for each study and time": ("--fork", "+xa", "-ss", "study"),
    "a directory for each patient": ("--fork", "+xa", "-sp"),
    "names that end in .dcm": (*RECOMMENDED, "-fe", ".dcm"),
    "one process": ("+uf", "+xa"),
}

#: Transfer syntaxes of compressed instances.
COMPRESSED = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def series(folder: Path, count: int, patient: int = 0) -> list[Path]:
    """`count` instances of one patient in two studies of two series each, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_instance(
            folder / f"{patient}-{number}", patient=patient, study=number % 2, series=number % 4, number=number + 1
        )
        for number in range(count)
    ]


def check(running: Service, expected: Sent, canary: Canary, *, files: int | None = None) -> None:
    """Wait until all are through, then L1 to L5."""
    scrape = settled(running, len(expected) if files is None else files)
    account(running.places, expected)
    assert not list(miscounted(scrape, running.events()))
    assert not list(canary.changed())
    assert [event["event"] for event in running.events() if "src" in event] == ["published"] * len(expected)


@pytest.mark.parametrize("options", RECEIVERS.values(), ids=RECEIVERS.keys())
def test_one_sender(places: Places, options: tuple[str, ...]) -> None:
    sources = series(places.base / "sent", 40)
    expected, canary = sent(sources), Canary(places)
    with service(places) as running, storescp(places.incoming, *options) as receiver:
        storescu(receiver.port, places.base / "sent")
        check(running, expected, canary)


@pytest.mark.parametrize("options", [RECOMMENDED, RECEIVERS["without +uf"]], ids=["with +uf", "without +uf"])
def test_eight_senders_at_once(places: Places, options: tuple[str, ...]) -> None:
    """Eight patients at once through one storescp."""
    folders = [places.base / "sent" / str(patient) for patient in range(8)]
    sources = [path for patient, folder in enumerate(folders) for path in series(folder, 40, patient)]
    expected, canary = sent(sources), Canary(places)
    with (
        service(places) as running,
        storescp(places.incoming, *options) as receiver,
        ThreadPoolExecutor(8) as senders,
    ):
        list(senders.map(lambda folder: storescu(receiver.port, folder), folders))
        check(running, expected, canary)


def test_the_same_series_from_four_senders(places: Places) -> None:
    """Every instance four times, from different AE titles: one is published, three are duplicates."""
    sources = series(places.base / "sent", 20)
    expected, canary = sent(sources), Canary(places)
    with (
        service(places) as running,
        storescp(places.incoming, *RECOMMENDED) as receiver,
        ThreadPoolExecutor(4) as senders,
    ):
        list(
            senders.map(
                lambda title: storescu(receiver.port, places.base / "sent", "-aet", title), ["A", "B", "C", "D"]
            )
        )
        scrape = settled(running, 80)
        account(places, expected)
    assert value(scrape, "files_processed_total", outcome="duplicate") == 60
    assert not list(canary.changed())


def test_compressed_instances(places: Places) -> None:
    """Encapsulated pixel data of five kinds, sent as they are."""
    folder = places.base / "sent"
    folder.mkdir()
    sources = [
        write_instance(folder / f"{name}-{number}", study=study, number=number, transfer_syntax=syntax)
        for study, (name, syntax) in enumerate(COMPRESSED.items())
        for number in range(1, 5)
    ]
    expected, canary = sent(sources), Canary(places)
    with service(places) as running, storescp(places.incoming, *RECOMMENDED) as receiver:
        dcmsend(receiver.port, folder)
        check(running, expected, canary)


def test_files_are_what_storescp_wrote(places: Places) -> None:
    """What lay there before the start is published with all its bytes, file meta information included."""
    sources = series(places.base / "sent", 40)
    expected, canary = sent(sources), Canary(places)
    with storescp(places.incoming, *RECOMMENDED) as receiver:
        storescu(receiver.port, places.base / "sent")
    written = sorted(path.read_bytes() for path in places.incoming.iterdir())
    with service(places) as running:
        check(running, expected, canary)
        assert value(running.scrape(), "files_discovered_total", source="startup") == 40
    assert sorted(path.read_bytes() for path in files_below(places.data)) == written


@pytest.mark.parametrize("bring", [os.rename, os.link], ids=["moved", "linked"])
def test_files_moved_and_linked_in(places: Places, bring: Callable[[Path, Path], None]) -> None:
    """No close-write tells of them, the rescan does; what has a second name outside is copied, and that one stays."""
    sources = series(places.base / "outside", 20)
    expected, before = sent(sources), {path: path.read_bytes() for path in sources}
    canary = Canary(places)
    with service(places, "--rescan", "0.2") as running:
        for path in sources:
            bring(path, places.incoming / path.name)
        check(running, expected, canary)
        assert value(running.scrape(), "files_discovered_total", source="rescan") == 20
    if bring is os.link:
        # Written through the outside name, the published instance does not change.
        for path, body in before.items():
            assert path.read_bytes() == body
            path.write_bytes(b"something else")
        account(places, expected)


def test_a_file_that_is_still_being_written(places: Places) -> None:
    """Not taken before its writer closes it, however long that takes and however often incoming is scanned."""
    (source,) = series(places.base / "sent", 1)
    expected, body = sent([source]), source.read_bytes()
    with service(places, "--rescan", "0.1") as running:
        with (places.incoming / "slow").open("wb") as writer:
            for part in (body[:300], body[300:-2]):
                writer.write(part)
                writer.flush()
                rescan_on(running)
                assert not list(files_below(places.data))
                assert not running.events("published", "set-aside")
            writer.write(body[-2:])
        running.wait_for("published")
        settled(running, 1)
    account(places, expected)


def test_a_whole_directory_moved_in(places: Places) -> None:
    """A folder of files that is renamed into incoming; the folder itself stays."""
    sources = series(places.base / "outside" / "folder" / "deep", 20)
    expected, canary = sent(sources), Canary(places)
    with service(places, "--rescan", "0.2") as running:
        (places.base / "outside" / "folder").rename(places.incoming / "folder")
        check(running, expected, canary)
    assert (places.incoming / "folder" / "deep").is_dir()


def test_a_restart_with_a_backlog(places: Places) -> None:
    """Stopped without time to drain: the rest is done by the next start, nothing twice."""
    sources = series(places.incoming, 300)
    expected, canary = sent(sources), Canary(places)
    with service(places, "--drain", "0", "--workers", "1") as running:
        running.wait_for("published")
        assert running.stop() == 0
        first = running.events("published")
        assert running.events("stopped")[0]["left"] == 300 - len(first)
    with service(places) as running:
        settled(running, 300 - len(first))
        second = running.events("published")
    account(places, expected)
    assert sorted(event["SOPInstanceUID"] for event in [*first, *second]) == sorted(expected)
    assert not list(canary.changed())


def test_polling(places: Places) -> None:
    """Without inotify, by rescans alone."""
    sources = series(places.base / "sent", 40)
    expected, canary = sent(sources), Canary(places)
    options = ("--poll", "--rescan", "0.2", "--settle", "0.5")
    with service(places, *options) as running, storescp(places.incoming, *RECOMMENDED) as receiver:
        storescu(receiver.port, places.base / "sent")
        check(running, expected, canary)
        assert value(running.scrape(), "files_discovered_total", source="event") == 0
        assert value(running.scrape(), "watcher_polling") == 1


#: Runs the command behind it in a Python whose watchdog says that it is another release.
OTHER_WATCHDOG = (
    "import runpy, sys, watchdog.version as version; version.VERSION_STRING = '7.2.0'; sys.argv = sys.argv[3:]; "
    "runpy.run_module('listener', run_name='__main__', alter_sys=True)"
)


def test_another_release_of_watchdog(places: Places) -> None:
    """By its public observer: events all the same, told once."""
    sources = series(places.base / "sent", 40)
    expected, canary = sent(sources), Canary(places)
    through = (sys.executable, "-c", OTHER_WATCHDOG)
    with (
        service(places, "--rescan", "60", through=through) as running,
        storescp(places.incoming, *RECOMMENDED) as receiver,
    ):
        storescu(receiver.port, places.base / "sent")
        check(running, expected, canary)
        scrape = running.scrape()
        assert value(scrape, "files_discovered_total", source="event") == 40
        assert value(scrape, "watch_mode") == 1
        assert running.stderr.count("public observer") == 1


def test_keep_source(places: Places) -> None:
    """Copied: incoming stays as it is, the tree has the same bytes, and neither rescan nor restart reports it again."""
    sources = series(places.base / "sent", 30)
    expected, canary = sent(sources), Canary(places)
    flags = ("--keep-source", "--rescan", "0.1")
    with service(places, *flags) as running, storescp(places.incoming, *RECOMMENDED) as receiver:
        storescu(receiver.port, places.base / "sent")
        settled(running, 30)
        rescan_on(running)
        assert value(running.scrape(), "files_discovered_total") == 30
    kept = {path.name: path.read_bytes() for path in places.incoming.iterdir()}
    assert len(kept) == 30
    more = write_instance(places.incoming / "more", patient=1)
    with service(places, *flags) as running:
        settled(running, 1)
        assert [event["SOPInstanceUID"] for event in running.events("published")] == [read(more).SOPInstanceUID]
    account(places, expected | sent([more]), keeps=[*kept, "more"])
    assert sorted([*kept.values(), more.read_bytes()]) == sorted(path.read_bytes() for path in files_below(places.data))
    assert not list(canary.changed())
    assert once(places, "--keep-source").events == []


def test_two_incoming_directories(tmp_path: Path) -> None:
    """Two storescps, one service, one tree."""
    places = make_places(tmp_path, incomings=2)
    folders = [tmp_path / "sent" / str(patient) for patient in range(2)]
    expected = sent([path for patient, folder in enumerate(folders) for path in series(folder, 30, patient)])
    canary = Canary(places)
    with (
        service(places) as running,
        storescp(places.incomings[0]) as first,
        storescp(places.incomings[1]) as second,
        ThreadPoolExecutor(2) as senders,
    ):
        list(senders.map(lambda one: storescu(one[0].port, one[1]), zip((first, second), folders, strict=True)))
        check(running, expected, canary)


@contextmanager
def tmpfs(path: Path) -> Iterator[None]:
    """Another mount at `path`; skipped by name where that is not allowed."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("role", ["incoming", "data", "log", "state"])
def test_one_directory_on_another_mount(places: Places, role: str) -> None:
    """Where rename or link do not work, bytes are copied, and our own files live in `.listener/`."""
    sources = series(places.base / "sent", 40)
    expected = sent(sources)
    with tmpfs(getattr(places, role)):
        canary = Canary(places)
        with service(places) as running, storescp(places.incoming, *RECOMMENDED) as receiver:
            storescu(receiver.port, places.base / "sent")
            check(running, expected, canary)
        assert len(read_tree(places).instances) == 40

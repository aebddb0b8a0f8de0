"""An archive brought in by 16 parts on four hosts that share one directory, while parts are killed and one host dies:
each listed file has one end, the tree is that of one `once` on one host, byte for byte, and `--finish`, killed too,
makes the ledger of it. Skipped by name where such hosts cannot be had. LISTENER_TEST_ARCHIVE: how
many instances (100,000 by hand).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import orjson
import pytest
from pydicom import dcmwrite

from tests.backfill.archives import NORMAL
from tests.dicomnet import kill_group
from tests.faults.hosts import SHARED, Host, hosts
from tests.instances import UID_ROOT, instance
from tests.ledger_world import assert_ledger_equals_logs
from tests.service_process import Places, finish, listener
from tests.waiting import until
from tests.workbench import contents

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

FILES = int(os.environ.get("LISTENER_TEST_ARCHIVE", "1600"))
EACH, PARTS, AT_ONCE, KILLS = 50, 16, 4, 20

#: Seconds for all of it: a file takes some 20 ms on a network file system, with its share of starts; ten times that
#: beside others.
PATIENCE = 600 + FILES / 50

KINDS = ("published", "duplicate", "set_aside", "vanished", "left")
OPTIONS = ("--min-free", "0", "--settle", "0.5", "--fsync", "none", "--events", "off")

_MARK = UID_ROOT + "8000000000"
_ONE = re.compile(re.escape(UID_ROOT.encode()) + rb"80[0-9]{8}\b")


@cache
def _mold(series: int) -> bytes:
    ds = instance(series % 97, series // 2, series, 1, SOPInstanceUID=_MARK)
    ds.preamble = b"\0" * 128
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def body(number: int) -> bytes:
    """Instance `number`, made by replacing one UID of a fixed length."""
    return _mold(number // EACH).replace(_MARK.encode(), f"{UID_ROOT}{8000000000 + number}".encode())


def archive(incoming: Path) -> Counter[str]:
    """Series in directories, every twentieth instance twice, and of every twentieth directory what is no instance.
    Returns what the accounts must add up to.
    """
    wanted: Counter[str] = Counter()
    for number in range(FILES):
        folder = incoming / f"P{number // EACH % 97}/S{number // EACH}"
        if not number % EACH:
            folder.mkdir(parents=True)
            if not number // EACH % 20:
                (folder / "text").write_text("no DICOM\n" * 40)
                (folder / "empty").touch()
                (folder / "cut").write_bytes(body(number)[:700])
                wanted["set_aside"] += 3
        (folder / f"IM{number}").write_bytes(body(number))
        wanted["published"] += 1
        if not number % 20:  # In a directory of its own, so that another part has it.
            again = incoming / f"again-{number}"
            again.mkdir()
            (again / "IM").write_bytes(body(number))
            wanted["duplicate"] += 1
    wanted["listed"] = wanted.total()
    return wanted


def places_of(root: Path) -> Places:
    return Places(root, (root / "incoming",), root / "data", root / "log", root / "state")


@dataclass(slots=True)
class Running:
    """A part at work: where, and how many more ends it writes before it is killed."""

    process: subprocess.Popen[bytes]
    host: Host
    dies_at: int


@dataclass
class Backfill:
    """All parts, each on whatever host is up; `outside` is what the test sees of the shared directory."""

    hosts: list[Host]
    outside: Places
    dice: random.Random = field(default_factory=lambda: random.Random(19))
    waiting: deque[int] = field(default_factory=lambda: deque(range(PARTS)))
    running: dict[int, Running] = field(default_factory=dict)
    kills: int = 0
    refused: int = 0
    died: float = 0.0
    #: What the host that died had in hand, how many processes died with it, and when the last of these parts had ended
    #: elsewhere, in seconds after its death.
    lost: set[int] = field(default_factory=set)
    killed: int = 0
    waited: float = 0.0

    def begin(self, part: int) -> None:
        host = self.dice.choice([one for one in self.hosts if one.is_up])
        words = ("--workers", "1", "--part", f"{part}/{PARTS}", "--tolerate-set-aside", *NORMAL)
        process = host.start("once", *places_of(host.root).flags(), *OPTIONS, *words)
        self.running[part] = Running(process, host, self.ends(part) + self.dice.choice((0, 1, 33, 65)))

    def ends(self, part: int) -> int:
        path = self.outside.state / f"parts/{part:02d}-of-{PARTS}/ends"
        return path.stat().st_size // 25 if path.exists() else -1

    def look(self) -> bool:
        """Begin what waits, take what ended, kill whom it is time for; whether all parts are done."""
        while self.waiting and len(self.running) < AT_ONCE:
            self.begin(self.waiting.popleft())
        for part, one in list(self.running.items()):
            if part not in self.running:
                continue  # It was on the host that died just now.
            if one.process.poll() is not None:
                self.end(part)
            elif self.kills < KILLS and self.ends(part) >= one.dies_at:
                os.killpg(one.process.pid, signal.SIGKILL)
                self.kills += 1
                self.again(part)
                if self.kills == KILLS // 2:
                    self.lose(one.host)
        return not (self.waiting or self.running)

    def end(self, part: int) -> None:
        done = finish(self.running.pop(part).process)
        if done.status == 75:  # The kernel or the file system has not let its lock go yet.
            self.refused += 1
            self.waiting.append(part)
        else:
            assert done.status == 0, done.stderr
            if part in self.lost:
                self.waited = time.monotonic() - self.died

    def again(self, part: int) -> None:
        one = self.running.pop(part)
        kill_group(one.process.pid)
        one.process.communicate()
        self.waiting.append(part)

    def lose(self, host: Host) -> None:
        """The host dies with all that runs there: parts, their workers and the client of its file system."""
        self.killed = len(host.processes())
        host.die()
        assert not host.processes()
        self.died = time.monotonic()
        self.lost = {part for part, one in self.running.items() if one.host is host}
        for part in self.lost:
            self.again(part)

    def close(self) -> None:
        for one in self.running.values():
            kill_group(one.process.pid)
            one.process.communicate()


@pytest.fixture(params=SHARED)
def machines_(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    base = Path(mkdtemp(prefix="hosts-"))  # A short path: it holds a socket.
    try:
        with hosts(base, request.param, ("a", "b", "c", "d", "watch")) as found:
            yield found
    finally:
        shutil.rmtree(base, ignore_errors=True)


def whole(base: Path) -> tuple[Places, float]:
    """The same archive through one `once` on one host, and how long it took."""
    places = places_of(base / "whole").make()
    archive(places.incoming)
    time.sleep(0.5)
    begun = time.monotonic()
    assert listener("once", *places.flags(), *OPTIONS, seconds=PATIENCE).status == 1
    return places, time.monotonic() - begun


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Some names of files that differ, or that only one of them has."""
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)][:5]


def described(places: Places, root: Path) -> dict[str, bytes]:
    """The documents, but for where the tree lies, which instance of a series was its first, and in what order the
    studies of a patient came.
    """
    found = contents(places.log)
    shared = {name: _ONE.sub(b"UID", data) for name, data in found.items() if not name.startswith("seriesData/")}
    lists = {name: _sorted(data) for name, data in shared.items() if name.startswith("patientData/")}
    return {name: data.replace(str(root).encode(), b"") for name, data in (found | shared | lists).items()}


def _sorted(document: bytes) -> bytes:
    return b"\n".join(sorted(line.rstrip(b",") for line in document.splitlines()))


def accounts_of(places: Places) -> list[dict[str, Any]]:
    return [orjson.loads(path.read_bytes()) for path in (places.state / "parts").glob("*/account.json")]


def all_seen(machines: list[Host]) -> bool:
    """Whether the last host sees the accounts of all parts; AssertionError tells of those that it does not see, for
    each host, whether the part is listed there and whether its account is found by name.
    """
    folders = [places_of(one.view).state / "parts" for one in machines if one.is_up]
    seen = {path.parent.name for path in folders[-1].glob("*/account.json")}
    unseen = sorted({f"{part:02d}-of-{PARTS}" for part in range(PARTS)} - seen)
    assert not unseen, [
        (name, [(name in os.listdir(folder), (folder / name / "account.json").exists()) for folder in folders])
        for name in unseen
    ]
    return True


@pytest.mark.timeout(2 * PATIENCE + 120)
def test_an_archive_comes_whole_through_parts_on_hosts_that_die(machines_: list[Host], tmp_path: Path) -> None:
    *four, watch = machines_
    outside = places_of(watch.view).make()
    wanted = archive(outside.incoming)
    backfill = Backfill(four, outside)
    time.sleep(1)  # Settled, by the clock of a file system that keeps whole seconds.
    try:
        until(backfill.look, PATIENCE, what="all parts have ended")
    finally:
        backfill.close()
    assert backfill.kills >= KILLS // 2, "a host died; on a busy machine parts may be done before they are seen"
    # What another host wrote a moment ago may not be seen here yet.
    until(partial(all_seen, machines_), 30, what="all accounts are seen from the last host")
    accounts = accounts_of(outside)
    assert +Counter({kind: sum(one[kind] for one in accounts) for kind in ("listed", *KINDS)}) == wanted
    assert not contents(outside.incoming)
    reference, seconds = whole(tmp_path)
    assert differing(contents(outside.data), contents(reference.data)) == []
    assert differing(described(outside, watch.root), described(reference, reference.base)) == []
    ended(backfill, watch)
    unmounted(backfill)
    # SQLite opens no file through /proc.
    state = shutil.copytree(outside.state, tmp_path / "state", ignore=shutil.ignore_patterns("parts"))
    assert_ledger_equals_logs(replace(outside, state=state))
    print(
        f"{FILES} instances, {backfill.refused} starts refused, {len(backfill.lost)} parts of the host that died (with "
        f"{backfill.killed} processes at once) ended {backfill.waited:.0f} s later; one `once` took {seconds:.0f} s"
    )


def unmounted(backfill: Backfill) -> None:
    """A host that has not mounted the shared directory is refused, and writes nothing where it would be."""
    host = next(one for one in backfill.hosts if one.is_up)
    host.unmount()
    done = finish(host.start("once", *places_of(host.root).flags(), *OPTIONS, "--part", f"0/{PARTS}", "--again"))
    assert done.status == 69, done.stderr
    assert not list(host.view.iterdir())


def ended(backfill: Backfill, watch: Host) -> None:
    """The end is killed twice, each time on another host, and begun again."""
    ledger = backfill.outside.state / "ledger.sqlite"

    def has_begun(process: subprocess.Popen[bytes]) -> bool:
        return ledger.exists() or process.poll() is not None

    for turn, host in enumerate([one for one in backfill.hosts if one.is_up][:2]):
        process = host.start("once", *places_of(host.root).flags(), *OPTIONS, "--finish")
        until(partial(has_begun, process), 30)
        time.sleep(0.2 + backfill.dice.random() * turn)
        kill_group(process.pid)
        process.communicate()

    def has_ended() -> bool:
        done = finish(watch.start("once", *places_of(watch.root).flags(), *OPTIONS, "--finish"), PATIENCE)
        assert done.status in (0, 75), done.stderr
        return done.status == 0

    until(has_ended, 60)
    done = finish(watch.start("parts", "--state", str(places_of(watch.root).state)))
    assert done.status == 0, done.stdout

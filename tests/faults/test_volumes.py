"""Volumes that fill up, become read-only, lie on other mounts or belong to somebody else, under the real service.

Proven for each of incoming, data, log and state: the service says what is wrong on /readyz, loses nothing, keeps every
source, and goes on by itself when the volume is well again; no restart, no hand.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from listener.telemetry.health import ADVISORY
from tests.accounting import OWN, Canary, Sent, account, files_below, miscounted, read_set_aside, sent
from tests.faults.volumes import fill, until_full
from tests.instances import instance, save, write_instance
from tests.service_process import Places, Service, make_places, once, processor_seconds, service, settled, value
from tests.waiting import until
from tests.workbench import need_root, tmpfs

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

#: How long a service may take to go on by itself once a fault of a few seconds is over, in seconds.
RECOVERY = 15.0

#: What sets aside: for the faults of the state directory, which good files hardly touch.
RUBBISH = b"this is no DICOM file" * 8

#: A process with uid 0 and no privilege at all: what a container's user may do, in directories that only root enters.
UNPRIVILEGED = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")

#: Another uid than the listener's, to write files with.
STRANGER = 65534


@pytest.fixture
def places(tmp_path: Path) -> Places:
    need_root()
    return make_places(tmp_path)


class Sender:
    """Leaves finished instances in incoming, as storescp does: under the final name, written and closed."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._folder = places.base / "sent"
        self._folder.mkdir()
        self._numbers = itertools.count()
        self.expected: Sent = {}
        self.rubbish = 0

    def send(self, count: int, patients: int = 4) -> None:
        """So many instances of several patients; a volume without room is waited for, as a sender tries again."""
        for _ in range(count):
            number = next(self._numbers)
            path = write_instance(
                self._folder / f"{number:05d}", patient=number % patients, series=number % 8, number=number
            )
            self.expected |= sent([path])
            until(lambda path=path: self._deliver(path), RECOVERY, what="room in incoming")  # type: ignore[misc]

    def _deliver(self, path: Path) -> bool:
        data = path.read_bytes()
        descriptor = os.open(self._places.incoming / path.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        done = 0
        try:
            with until_full():
                done = os.write(descriptor, data)
            if done < len(data):
                # Before it is closed, so that nobody takes it.
                (self._places.incoming / path.name).unlink()
            return done == len(data)
        finally:
            os.close(descriptor)

    def send_rubbish(self, count: int) -> None:
        for _ in range(count):
            (self._places.incoming / f"rubbish-{self.rubbish}").write_bytes(RUBBISH)
            self.rubbish += 1

    @property
    def count(self) -> int:
        """All that was ever left in incoming."""
        return len(self.expected) + self.rubbish

    def aside(self) -> dict[str, int]:
        """What must be set aside in the end."""
        return {"not-dicom": self.rubbish} if self.rubbish else {}


def relieve(directory: Path) -> None:
    (directory / ".ballast").unlink()


def conditions(running: Service) -> set[str]:
    """The names of the conditions for which it is not ready."""
    answer = running.get("/readyz")
    failing = {name for name, check in answer.json()["checks"].items() if not check["ok"]} - ADVISORY
    assert bool(failing) == (answer.status == 503), answer
    return failing


def is_ready(running: Service) -> bool:
    failing = conditions(running)
    assert not failing, failing
    return True


def waiting_files(places: Places) -> int:
    """Everything that is still in incoming or claimed."""
    roots = (*places.incomings, places.state / "claim")
    return sum(path.name != ".ballast" for root in roots for path in files_below(root, own=True))


def check(running: Service, sender: Sender, canary: Canary) -> None:
    """All is done, by the same process, and it is as healthy as before."""
    scrape = settled(running, sender.count, RECOVERY)
    until(lambda: is_ready(running), RECOVERY, what="ready again")
    assert running.get("/healthz").status == 200
    assert not list(miscounted(scrape, running.events()))
    assert value(scrape, "worker_restarts_total") == 0
    account(running.places, sender.expected, aside=sender.aside())
    assert not list(canary.changed())


# -- full --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Full:
    """A volume of 4 MiB that runs full: `condition` must show on /readyz; `leave` bytes remain for the sender."""

    role: str
    condition: str
    flags: tuple[str, ...] = ()
    leave: int = 0


FULL = [
    Full("data", "system"),
    Full("log", "system"),
    Full("state", "system"),
    # Work goes on: it is what frees an incoming that has a volume of its own.
    Full("incoming", "space", ("--min-free", "1MiB"), leave=512 * 1024),
]


@pytest.mark.parametrize("full", FULL, ids=lambda full: f"{full.role}-{full.condition}")
def test_a_volume_runs_full_under_load(places: Places, full: Full) -> None:
    """Not ready with the right condition; every source kept; when there is room again all is done by itself."""
    directory: Path = getattr(places, full.role)
    sender = Sender(places)
    with tmpfs(directory, "4m"):
        canary = Canary(places)
        with service(places, *full.flags) as running:
            sender.send(40)
            running.wait_for("published")
            fill(directory, full.leave)
            sender.send_rubbish(3)
            sender.send(40)

            def refuses() -> bool:
                fill(directory, full.leave)
                return conditions(running) == {full.condition}

            until(refuses, RECOVERY, what=f"not ready for {full.condition}")
            done = len(running.events("published", "set-aside"))
            assert done + waiting_files(places) >= sender.count, "a source is gone"
            assert running.get("/healthz").status == 200
            sender.send(10)
            if full.role == "incoming":
                settled(running, sender.count, RECOVERY)
            relieve(directory)
            check(running, sender, canary)


@dataclass(frozen=True, slots=True)
class FullAtStart:
    """A volume that has no room (or no inodes) when the service starts; `says` must stand on standard error."""

    role: str
    options: str
    says: str


NO_ROOM, REFUSED = "No space left on device); trying again", "no-space, at step"
AT_START = [
    FullAtStart("data", "4m", REFUSED),
    FullAtStart("log", "4m", REFUSED),
    FullAtStart("state", "4m", NO_ROOM),
    FullAtStart("data", "4m,nr_inodes=400", NO_ROOM),
    FullAtStart("log", "4m,nr_inodes=400", NO_ROOM),
    FullAtStart("state", "4m,nr_inodes=400", NO_ROOM),
]


def take_inodes(directory: Path) -> None:
    """Make empty files until the volume has no inode left."""
    (directory / ".ballast").mkdir(exist_ok=True)
    with until_full():
        for number in range(1_000):
            (directory / ".ballast" / f"{number}").touch(exist_ok=True)


def give_inodes(directory: Path) -> None:
    shutil.rmtree(directory / ".ballast")


@pytest.mark.parametrize("case", AT_START, ids=lambda case: f"{case.role}-{case.options.partition(',')[2] or 'full'}")
def test_a_volume_is_full_at_the_start(places: Places, case: FullAtStart) -> None:
    """The service says so, waits, and goes on by itself; no crash loop."""
    directory: Path = getattr(places, case.role)
    sender = Sender(places)
    inodes = "nr_inodes" in case.options
    with tmpfs(directory, case.options):
        canary = Canary(places)
        (take_inodes if inodes else fill)(directory)
        sender.send(20)
        with service(places, ready=False) as running:
            until(lambda: case.says in running.stderr, 15, what=case.says)
            assert running.process.poll() is None
            assert "Traceback" not in running.stderr
            (give_inodes if inodes else relieve)(directory)
            running.wait_for("ready", seconds=RECOVERY)
            check(running, sender, canary)
        # Torn by the full volume, it would make two listeners take each other's staging for their own.
        assert len((places.state / "id").read_bytes()) == 16


@pytest.mark.parametrize("role", ["data", "log", "state"])
def test_a_volume_runs_out_of_inodes(places: Places, role: str) -> None:
    """Space is there and no file can be made: the same as full."""
    directory: Path = getattr(places, role)
    sender = Sender(places)
    with tmpfs(directory, "16m,nr_inodes=400"):
        canary = Canary(places)
        with service(places) as running:
            sender.send(8)
            running.wait_for("published", 8)
            take_inodes(directory)
            sender.send_rubbish(2)
            sender.send(40)

            def refuses() -> bool:
                take_inodes(directory)
                return conditions(running) == {"system"}

            until(refuses, RECOVERY, what="not ready")
            give_inodes(directory)
            check(running, sender, canary)


def test_waiting_costs_nothing(places: Places) -> None:
    """While the one file there is waits for room, with growing pauses, the loop sleeps."""
    sender = Sender(places)
    with tmpfs(places.state, "1m"), service(places) as running:
        fill(places.state)
        sender.send_rubbish(1)
        until(lambda: refusals(running) >= 4, RECOVERY, what="4 refusals")
        before, begun = processor_seconds(running.pid), time.monotonic()
        until(lambda: time.monotonic() - begun > 2 or refusals(running) < 4, 5)
        assert processor_seconds(running.pid) - before < 0.2 * (time.monotonic() - begun)
        relieve(places.state)
        settled(running, 1, RECOVERY)


def refusals(running: Service) -> float:
    return value(running.scrape(), "failures_total", reason="no-space")


# -- read-only ---------------------------------------------------------------------------------------------------------


def remount(directory: Path, how: str) -> bool:
    """Mount `directory` again as `ro` or `rw`; False while a file is open for writing."""
    done = subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], capture_output=True, check=False)
    assert done.returncode == 0 or b"busy" in done.stderr, done.stderr
    return done.returncode == 0


# Not the state: the ledger is open for writing there, so that only the kernel itself could make it read-only.
@pytest.mark.parametrize("role", ["data", "log"])
def test_a_volume_becomes_read_only_and_writable_again(places: Places, role: str) -> None:
    """As a kernel does after an error: not ready with the directory's role, nothing lost, resumed by itself."""
    directory: Path = getattr(places, role)
    sender = Sender(places)
    with tmpfs(directory):
        canary = Canary(places)
        with service(places) as running:
            sender.send(40)
            running.wait_for("published")
            until(lambda: remount(directory, "ro"), RECOVERY, what="remounted read-only")
            sender.send_rubbish(2)
            sender.send(40)
            until(lambda: f"writable-{role}" in conditions(running), RECOVERY, what=f"{role} not writable")
            assert len(running.events("published", "set-aside")) + waiting_files(places) >= sender.count
            assert remount(directory, "rw")
            check(running, sender, canary)


@pytest.mark.parametrize("role", ["data", "log", "state"])
def test_a_volume_is_read_only_at_the_start(places: Places, role: str) -> None:
    """Exit 2 with the option's name and no traceback: nothing that waiting would mend."""
    directory: Path = getattr(places, role)
    with tmpfs(directory):
        assert remount(directory, "ro")
        done = once(places)
        assert (done.status, done.events) == (2, [])
        assert f"--{role}" in done.stderr
        assert "Traceback" not in done.stderr


# -- somebody else's ---------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> tuple[str, ...]:
    need_root()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (util-linux)")
    return UNPRIVILEGED


def test_one_patients_directory_stops_nobody_else(places: Places, unprivileged: tuple[str, ...]) -> None:
    """100 files of one patient cannot be placed: every other patient's are published within moments all the same."""
    folder = places.base / "sent"
    folder.mkdir()
    locked = [write_instance(folder / f"locked-{number}", number=number) for number in range(101)]
    others = [write_instance(folder / f"free-{number}", patient=1 + number, number=number) for number in range(10)]
    with service(places, through=unprivileged) as running:
        shutil.copyfile(locked[0], places.incoming / "locked-0")
        running.wait_for("published")
        series = next(files_below(places.data)).parent
        series.chmod(0o555)
        try:
            for path in locked[1:]:
                shutil.copyfile(path, places.incoming / path.name)
            until(lambda: value(running.scrape(), "pending_files", state="retrying") > 50, 10, what="many refused")
            for number, path in enumerate(others):
                shutil.copyfile(path, places.incoming / path.name)
                running.wait_for("published", 2 + number)
        finally:
            series.chmod(0o755)
        settled(running, 111, 35)
        until(lambda: is_ready(running), RECOVERY, what="ready")
    account(places, sent([*locked, *others]))


def write_as(uid: int, sources: Iterable[Path], directory: Path) -> None:
    """What a storescp under another uid does: final name, write, close. Its shell enters `directory` as root."""
    for source in sources:
        with source.open("rb") as data:
            command = ["/bin/sh", "-c", 'cat > "$1"', "sh", source.name]
            subprocess.run(command, cwd=directory, stdin=data, user=uid, group=uid, extra_groups=[], check=True)


def test_a_receiver_under_another_uid(places: Places, unprivileged: tuple[str, ...]) -> None:
    """The kernel refuses leases on other people's files: untouched for --settle, then taken; said at the start."""
    folder = places.base / "sent"
    folder.mkdir()
    paths = [write_instance(folder / f"{number}", number=number) for number in range(20)]
    places.incoming.chmod(0o777)
    settle = 3.0  # Longer than a busy machine keeps a writer from its next few bytes.
    with service(places, "--settle", str(settle), "--rescan", "0.3", through=unprivileged) as running:
        assert value(running.scrape(), "lease_supported") == 1  # On files of our own; asked for each file.
        write_as(STRANGER, paths[:19], places.incoming)
        with slow_writer(STRANGER, paths[19], places.incoming) as write_a_bit:
            until(lambda: write_a_bit() or len(running.events("published")) == 19, 20, what="19 published")
            # Not the one that was still being written.
            assert {event["event"] for event in running.events() if "src" in event} == {"published"}
            until(write_a_bit, 20, what="all written")
        running.wait_for("published", 20)
        assert min(event["lag"] for event in running.events("published")) >= settle - 0.1
    account(places, sent(paths))


@contextmanager
def slow_writer(uid: int, source: Path, directory: Path) -> Iterator[Callable[[], bool]]:
    """Another user's process that has the file open; call it for each few bytes more, True once all are written."""
    command = ["/bin/sh", "-c", 'exec cat > "$1"', "sh", source.name]
    process = subprocess.Popen(
        command, cwd=directory, stdin=subprocess.PIPE, user=uid, group=uid, extra_groups=[], bufsize=0
    )
    assert process.stdin is not None
    data = source.read_bytes()
    pieces = (data[start : start + 8] for start in range(0, len(data), 8))
    pipe = process.stdin

    def write_a_bit() -> bool:
        piece = next(pieces, None)
        if piece is not None:
            pipe.write(piece)
        return piece is None

    try:
        yield write_a_bit
    finally:
        pipe.close()
        assert process.wait(120) == 0


# -- other mounts ------------------------------------------------------------------------------------------------------


@contextmanager
def bound(*directories: Path) -> Iterator[None]:
    """Each directory a mount of its own on one file system: st_dev is equal, and rename and link give EXDEV."""
    with ExitStack() as stack:
        for directory in directories:
            done = subprocess.run(["mount", "--bind", directory, directory], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"no bind mount here: {done.stderr.decode().strip()}")
            stack.callback(unmount, directory)
        yield


def unmount(directory: Path) -> None:
    subprocess.run(["umount", "--lazy", directory], check=True)


#: Which of the four directories are mounts of their own.
MOUNTS = [("incoming",), ("data",), ("incoming", "data", "log", "state")]


@pytest.mark.parametrize("roles", MOUNTS, ids="-".join)
def test_bind_mounts_of_one_file_system(places: Places, roles: tuple[str, ...]) -> None:
    """Nobody may ask st_dev: what cannot be renamed is claimed below incoming/.listener, and copied."""
    sender = Sender(places)
    with bound(*(getattr(places, role) for role in roles)):
        assert len({path.stat().st_dev for path in places.roots}) == 1
        canary = Canary(places)
        with service(places) as running:
            sender.send(30)
            sender.send_rubbish(1)
            check(running, sender, canary)
            assert (places.incoming / OWN / "claim").is_dir() == ("incoming" in roles)
            assert (places.data / OWN / "staging").is_dir() == ("data" in roles)
            assert (places.log / OWN / "staging").is_dir() == ("log" in roles)


#: What the four directories are at the first start and at the second: an administrator moved a volume in between.
MOVED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "incoming gets a mount": ((), ("incoming",)),
    "incoming loses its mount": (("incoming",), ()),
    "data gets a mount": ((), ("data",)),
    "data loses its mount": (("data",), ()),
}


@pytest.mark.parametrize(("before", "after"), MOVED.values(), ids=MOVED.keys())
def test_claims_outlive_a_change_of_mounts(places: Places, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """A killed service leaves claims; the next one starts where rename works otherwise, and does them all the same."""
    sender = Sender(places)
    with bound(*(getattr(places, role) for role in before)):
        with service(places, "--fsync", "each") as running:
            # The service is faster than the sender: its workers begin when all is there.
            workers = running.workers()
            for pid in workers:
                os.kill(pid, 19)
            sender.send(1000)
            for pid in workers:
                os.kill(pid, 18)
            # Stopped in mid-work, so that claims are left for certain.
            until(lambda: stop_with_claims(running), 10, what="a claim in hand")
            running.kill()
        assert claims(places)
    with bound(*(getattr(places, role) for role in after)), service(places) as running:
        until(lambda: waiting_files(places) == 0, RECOVERY, what="all is done")
        until(lambda: is_ready(running), RECOVERY, what="ready")
    account(places, sender.expected)


def claims(places: Places) -> list[Path]:
    roots = (places.state / "claim", places.incoming / OWN / "claim")
    return [path for root in roots for path in files_below(root, own=True)]


def stop_with_claims(running: Service) -> bool:
    """Whether there was a claim at the moment when the whole service stood still; it stays so then."""
    pids = [running.pid, *running.workers()]
    for pid in pids:
        os.kill(pid, 19)
    if claims(running.places):
        for pid in pids[1:]:
            os.kill(pid, 9)
        return True
    for pid in pids:
        os.kill(pid, 18)
    return False


def test_killed_while_it_copies_to_another_mount(places: Places) -> None:
    """SIGKILL of the service again and again on the copy path: every instance once and whole, no temporaries."""
    sender = Sender(places)
    reported: set[str] = set()
    with tmpfs(places.data, "64m"):
        canary = Canary(places)
        sender.send(300)
        for _ in range(3):
            with service(places, "--fsync", "each", "--workers", "1", ready=False) as running:
                until(lambda: running.events("published") or not waiting_files(places), 30, what=str(running))
                running.kill()
                reported |= {event["SOPInstanceUID"] for event in running.events("published")}
                in_tree = {path.stem.partition("-")[2] for path in files_below(places.data)}
                assert reported <= in_tree
        with service(places) as running:
            until(lambda: waiting_files(places) == 0, RECOVERY, what="all is done")
            until(lambda: is_ready(running), RECOVERY, what="ready")
        account(places, sender.expected)
        assert not list(canary.changed())


# -- what a full incoming does to senders ------------------------------------------------------------------------------


def test_acknowledged_but_truncated(places: Places) -> None:
    """Storescp 3.6.7 says Success for a file that the full disk cut in its last buffer: set aside, never published."""
    folder = places.base / "sent"
    folder.mkdir()
    whole = write_instance(folder / "whole", number=1)
    cut = save(instance(number=2, pixels=64), folder / "cut")
    with tmpfs(places.incoming, "224k"):
        fill(places.incoming, leave=2 * 4096)
        written = write_until_full(cut, places.incoming / "cut")
        assert 0 < written < cut.stat().st_size
        assert write_until_full(cut, places.incoming / "none") == 0
        with service(places) as running:
            scrape = settled(running, 2)
            assert value(scrape, "failures_total", reason="incomplete") == 1
            assert value(scrape, "failures_total", reason="empty") == 1
            relieve(places.incoming)
            shutil.copyfile(whole, places.incoming / "whole")
            settled(running, 3)
        account(places, sent([whole]), aside={"incomplete": 1, "empty": 1})
    (kept,) = [one for one in read_set_aside(places) if one.reason == "incomplete"]
    assert kept.path.read_bytes() == cut.read_bytes()[:written]


def write_until_full(source: Path, target: Path) -> int:
    """Copy as a program that takes no notice of ENOSPC; how many bytes fitted."""
    data, done = source.read_bytes(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with until_full():
            while done < len(data):
                done += os.write(descriptor, data[done : done + 4096])
    finally:
        os.close(descriptor)
    return done


# -- the floor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["data"])
def test_below_the_floor_no_source_is_touched(places: Places, role: str) -> None:
    """--min-free: not ready, each source stays where it is, in incoming, untouched; above the floor work goes on."""
    directory: Path = getattr(places, role)
    sender = Sender(places)
    with tmpfs(directory, "8m"):
        canary = Canary(places)
        with service(places, "--min-free", "4MiB") as running:
            fill(directory, leave=2 * 2**20)
            until(lambda: conditions(running) == {"space"}, RECOVERY, what="not ready for space")
            sender.send(20)
            until(lambda: value(running.scrape(), "pending_files", state="waiting") == 20, 10, what="20 pending")
            assert len(list(files_below(places.incoming))) == 20
            assert not running.events("published")
            relieve(directory)
            check(running, sender, canary)


# -- a volume that goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["data", "log", "state", "incoming"])
def test_a_volume_that_is_unmounted_is_waited_for(places: Places, role: str) -> None:
    """Lazily, as by hand or by a container's end: what is done meanwhile would lie in the directory below it, out of
    everybody's sight when the volume is back.
    """
    sender, path = Sender(places), getattr(places, role)
    with tmpfs(places.base / "volume", "64m") as volume, ExitStack() as mounts:
        subprocess.run(["mount", "--bind", volume, path], check=True)
        mounts.callback(unmount, path)
        with service(places, "--rescan", "0.5") as running:
            sender.send(4)
            settled(running, 4)
            unmount(path)
            sender.send(12)  # Before the next beat, most of them.
            until(lambda: not running.get("/readyz").json()["checks"]["volumes"]["ok"], 5)
            assert running.get("/readyz").status == 503
            sender.send(4)
            if role == "incoming":  # The directory below is as good.
                settled(running, 20)
            subprocess.run(["mount", "--bind", volume, path], check=True)
            until(lambda: running.get("/readyz").status == 200, RECOVERY)
            settled(running, 20)
            assert not running.events("vanished")
        account(places, sender.expected)

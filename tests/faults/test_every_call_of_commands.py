"""SIGKILL at every system call by which a command changes anything; then the same instances come again, and then it is
run once more: what was sent is there, what was to be done is done.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.accounting import left_over, misdescribed, read_set_aside, read_tree
from tests.faults.crash import changes
from tests.faults.injecting import CALLS, FIRST, RENAMED, SECOND, THIRD, Ended, Zygote
from tests.instances import instance, save, uid
from tests.service_process import Places, make_places

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

OTHER = {"series": 1}
TEXT = b"no DICOM\n" * 30
NAMED = "outside/named"


@dataclass(frozen=True, slots=True)
class Deed:
    """A command that acts: what was published `before`, what is `made` ready, and which instances come `again` after
    the kill. In the end those of `stays` and `again` are in the tree, those of `may` perhaps, and no other.
    """

    argv: tuple[str, ...]
    before: tuple[dict[str, Any], ...]
    made: Callable[[Places], object]
    again: tuple[dict[str, Any], ...]
    stays: tuple[dict[str, Any], ...]
    may: tuple[dict[str, Any], ...] = ()
    done: Callable[[Places], bool] = lambda _: True


def aged(places: Places) -> None:
    """The series of FIRST ended long ago; another one of its study did not."""
    long_ago = time.time_ns() - 40 * 86_400 * 10**9
    with contextlib.closing(sqlite3.connect(places.state / "ledger.sqlite")) as connection:
        series = str(uid("series", 0, 0, 0))
        connection.execute(
            "UPDATE series SET state = 'complete', last_ns = ?, changed_ns = ? WHERE SeriesInstanceUID = ?",
            (long_ago, long_ago, series),
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def damaged(places: Places) -> None:
    """Documents are lost, broken, and tell of what is not there."""
    own, *_ = sorted(places.log.rglob("0001-*.dcm.json"))
    shutil.copy(own, own.with_name("0009-1.2.3.dcm.json"))
    own.write_bytes(own.read_bytes().replace(b"0001-", b"0008-"))
    next(places.log.glob("seriesData/*-meta.json")).write_bytes(b"{")
    next(places.log.glob("patientData/*.json")).unlink()


def named(places: Places) -> None:
    folder = places.base / NAMED
    folder.mkdir(parents=True)
    sent: tuple[dict[str, Any], ...] = (FIRST, SECOND, {**FIRST, "sender": "OTHER"})
    for number, one in enumerate(sent):
        save(instance(**one), folder / f"{number}")


def nothing_left(places: Places) -> bool:
    return not list((places.base / NAMED).iterdir())


def set_aside(places: Places) -> None:
    folder = places.state / "set-aside" / "not-dicom"
    assert [path.name for path in folder.iterdir() if path.suffix == ".json"]


FETCHED = "fetched/A1"


def fetched(places: Places) -> None:
    folder = places.base / FETCHED
    folder.mkdir(parents=True)
    for number, one in enumerate((FIRST, SECOND)):
        save(instance(**one), folder / f"{number}")


def accounted(places: Places) -> bool:
    """The batch is done, once, with both of its instances, and without an error."""
    with contextlib.closing(sqlite3.connect(places.state / "ledger.sqlite")) as connection:
        rows = connection.execute(
            "SELECT b.state, b.errors, sum(m.instances) FROM batches b JOIN batch_series m ON m.batch_id = b.id"
        ).fetchall()
    return rows == [("done", 0, 2)]


def kept(places: Places) -> bool:
    return accounted(places) and len(list((places.base / FETCHED).iterdir())) == 2


def taken(places: Places) -> bool:
    return accounted(places) and not (places.base / FETCHED).exists()


_ONCE = ("once", "--batches={base}/fetched", "--data={data}", "--log={log}", "--state={state}")
BATCHES = (*_ONCE, "--batch-quiet=0", "--workers=1", "--min-free=0")
PRUNE = ("prune", "--data={data}", "--log={log}", "--state={state}", "--series=30", "--yes")
DEEDS = {
    "prune": Deed(PRUNE, (FIRST, SECOND, OTHER), aged, (), (OTHER,)),
    "prune, and one comes again": Deed(PRUNE, (FIRST, SECOND, OTHER), aged, (FIRST,), (OTHER,), (SECOND,)),
    "prune, and one comes again for another place": Deed(
        PRUNE, (FIRST, SECOND, OTHER), aged, (RENAMED,), (OTHER,), (SECOND,)
    ),
    "verify --repair": Deed(
        ("verify", "--data={data}", "--log={log}", "--state={state}", "--repair"),
        (FIRST, SECOND),
        damaged,
        (FIRST, THIRD),
        (SECOND,),
    ),
    "repack --cleanup": Deed(
        ("repack", "--data={data}", "--log={log}", "--cleanup", f"{{base}}/{NAMED}"),
        (OTHER,),
        named,
        (FIRST,),
        (OTHER, SECOND),
        done=nothing_left,
    ),
    "once --batches": Deed(BATCHES, (OTHER,), fetched, (), (OTHER, FIRST, SECOND), done=kept),
    "once --batches --batch-source remove": Deed(
        (*BATCHES, "--batch-source=remove"), (OTHER,), fetched, (), (OTHER, FIRST, SECOND), done=taken
    ),
    "retry": Deed(
        ("retry", "--incoming={incoming}", "--data={data}", "--log={log}", "--state={state}", "--all"),
        (FIRST,),
        set_aside,
        (FIRST,),
        (FIRST,),
    ),
}

#: What killed commands leave below `.listener`: the next run of that kind removes it after a day, or it is kept.
#: And a document of a series goes on describing the first instance that was published, as in an undisturbed run.
KEPT = ("but the series lies in", "/staging/verify-", "/staging/repack-", "/.listener/removed/")


class Stage:
    """One deed laid out as often as needed."""

    def __init__(self, base: Path, forks: Zygote, deed: Deed) -> None:
        self._forks, self._deed, self._fresh = forks, deed, base / "template"
        self.places = make_places(base / "place")
        for number, one in enumerate(deed.before):
            save(instance(**one), self.places.incoming / f"b{number}")
        if deed.argv[0] == "retry":
            (self.places.incoming / "text").write_bytes(TEXT)
        self.once()
        deed.made(self.places)
        shutil.rmtree(self.places.base / "outside" / "said")
        self.places.base.rename(self._fresh)

    def lay_out(self) -> None:
        shutil.rmtree(self.places.base, ignore_errors=True)
        shutil.copytree(self._fresh, self.places.base, symlinks=True)

    def once(self) -> Ended:
        return self._forks.once(self.places, ("--series-quiet", "1000000", "--settle", "0"), "all")

    def act(self, inject: str = "", calls: list[str] = CALLS) -> Ended:
        where = {"base": self.places.base, "incoming": self.places.incoming}
        where |= {"data": self.places.data, "log": self.places.log, "state": self.places.state}
        argv = [word.format(**where) for word in self._deed.argv]
        return self._forks.command(self.places, argv, "all", inject, calls)

    def points(self) -> Iterator[tuple[str, int]]:
        """The calls of an undisturbed run that change anything but the ledger, whose own they are elsewhere."""
        self.lay_out()
        counted = self.act("count")
        assert counted.status == 0, counted
        numbers: Counter[str] = Counter()
        for line in counted.trace.splitlines():
            call, parenthesis, _ = line.partition("(")
            if parenthesis and call in CALLS:
                numbers[call] += 1
                if (
                    changes(call, line)
                    and "ledger.sqlite" not in line
                    and not line.startswith(("write(1<", "write(2<"))
                ):
                    yield call, numbers[call]

    def send_again(self) -> None:
        for number, one in enumerate(self._deed.again):
            save(instance(**{**one, "sender": "AGAIN"}), self.places.incoming / f"again{number}")
        if self._deed.again:
            self.once()

    def wrong(self) -> list[str]:
        """What contradicts the deed's end."""
        deed, places = self._deed, self.places
        if deed.argv[0] == "retry":
            self.once()
        tree = read_tree(places)
        there = Counter(one.SOPInstanceUID for one in tree.instances)
        must = {str(instance(**one).SOPInstanceUID) for one in (*deed.stays, *deed.again)}
        may = must | {str(instance(**one).SOPInstanceUID) for one in deed.may}
        wrong = [*tree.strange, *misdescribed(places, tree), *left_over(places)]
        wrong = [text for text in wrong if not any(kept in f"/{text}" for kept in KEPT)]
        wrong += [f"lost: {one}" for one in must - there.keys()]
        wrong += [f"in the tree {count} times: {one}" for one, count in there.items() if count > 1 or one not in may]
        aside = [one for one in read_set_aside(places) if one.path.read_bytes() == TEXT]
        wrong += [] if len(aside) == (deed.argv[0] == "retry") else [f"set aside: {aside}"]
        return wrong if deed.done(places) else [*wrong, "it is not done"]


@contextmanager
def staged(deed: Deed) -> Iterator[Stage]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="listener-", dir=_memory()) as name:
        forks = Zygote()
        try:
            yield Stage(Path(name), forks, deed)
        finally:
            forks.close()


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory below it


@pytest.mark.parametrize("name", DEEDS)
def test_a_command_that_is_killed_at_every_call(name: str) -> None:
    complaints, hits = [], 0
    with staged(DEEDS[name]) as stage:
        for call, number in list(stage.points()):
            stage.lay_out()
            killed = stage.act(f"signal=SIGKILL:when={number}", [call])
            stage.send_again()
            ended = stage.act()
            hits += killed.hit
            found = stage.wrong()
            if ended.status != 0 or "Traceback" in ended.stderr:
                found.append(f"exit status {ended.status}: {ended.stderr}")
            complaints += [f"{call} number {number} ({killed.where()}): {text}" for text in found]
    print(f"{name}: {hits} kill points")
    assert not complaints, "\n".join([f"{len(complaints)} violations at {hits} kill points:", *complaints[:30]])
    assert hits >= 5

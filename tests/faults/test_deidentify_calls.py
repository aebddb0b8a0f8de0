"""SIGKILL at each call by which `listener deidentify` changes anything, from its start over the delivery of a series to
the end of it: the next run hands the unit over once, whole and with the same bytes, whether the collection that gets it
took it between or not; vault, evidence and ledger say the same as if nothing had happened.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from listener.deidentify.evidence import evidence
from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.vault import Vault
from tests.deidentify.collection import Collection
from tests.faults.crash import changes
from tests.faults.injecting import CALLS, Ended, Zygote
from tests.service_process import Places

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

#: All calls are tried, in so many tests.
_SHARES = 6

#: Tables of the vault, and how many of their columns are no times.
_TABLES = {"about": 2, "patients": 3, "owners": 2, "studies": 3, "series": 3, "units": 6, "done": 6, "held": 4}


class Stand:
    """A collection with one series, laid out as often as needed: two instances pass, one is held."""

    def __init__(self, base: Path) -> None:
        self._place, self._fresh = base / "place", base / "template"
        with closing(Collection(self._place)) as collection:
            collection.add(0, 1, 2)
            collection.add(0, 3, BurnedInAnnotation="YES")
            collection.end()
        self._collection, config = collection, collection.config
        self._places = Places(self._place, (), Path(config.data), Path(config.log), Path(config.state))
        self._argv = ["deidentify", "once", "--state", config.state, "--data", config.data]
        self._argv += ["--into", str(collection.into), "--key-file", str(collection.key)]
        shutil.copytree(self._place, self._fresh)
        self._forks = Zygote()
        self.unit: dict[str, bytes] = {}
        self.taken = 0

    def close(self) -> None:
        self._forks.close()

    def lay_out(self) -> None:
        shutil.rmtree(self._place)
        shutil.copytree(self._fresh, self._place)
        self.taken = 0

    def once(self, inject: str = "", calls: list[str] = CALLS) -> Ended:
        """Clean what is due. Something of it is held, so that it never ends with 0."""
        ended = self._forks.command(self._places, self._argv, "all", inject, calls)
        assert (ended.status == 1 and "Traceback" not in ended.stderr) or ended.hit, ended
        return ended

    def begin(self) -> None:
        """An undisturbed run, in which the unit is made that all others must make."""
        self.points = list(_points(self.once("count").trace))
        (folder,) = self._collection.handed()
        self.unit = _contents(folder)
        assert len(self.unit) == 2
        self.accounts = self.told()

    def look(self, *, takes: bool) -> list[str]:
        """Be the collection that gets what is clean, and perhaps take it; what is wrong."""
        wrong = []
        for folder in self._collection.handed():
            if folder.suffix == ".part":
                continue
            wrong += [] if _contents(folder) == self.unit else [f"{sorted(_contents(folder))} is another unit"]
            if takes:
                self.taken += 1
                shutil.rmtree(folder)
        return wrong

    def ended(self) -> list[str]:
        """What is wrong when all is done."""
        wrong = self.look(takes=True)
        wrong += [f"left: {path.name}" for path in self._collection.handed()]
        wrong += [] if self.taken == 1 else [f"handed over {self.taken} times"]
        told = self.told()
        return wrong + [f"{name}: {told[name]}" for name in told if told[name] != self.accounts[name]]

    def told(self) -> dict[str, object]:
        """What vault, evidence and ledger say, but for times."""
        row = self._collection.consumer()
        told: dict[str, object] = {"deliveries": (row.delivered, row.pending, row.failed)}
        with closing(Vault(self._collection.config.state, writes=False)) as vault:
            told |= {name: [tuple(row)[:count] for row in vault.rows(name)] for name, count in _TABLES.items()}
            told["evidence"] = evidence(vault, DeidentifyOptions(), 0, 0)
        return told


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _points(trace: str) -> Iterator[tuple[str, int]]:
    """The calls that change anything which outlives the process, each by its number among those of its name."""
    numbers: Counter[str] = Counter()
    for line in trace.splitlines():
        call, parenthesis, _ = line.partition("(")
        if parenthesis and call in CALLS:
            numbers[call] += 1
            says = line.startswith(("write(1<", "write(2<")) or (call == "write" and "<pipe:" in line)
            if changes(call, line) and not says:
                yield call, numbers[call]


@contextmanager
def stand() -> Iterator[Stand]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory below it
    with tempfile.TemporaryDirectory(prefix="listener-", dir=memory) as name, closing(Stand(Path(name))) as made:
        made.begin()
        yield made


@pytest.mark.parametrize("share", range(_SHARES))
def test_a_unit_is_handed_over_once_whichever_call_the_stage_is_killed_at(share: int) -> None:
    complaints, hits = [], 0
    with stand() as stood:
        mine = list(enumerate(stood.points))[share::_SHARES]
        for place, (call, number) in mine:
            stood.lay_out()
            killed = stood.once(f"signal=SIGKILL:when={number}", [call])
            hits += killed.hit
            # The other collection takes it in between, or not.
            wrong = stood.look(takes=bool(place // _SHARES % 2))
            stood.once()
            wrong += stood.ended()
            complaints += [f"{call} number {number} ({killed.where()}): {text}" for text in wrong]
    print(f"{hits} kill points of {len(mine)}, {len(stood.points)} in all")
    assert not complaints, "\n".join(complaints[:30])
    assert hits >= len(mine) - 1

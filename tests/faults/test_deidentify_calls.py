"""SIGKILL at the calls by which a unit of `listener deidentify` changes anything: the next run hands it over once,
whole and with the same bytes, whether the collection that gets it took it between or not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from listener.deidentify.vault import Vault
from tests.deidentify.collection import Collection
from tests.faults.crash import changes
from tests.faults.injecting import CALLS, Forks

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]


#: All of the 160 calls are tried, in so many tests: each takes a minute at most.
_SHARES = 6


class Stand:
    """A collection with one series, laid out as often as needed: two instances pass, one is held."""

    def __init__(self, base: Path) -> None:
        self.place, self._fresh, self._said = base / "place", base / "template", base / "said"
        self._said.mkdir()
        self.collection = Collection(self.place)
        self.collection.add(0, 1, 2)
        self.collection.add(0, 3, BurnedInAnnotation="YES")
        self.collection.end()
        shutil.copytree(self.place, self._fresh)
        self.taken: dict[str, bytes] = {}
        self._forks = Forks("tests.faults.deidentify_zygote")

    def close(self) -> None:
        self._forks.close()

    def lay_out(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self._fresh, self.place)
        self.taken = {}

    def run(self, inject: str = "", calls: list[str] = CALLS) -> str:
        """Clean the series; what strace saw."""
        config = self.collection.config
        request = {"state": config.state, "data": config.data, "into": str(self.collection.into)}
        request |= {"key": str(self.collection.key), "series": self.collection.uid(0)}
        asked = {**request, "inject": inject, "calls": calls, "out": str(self._said)}
        status = self._forks.ask(asked)["status"]
        trace = (self._said / "trace").read_text(errors="replace") if inject else ""
        assert status == 0 or "killed by SIGKILL" in trace, f"status {status}"
        return trace

    def take(self) -> list[str]:
        """Be the collection that gets what is clean; what is wrong."""
        wrong = []
        for folder in self.collection.handed():
            if folder.suffix == ".part":
                continue
            for path in folder.iterdir():
                wrong += [f"{path.name} twice"] if path.name in self.taken else []
                self.taken[path.name] = path.read_bytes()
            shutil.rmtree(folder)
        return wrong

    def points(self) -> list[tuple[str, int]]:
        """The calls of an undisturbed run that change anything."""
        numbers: Counter[str] = Counter()
        found = []
        for line in self.run("count").splitlines():
            call, parenthesis, _ = line.partition("(")
            if parenthesis and call in CALLS:
                numbers[call] += 1
                if changes(call, line):
                    found.append((call, numbers[call]))
        return found

    def held(self) -> int:
        vault = Vault(self.collection.config.state, writes=False)
        try:
            return len(vault.held())
        finally:
            vault.close()


@contextmanager
def stand() -> Iterator[Stand]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory below it
    with tempfile.TemporaryDirectory(prefix="listener-", dir=memory) as name:
        made = Stand(Path(name))
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("share", range(_SHARES))
def test_a_unit_that_is_killed_at_a_call_is_handed_over_once(share: int) -> None:
    complaints, hits = [], 0
    with stand() as stood:
        points = stood.points()
        assert stood.take() == []
        expected = stood.taken
        assert len(expected) == 2
        for place, (call, number) in list(enumerate(points))[share::_SHARES]:
            stood.lay_out()
            trace = stood.run(f"signal=SIGKILL:when={number}", [call])
            hits += "killed by SIGKILL" in trace
            # B takes it in between, or not.
            wrong = stood.take() if place // _SHARES % 2 else []
            stood.run()
            wrong += stood.take()
            wrong += [] if stood.taken == expected else [f"{sorted(stood.taken)} instead of {sorted(expected)}"]
            wrong += [f"left: {path.name}" for path in stood.collection.handed()]
            wrong += [] if stood.held() == 1 else [f"{stood.held()} are held"]
            complaints += [f"{call} number {number}: {text}" for text in wrong]
    print(f"{hits} kill points of {len(points)}")
    assert not complaints, "\n".join(complaints[:30])
    assert hits >= len(points) // _SHARES - 2

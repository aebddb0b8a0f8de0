"""Every system call refused with every error of the matrix: nothing is lost, and when it has passed all is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.faults.injecting import SCENARIOS, Ended, Stand, stand

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

_MAKE = {"rename", "link", "mkdir", "openat", "symlink"}
_CHANGE = {*_MAKE, "unlink", "chmod", "fchmod", "utimensat"}
_SYNC = {"fsync", "fdatasync"}
_ALL = {*_CHANGE, *_SYNC, "write", "sendfile", "flock"}

#: error -> the calls that may answer with it.
ERRORS = {
    "ENOSPC": {*_MAKE, *_SYNC, "write", "sendfile"},
    "EDQUOT": {*_MAKE, *_SYNC, "write", "sendfile"},
    "EROFS": _CHANGE,
    "EACCES": _CHANGE,
    "EMFILE": {"openat"},
    "ENOMEM": _ALL,
    "ESTALE": _ALL,
    "EIO": _ALL,
}

#: By these a single file may be taken for unreadable.
UNREADABLE = ("EIO", "EACCES")

#: Not those of two data sets of one instance at once: who is refused comes later, and the later one takes the name.
NAMES = ("new", "again", "another study", "replace", "moved", "keep both", "set aside", "copied")


def refuse(stood: Stand, call: str, number: int, error: str, more: str) -> tuple[bool, list[str]]:
    """Refuse this call, let the run end, and one more run without a fault; what was wrong in the end."""
    stood.lay_out()
    ended = stood.once("all", f"error={error}:when={number}{more}", [call], ["--settle", "0"])
    complaints = _of_the_run(ended, call, error)
    last = stood.once("all")
    complaints += stood.lost() if error in UNREADABLE else stood.wrong()
    if last.status not in (0, 1) or "Traceback" in last.stderr:
        complaints.append(f"afterwards: exit status {last.status}: {last.stderr}")
    return ended.hit, [f"{error} at {call} number {number}{more} ({ended.where()}): {text}" for text in complaints]


def _of_the_run(ended: Ended, call: str, error: str) -> list[str]:
    """The run itself ends by itself, without a traceback; with a failed sync it does not say that all is well, but for
    the ledger's, which is counted again from the documents.
    """
    if ended.status is None:
        return [f"it did not end: {ended.stderr[-500:]}"]
    if ended.where().startswith("write(2<"):
        return []  # It had nowhere to say why.
    if ended.status not in (0, 1, 2) or "Traceback" in ended.stderr:
        return [f"exit status {ended.status}: {ended.stderr[-800:]}"]
    failed = [line for line in ended.met if "/ledger.sqlite" not in line] if error == "EIO" and call in _SYNC else []
    if failed and ended.status == 0:
        return [f"a failed sync, and exit status 0: {ended.stderr[-500:]}"]
    return []


def of_files(call: str, line: str) -> bool:
    """Not what goes through a pipe between our own processes."""
    return "<socket:" not in line and "<pipe:" not in line


Kind = tuple[str, ...]
Point = tuple[str, int]


def kind_of(call: str, line: str) -> Kind:
    """The call, whether it makes a file, and which kind of place it works on: names of senders and patients count by
    their depth, numbers and identifiers not at all.
    """
    kind = [call, "makes" if "O_CREAT" in line else ""]
    for path in re.findall(r'[<"](/[^">]*)[>"]', line.partition(" = ")[0]):
        _, _, below = path.partition("/area/")
        parts = below.split("/")
        if (
            parts[0] == "incoming"
            or parts[:2] == ["state", "claim"]
            or (parts[0] == "data" and ".listener" not in below)
        ):
            kind.append(f"{parts[0]} {len(parts)} {'trial' if 'trial-' in below else ''}")
        else:
            kind.append(re.sub(r"[0-9a-f.-]*\d[0-9a-f.-]*", "#", below or path.rpartition("/")[2]))
    return tuple(kind)


def points_of(stood: Stand, error: str) -> list[tuple[Kind, Point]]:
    """All calls of a scenario that may answer with `error`."""
    kinds: list[Kind] = []

    def meets(call: str, line: str) -> bool:
        if call in ERRORS[error] and of_files(call, line):
            kinds.append(kind_of(call, line))
            return True
        return False

    points = stood.points("all", meets)
    return list(zip(kinds, points, strict=True))


@cache
def kinds_in(name: str, error: str) -> frozenset[Kind]:
    with stand(SCENARIOS[name]) as stood:
        return frozenset(kind for kind, _ in points_of(stood, error))


def chosen(points: list[tuple[Kind, Point]], known: frozenset[Kind], stride: int) -> Iterator[Point]:
    """The first call of each kind that is not known, and every `stride`-th of all others."""
    seen = set(known)
    for index, (kind, point) in enumerate(points):
        if kind not in seen or index % stride == 0:
            yield point
        seen.add(kind)


def known_kinds(name: str, error: str) -> frozenset[Kind]:
    """What another scenario refuses already: each kind that `new` has."""
    return frozenset() if name == "new" else kinds_in("new", error)


def refuse_all(name: str, error: str, *, more: str = "", stride: int = 1, kinds: bool = False) -> None:
    """Refuse every `stride`-th call of a scenario that may answer with `error`; with `kinds` also one of each kind that
    `new` does not have.
    """
    wrong: list[str] = []
    hits = 0
    with stand(SCENARIOS[name]) as stood:
        found = points_of(stood, error)
        points = (
            list(chosen(found, known_kinds(name, error), stride)) if kinds else [point for _, point in found][::stride]
        )
        for call, number in points:
            hit, complaints = refuse(stood, call, number, error, more)
            hits += hit
            wrong += complaints
    print(f"{name}, {error}{' from then on' if more else ''}: {hits} calls refused")
    assert not wrong, "\n".join([f"{len(wrong)} violations at {hits} calls:", *wrong[:40]])
    assert hits >= 0.9 * len(points)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", NAMES)
def test_one_call_refused(name: str, error: str) -> None:
    """The next try succeeds: mostly in the same run. What a start does is the same in all scenarios, and what is done
    about a full quota the same as about a full volume.
    """
    refuse_all(name, error, stride=16, kinds=error != "EDQUOT")


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EIO"])
def test_every_call_refused_from_then_on(error: str) -> None:
    """As with a volume that is full for the rest of the run: it gives up after a while, the next one does it all."""
    refuse_all("new", error, stride=25, more="+")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", NAMES)
def test_one_call_refused_exhaustively(name: str, error: str) -> None:
    refuse_all(name, error, stride=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", NAMES)
def test_every_call_refused_from_then_on_exhaustively(name: str, error: str) -> None:
    refuse_all(name, error, stride=2, more="+")

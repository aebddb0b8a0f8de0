"""Every system call refused with every error of the matrix: nothing is lost, and when it has passed all is done."""

from __future__ import annotations

import pytest

from tests.faults.injecting import SCENARIOS, Ended, Stand, stand

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

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


def refuse_all(name: str, error: str, *, stride: int, more: str = "") -> None:
    """Refuse every call of a scenario that may answer with `error`, or every `stride`-th of them."""
    wrong: list[str] = []
    hits = 0
    with stand(SCENARIOS[name]) as stood:
        points = stood.points("all", lambda call, line: call in ERRORS[error] and of_files(call, line))[::stride]
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
    """The next try succeeds: mostly in the same run."""
    refuse_all(name, error, stride=1 if name == "new" and error != "EDQUOT" else 5)


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

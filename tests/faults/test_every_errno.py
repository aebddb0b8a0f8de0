"""Every system call refused with every error of the matrix: nothing is lost, and when the fault has passed all is done."""

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

#: How long a fault lasts: one call, or all of its name from there to the end of the run.
LASTS = {"once": "", "from then on": "+"}

#: By these a single file may be taken for unreadable.
UNREADABLE = ("EIO", "EACCES")

NAMES = ("new", "replace at once", "moved", "set aside", "copied")


def refuse(stood: Stand, call: str, number: int, error: str, more: str) -> tuple[bool, list[str]]:
    """Refuse this call, let the run end, and one more run without a fault; what was wrong in the end."""
    stood.lay_out()
    ended = stood.once("all", f"error={error}:when={number}{more}", [call])
    complaints = _of_the_run(ended, call, error)
    last = stood.once("all")
    complaints += stood.lost() if error in UNREADABLE else stood.wrong()
    if last.status not in (0, 1) or "Traceback" in last.stderr:
        complaints.append(f"afterwards: exit status {last.status}: {last.stderr}")
    return ended.hit, [f"{error} at {call} number {number}{more} ({ended.where()}): {text}" for text in complaints]


def _of_the_run(ended: Ended, call: str, error: str) -> list[str]:
    """The run itself ends by itself, without a traceback; with a failed sync it does not say that all is well."""
    if ended.status is None:
        return [f"it did not end: {ended.stderr[-500:]}"]
    if ended.status not in (0, 1, 2) or "Traceback" in ended.stderr:
        return [f"exit status {ended.status}: {ended.stderr[-800:]}"]
    if ended.hit and error == "EIO" and call in _SYNC and ended.status == 0:
        return [f"a failed sync, and exit status 0: {ended.stderr[-500:]}"]
    return []


def of_files(call: str, line: str) -> bool:
    """Not what goes through a pipe between our own processes."""
    return "<socket:" not in line and "<pipe:" not in line


@pytest.mark.parametrize("lasts", LASTS)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", NAMES)
def test_refused_at_every_call(name: str, error: str, lasts: str) -> None:
    wrong: list[str] = []
    hits = 0
    with stand(SCENARIOS[name]) as stood:
        points = stood.points("all", lambda call, line: call in ERRORS[error] and of_files(call, line))
        for call, number in points:
            hit, complaints = refuse(stood, call, number, error, LASTS[lasts])
            hits += hit
            wrong += complaints
    print(f"{name}, {error} {lasts}: {hits} calls refused")
    assert not wrong, "\n".join([f"{len(wrong)} violations at {hits} calls:", *wrong[:40]])
    assert hits >= 0.9 * len(points)

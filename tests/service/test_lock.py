"""An incoming directory has one owner, also when the owner was killed and its workers still live."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from listener.errors import OwnedElsewhere
from listener.service import lock
from listener.service.lock import IncomingLock, is_owned, owner_file


def roots(folder: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    return tuple(str(folder / name) for name in names)


def test_a_second_owner_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = IncomingLock(roots(tmp_path, "a", "b"))
    try:
        with pytest.raises(
            OwnedElsewhere, match=r"Another listener owns.*'.*/b'; stop the other one, or give"
        ) as caught:
            IncomingLock(roots(tmp_path, "c", "b"), patience=0)
        assert caught.value.exit_code == 1
        IncomingLock(roots(tmp_path, "c"), patience=0).close()
    finally:
        first.close()
    IncomingLock(roots(tmp_path, "a", "b"), patience=0).close()


def test_one_directory_under_two_names_is_one(tmp_path: Path) -> None:
    (real,) = roots(tmp_path, "real")
    (tmp_path / "link").symlink_to(real)
    first = IncomingLock((real,))
    try:
        with pytest.raises(OwnedElsewhere):
            IncomingLock((str(tmp_path / "link"),), patience=0)
    finally:
        first.close()


def test_no_file_is_put_into_incoming(tmp_path: Path) -> None:
    (root,) = roots(tmp_path, "a")
    ours = IncomingLock((root,))
    assert list(Path(root).iterdir()) == []
    ours.close()
    ours.close()


def test_a_worker_keeps_the_lock_until_it_ends_and_a_start_waits_for_that(tmp_path: Path) -> None:
    """As long as a worker of a killed parent lives, nobody else may begin; a moment later somebody may."""
    (root,) = roots(tmp_path, "a")
    ours = IncomingLock((root,))
    keep = ours.descriptors
    worker = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=keep, stdin=subprocess.PIPE)
    try:
        ours.close()
        with pytest.raises(OwnedElsewhere):
            IncomingLock((root,), patience=0)
    finally:
        worker.communicate(b"\n")
    begun = time.monotonic()
    IncomingLock((root,)).close()
    assert time.monotonic() - begun < 60


# -- several machines --------------------------------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "is_network", lambda root: True)


def test_on_a_network_file_system_a_file_is_locked_too(tmp_path: Path, network: None) -> None:
    """The lock of a directory is not seen by other machines, so theirs is not asked for here."""
    (root,) = roots(tmp_path, "a")
    theirs = IncomingLock((root,))
    lock = Path(owner_file(root))
    assert lock == Path(root) / ".listener/owner"
    theirs.close()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OwnedElsewhere):
            IncomingLock((root,), patience=0)
        assert is_owned(root)
    IncomingLock((root,), patience=0).close()
    assert not is_owned(root)


def test_who_only_asks_makes_no_file(tmp_path: Path, network: None) -> None:
    (root,) = roots(tmp_path, "a")
    assert not is_owned(root)
    IncomingLock((root,), patience=0, makes=False).close()
    assert list(Path(root).iterdir()) == []

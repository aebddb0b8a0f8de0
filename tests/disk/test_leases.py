"""Leases: what they tell of writers, and how they keep them waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.disk import leases
from tests.holders import breaking, opened, writer


def test_a_lease_tells_whether_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    with opened(path) as descriptor:
        assert leases.probe(descriptor) == leases.FREE
        with writer(path):
            assert leases.probe(descriptor) == leases.BUSY
            path.rename(tmp_path / "b")
            assert leases.probe(descriptor) == leases.BUSY, "also after the file got another name"
        assert leases.probe(descriptor) == leases.FREE


def test_a_lease_is_given_back_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with opened(tmp_path / "a") as descriptor:
        assert leases.probe(descriptor) == leases.FREE
        with (tmp_path / "a").open("ab"):
            pass  # A lease that were still held would block here.


def test_a_lease_that_is_held_keeps_writers_waiting_until_it_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with breaking(), opened(tmp_path / "a") as descriptor:
        assert not leases.holds(descriptor)
        assert leases.take(descriptor) == leases.FREE
        assert leases.holds(descriptor)
        with pytest.raises(BlockingIOError):
            os.open(tmp_path / "a", os.O_WRONLY | os.O_NONBLOCK)
        assert not leases.holds(descriptor), "somebody waits"
        leases.release(descriptor)
        with (tmp_path / "a").open("ab"):
            assert leases.take(descriptor) == leases.BUSY


def test_where_the_kernel_cannot_say() -> None:
    with open("/dev/null", "rb") as file:
        assert leases.probe(file.fileno()) == leases.UNKNOWN

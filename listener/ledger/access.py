"""The writer's hold on the ledger: opened when it is needed, given up when it fails or its file is another one, and
tried again later.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from listener.diagnostics import log
from listener.disk.mounts import mount_of
from listener.errors import LedgerCorrupt, LedgerFault, LedgerReplaced, LedgerUnusable
from listener.ledger.opening import open_reader, open_writer, path_of, translated

#: How long after a failure the ledger is tried again, in seconds: doubled each time up to the second.
_SOON, _LATEST = 1.0, 5.0

#: While the ledger fails, another error than the one that was logged is logged after so many seconds at the earliest.
_NEWS = 60.0

#: Device and inode of a file; (0, 0) for one that is not there.
Inode = tuple[int, int]


_ABSENT: Inode = (0, 0)


class Stamp(NamedTuple):
    """Which files a connection works on: the database, and its write-ahead log (absent without one)."""

    database: Inode = _ABSENT
    wal: Inode = _ABSENT

    @classmethod
    def of(cls, path: str) -> Stamp:
        """The files that lie at the ledger's path now."""
        return cls(_inode(path, filled=True), _inode(f"{path}-wal"))

    def is_still(self, now: Stamp) -> bool:
        """Whether a connection that was opened on these files works on those at the path `now`. A write-ahead log may
        come after the connection, but neither file may go or become another one.
        """
        return now.database == self.database and self.wal in (_ABSENT, now.wal)


class Access:
    """`connection` is None while the ledger cannot be used. `fault` is "" or, for people, why it cannot be written; it
    stays until works() is called, so that a ledger which opens and cannot be written is not taken for a good one.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._path = path_of(state)
        self._directory = _inode(state)
        self._stamp = Stamp()
        self._retry_at = 0.0
        self._failures = 0
        self._logged_at = -inf
        self.connection: sqlite3.Connection | None = None
        self.fault = ""

    def open(self, now: float) -> sqlite3.Connection | None:
        """A new connection, if one is due; `now` on the monotonic clock, in seconds."""
        if now >= self._retry_at:
            with self.minding(now):
                self._require_directory()
                mount = mount_of(self._state)
                self.connection = open_writer(self._path, local=not (mount and mount.is_network))
                self._stamp = Stamp.of(self._path)
        return self.connection

    def _require_directory(self) -> None:
        """No ledger is made in the directory below a volume that was unmounted. Raises LedgerUnusable."""
        if self._directory == _ABSENT:
            self._directory = _inode(self._state)
        if _inode(self._state) != self._directory:
            raise LedgerUnusable("the state directory is not the one of the start; mount its volume again")

    def lost(self) -> LedgerFault | None:
        """Why the connection does not work on what lies at the ledger's path; None when it does. Asked once a beat.

        Device and inode are compared, and a reader looks whether it is a database: the connection itself would not
        notice what it has in its cache. sqlite opens the file for that: to close one's own descriptor of it drops all
        locks of the process (POSIX).
        """
        now = Stamp.of(self._path)
        if not self._stamp.is_still(now):
            return LedgerReplaced()
        self._stamp = now
        try:
            open_reader(self._path).close()
        except LedgerCorrupt as fault:
            return fault
        except LedgerFault:  # Locked, or no descriptor is free: not what is asked here.
            pass
        return None

    def abandon(self, fault: LedgerFault, now: float) -> None:
        """Give up a connection whose file is gone, another one or damaged. It is opened anew at once."""
        self.close()
        self.fault, self._retry_at, self._logged_at = str(fault), now, -inf
        log.error("%s", fault)

    def works(self) -> None:
        """All that waited is written."""
        if self.fault:
            log.info("the ledger is written again")
        self.fault, self._failures = "", 0

    @contextlib.contextmanager
    def minding(self, now: float) -> Iterator[None]:
        """Turn what sqlite raises into `fault`, log it once, and give the connection up for a while."""
        try:
            with translated():
                yield
        except LedgerFault as fault:
            self._give_up(fault, now)

    def _give_up(self, fault: LedgerFault, now: float) -> None:
        self.close()
        self._retry_at = now + min(_LATEST, _SOON * 2 ** min(self._failures, 10))
        self._failures += 1
        if not self.fault or (self.fault != str(fault) and now - self._logged_at >= _NEWS):
            log.error("%s (files are published meanwhile)", fault)
            self._logged_at = now
        self.fault = str(fault)

    def close(self) -> None:
        """Let it go."""
        if self.connection:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
        self.connection = None


def _inode(path: str, *, filled: bool = False) -> Inode:
    """Device and inode; with `filled` only of what has a byte: a database without one was cut off behind sqlite."""
    try:
        found = os.stat(path)
    except OSError:
        return _ABSENT
    return (found.st_dev, found.st_ino) if found.st_size or not filled else _ABSENT

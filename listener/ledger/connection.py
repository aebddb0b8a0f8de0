"""Connections to the ledger: open, migrate, transactions; SQLite's errors by our names; the writer's reconnecting."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from math import inf
from typing import NamedTuple
from urllib.parse import quote

from listener.diagnostics import log
from listener.disk.mounts import mount_of
from listener.errors import (
    LedgerCorrupt,
    LedgerFault,
    LedgerLocked,
    LedgerMissing,
    LedgerNewer,
    LedgerReplaced,
    LedgerUnusable,
)
from listener.ledger import schema

#: How long a writer waits for another one, in seconds.
PATIENCE = 5.0

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def path_of(state: str) -> str:
    """Where the ledger of a state directory is."""
    return os.path.join(state, schema.FILE)


def open_writer(path: str, *, local: bool = True) -> sqlite3.Connection:
    """A connection that reads and writes; the file is made, and brought to this version's schema, where needed.

    One connection is for one thread at a time. `local`: other machines do not write there, so readers and the writer
    need not wait for each other. Raises a LedgerFault.
    """
    with translated():
        # Ours alone from the first moment: it holds patient keys.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            version = _version(connection)
            connection.execute(f"PRAGMA journal_mode = {'WAL' if local else 'TRUNCATE'}")
            # A power cut may take the last transactions, never the file: they are counted again from the documents.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -8000")
            connection.execute("PRAGMA temp_store = MEMORY")
            if version < schema.VERSION:
                migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that only reads, from any process, also on a volume that cannot be written. Raises a LedgerFault."""
    if not os.path.exists(path):
        raise LedgerMissing
    with translated():
        try:
            return _checked(f"file:{quote(path)}?mode=ro")
        except sqlite3.OperationalError:
            # Nobody writes, and the files that tell writers and readers of each other cannot be made.
            if os.path.exists(f"{path}-wal") or os.access(os.path.dirname(path), os.W_OK):
                raise
            return _checked(f"file:{quote(path)}?immutable=1")


def _checked(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        _no_older(_version(connection))
    except BaseException:
        connection.close()
        raise
    return connection


def _no_older(version: int) -> None:
    if version < schema.VERSION:
        raise LedgerUnusable("an older version made it; the service, or 'listener verify --repair', makes it a new one")


def _version(connection: sqlite3.Connection) -> int:
    """The schema's version; 0 for a file without anything. Raises LedgerCorrupt, LedgerNewer."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != schema.APPLICATION:
        raise LedgerCorrupt("another program's database")
    if version > schema.VERSION:
        raise LedgerNewer(f"version {version}, and this program knows {schema.VERSION}")
    return int(version)


def migrate(connection: sqlite3.Connection, version: int = schema.VERSION) -> None:
    """Bring the schema to `version` (the newest), all steps in one transaction: a crash leaves the old one."""
    with transaction(connection):
        (now,) = connection.execute("PRAGMA user_version").fetchone()
        for step in schema.STEPS[now:version]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
        connection.execute(f"PRAGMA user_version = {max(now, version)}")


def _statements(script: str) -> Iterator[str]:
    """The single statements: executescript() would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing. Raises a LedgerFault for what sqlite raises."""
    with translated():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn sqlite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise named(error) from error
    except OSError as error:
        raise LedgerUnusable(error.strerror or type(error).__name__) from error


def named(error: sqlite3.Error) -> LedgerFault:
    """Our name for an error of sqlite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _CORRUPT:
        return LedgerCorrupt(str(error))
    if code in _LOCKED:
        return LedgerLocked(str(error))
    return LedgerUnusable(str(error))


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


class WriterConnection:
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
            with self.translating_faults(now):
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
    def translating_faults(self, now: float) -> Iterator[None]:
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

"""Connections to the ledger: open, migrate, transactions, SQLite's errors as LedgerFaults; the writer's reconnecting,
and the marker file of a ledger that lacks outcomes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from math import inf
from typing import NamedTuple
from urllib.parse import quote

from listener.diagnostics import log
from listener.disk.mounts import is_network
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

#: Seconds that a writer waits for another one's lock.
BUSY_TIMEOUT = 5.0

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def path_of(state_dir: str) -> str:
    """Return the path of the ledger in a state directory."""
    return os.path.join(state_dir, schema.FILE)


def open_writer(path: str) -> sqlite3.Connection:
    """Return a connection that reads and writes; create the file and migrate its schema if needed.

    Use a connection in one thread at a time. Where only this machine writes, readers and the writer need not wait for
    each other (WAL). Raises LedgerFault.
    """
    mode = "TRUNCATE" if is_network(os.path.dirname(path) or ".") else "WAL"
    with translated():
        # Mode 0600 from the first moment: it holds patient keys.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            version = _version(connection)
            connection.execute(f"PRAGMA journal_mode = {mode}")
            # A power cut may lose the last transactions, never the file: they are recounted from the documents.
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
    """Return a read-only connection, for any process, also on a read-only volume. Raises LedgerFault."""
    if not os.path.exists(path):
        raise LedgerMissing
    with translated():
        try:
            return _open_checked(f"file:{quote(path)}?mode=ro")
        except sqlite3.OperationalError:
            # No writer, and the -shm file cannot be created on this volume.
            if os.path.exists(f"{path}-wal") or os.access(os.path.dirname(path), os.W_OK):
                raise
            return _open_checked(f"file:{quote(path)}?immutable=1")


def _open_checked(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
    try:
        _require_version(_version(connection))
    except BaseException:
        connection.close()
        raise
    return connection


def _require_version(version: int) -> None:
    if version < schema.VERSION:
        raise LedgerUnusable("an older version made it; the service, or 'listener verify --repair', makes it a new one")


def _version(connection: sqlite3.Connection) -> int:
    """Return the schema's version; 0 for an empty file. Raises LedgerCorrupt, LedgerNewer."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != schema.APPLICATION:
        raise LedgerCorrupt("another program's database")
    if version > schema.VERSION:
        raise LedgerNewer(f"version {version}, and this program knows {schema.VERSION}")
    return int(version)


def migrate(connection: sqlite3.Connection, version: int = schema.VERSION) -> None:
    """Migrate the schema to `version` in one transaction: a crash leaves the old one."""
    with transaction(connection):
        (now,) = connection.execute("PRAGMA user_version").fetchone()
        for step in schema.STEPS[now:version]:
            for statement in statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
        connection.execute(f"PRAGMA user_version = {max(now, version)}")


def statements(script: str) -> Iterator[str]:
    """Yield the single statements of a script: executescript() would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection writes."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


@contextlib.contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction that writes; roll back on any error. SQLite's errors come as they are."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction; roll back on any error. SQLite's errors become LedgerFaults."""
    with translated(), atomic(connection):
        yield


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise LedgerFaults in place of sqlite's errors and OSErrors."""
    try:
        yield
    except sqlite3.Error as error:
        raise fault_of(error) from error
    except OSError as error:
        raise LedgerUnusable(error.strerror or type(error).__name__) from error


def fault_of(error: sqlite3.Error) -> LedgerFault:
    """Return the LedgerFault for an error of sqlite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _CORRUPT:
        return LedgerCorrupt(str(error))
    if code in _LOCKED:
        return LedgerLocked(str(error))
    return LedgerUnusable(str(error))


#: Seconds between two log lines at least, while the ledger fails with changing errors.
_LOG_INTERVAL = 60.0

#: Device and inode of a file; (0, 0) for one that is not there.
Inode = tuple[int, int]


_ABSENT: Inode = (0, 0)


class Stamp(NamedTuple):
    """The files that a connection works on: the database and its write-ahead log (_ABSENT without one)."""

    database: Inode = _ABSENT
    wal: Inode = _ABSENT

    @classmethod
    def of(cls, path: str) -> Stamp:
        """Return the stamp of the files at the ledger's path."""
        return cls(_inode(path, filled=True), _inode(f"{path}-wal"))

    def is_still(self, now: Stamp) -> bool:
        """Return whether a connection opened on these files works on those at the path `now`. A write-ahead log may
        appear later, but neither file may disappear or be replaced.
        """
        return now.database == self.database and self.wal in (_ABSENT, now.wal)


class WriterConnection:
    """The writer's connection, reopened with growing pauses after a failure. `connection` is None while the ledger
    cannot be used. `fault` is "" or why it cannot be written; it stays until mark_working(), because a ledger that
    opens is not yet one that can be written. `retry`: seconds of the first and of the longest pause.
    """

    retry = (1.0, 5.0)

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._path = path_of(state_dir)
        self._directory = _inode(state_dir)
        self._stamp = Stamp()
        self._retry_at = 0.0
        self._failures = 0
        self._logged_at = -inf
        self.connection: sqlite3.Connection | None = None
        self.fault = ""

    def open(self, now: float) -> sqlite3.Connection | None:
        """Return a new connection, or None; `now` is monotonic, in seconds."""
        if now >= self._retry_at:
            with self.translating_faults(now):
                self._require_directory()
                self.connection = open_writer(self._path)
                self._stamp = Stamp.of(self._path)
        return self.connection

    def _require_directory(self) -> None:
        """Raise LedgerUnusable if the state directory is not that of the start (its volume was unmounted)."""
        if self._directory == _ABSENT:
            self._directory = _inode(self._state_dir)
        if _inode(self._state_dir) != self._directory:
            raise LedgerUnusable("the state directory is not the one of the start; mount its volume again")

    def file_fault(self) -> LedgerFault | None:
        """Return why the connection does not work on the file at the ledger's path; None if it does.

        Compares device and inode, and opens a reader: the connection itself would answer from its cache. The reader is
        sqlite's, because closing any descriptor of the file drops all locks of the process on it (POSIX).
        """
        now = Stamp.of(self._path)
        if not self._stamp.is_still(now):
            return LedgerReplaced()
        self._stamp = now
        try:
            open_reader(self._path).close()
        except LedgerCorrupt as fault:
            return fault
        except LedgerFault:  # Locked, or no descriptor is free: says nothing of the file.
            pass
        return None

    def abandon(self, fault: LedgerFault, now: float) -> None:
        """Close a connection whose file is gone, replaced or damaged; the next open() opens it at once."""
        self.close()
        self.fault, self._retry_at, self._logged_at = str(fault), now, -inf
        log.error("%s", fault)

    def mark_working(self) -> None:
        """Clear `fault`: all that waited is written."""
        if self.fault:
            log.info("the ledger is written again")
        self.fault, self._failures = "", 0

    @contextlib.contextmanager
    def translating_faults(self, now: float) -> Iterator[None]:
        """Turn an error of sqlite's in the block into `fault`: log it once, close the connection and pause."""
        try:
            with translated():
                yield
        except LedgerFault as fault:
            self._give_up(fault, now)

    def _give_up(self, fault: LedgerFault, now: float) -> None:
        self.close()
        first, longest = self.retry
        self._retry_at = now + min(longest, first * 2 ** min(self._failures, 10))
        self._failures += 1
        if not self.fault or (self.fault != str(fault) and now - self._logged_at >= _LOG_INTERVAL):
            log.error("%s (files are published meanwhile)", fault)
            self._logged_at = now
        self.fault = str(fault)

    def close(self) -> None:
        """Close the connection."""
        if self.connection:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
        self.connection = None


def _inode(path: str, *, filled: bool = False) -> Inode:
    """Return device and inode, _ABSENT without a file; with `filled` also for an empty one (cut off behind sqlite)."""
    try:
        status = os.stat(path)
    except OSError:
        return _ABSENT
    return (status.st_dev, status.st_ino) if status.st_size or not filled else _ABSENT


class BehindMarker:
    """`<state>/ledger.behind-<listener>`: an empty file whose mtime says since when outcomes are not recorded.

    It exists while the ledger cannot be written. The next start recounts what was published since, also where the
    ledger itself is damaged or gone. Empty, because it is made when a volume may be full. `earlier_ns` is what an
    earlier run left (since the epoch; 0: nothing). OSErrors are ignored: it is tried again.
    """

    def __init__(self, state_dir: str, owner: str) -> None:
        self._path = os.path.join(state_dir, f"ledger.behind-{owner}")
        try:
            self.earlier_ns = os.stat(self._path).st_mtime_ns
        except OSError:
            self.earlier_ns = 0
        self._since_ns = self.earlier_ns

    def begin(self, caught_up_ns: int, now_ns: int) -> None:
        """Mark that outcomes since `caught_up_ns` are not recorded; an earlier mark stays."""
        # What comes after the wall clock was set back is dated before that moment.
        since_ns = min(caught_up_ns, now_ns)
        if 0 < self._since_ns <= since_ns:
            return
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.utime(self._path, ns=(since_ns, since_ns))
            self._since_ns = since_ns

    def end(self) -> None:
        """Remove the mark: everything is recorded."""
        if self._since_ns:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
                self._since_ns = self.earlier_ns = 0

"""Opening the ledger, for its writers and for its readers; sqlite's errors by our names. Transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from urllib.parse import quote

from listener.errors import LedgerCorrupt, LedgerFault, LedgerLocked, LedgerMissing, LedgerNewer, LedgerUnusable
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

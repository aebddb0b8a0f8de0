"""The SQLite file of a stage, `<state>/<stage>/<stage>.sqlite`: its versions, connections, and errors as StageFaults.

What a kill leaves: a transaction is there as a whole, or not at all. A power cut may lose the last ones, never the file
(WAL, synchronous NORMAL): a stage keeps its cursor in the same file, so that cursor and work go back together.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from threading import Event, Thread
from typing import NamedTuple
from urllib.parse import quote

from listener.disk.mounts import is_network
from listener.errors import LedgerFault
from listener.ledger.connection import atomic, statements

#: Seconds that a writer waits for another one's lock.
_BUSY_TIMEOUT = 5.0


class StageFault(LedgerFault):
    """What the stage keeps in the state directory cannot be used; see its owner, mode, space and mount."""


class StageMissing(StageFault):
    """The stage has not run in this collection (--state)."""


class Schema(NamedTuple):
    """What a stage keeps. `application` is the file's PRAGMA application_id; step n of `steps` makes version n + 1 of
    version n, and none that was released is ever changed. `folder` is where the
    file lies, where that is not the state directory.
    """

    stage: str
    application: int
    steps: tuple[str, ...]
    folder: str = ""

    def path(self, state_dir: str) -> str:
        """Return the path of the file: in `folder`, else in a collection's state directory."""
        return os.path.join(self.folder or os.path.join(state_dir, self.stage), f"{self.stage}.sqlite")


def open_writer(state_dir: str, schema: Schema) -> sqlite3.Connection:
    """Return a connection that reads and writes, of service or command; create and migrate the file if needed.

    Use a connection in one thread at a time. Raises StageFault.
    """
    path = schema.path(state_dir)
    mode = "TRUNCATE" if is_network(state_dir) else "WAL"
    with translated():
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Mode 0600 from the first moment: paths may hold patient data.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            version = _version(connection, schema)
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -8000")
            connection.execute("PRAGMA temp_store = MEMORY")
            if version < len(schema.steps):
                _migrate(connection, schema)
        except BaseException:
            connection.close()
            raise
    return connection


def open_in_memory(schema: Schema) -> sqlite3.Connection:
    """Return a connection to a database that is nowhere but in this process, and ends with it. Raises StageFault."""
    with translated():
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _migrate(connection, schema)
    return connection


def open_reader(state_dir: str, schema: Schema) -> sqlite3.Connection:
    """Return a read-only connection. Raises StageMissing where the stage never ran, StageFault."""
    path = schema.path(state_dir)
    if not os.path.exists(path):
        raise StageMissing(schema.stage)
    with translated():
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None
        )
        try:
            version = _version(connection, schema)
        except BaseException:
            connection.close()
            raise
    if version < len(schema.steps):
        connection.close()
        raise StageFault("an older version made it; the service makes it a new one")
    return connection


def _version(connection: sqlite3.Connection, schema: Schema) -> int:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != schema.application:
        raise StageFault("it is another program's database")
    if version > len(schema.steps):
        raise StageFault(f"a newer version of listener made it ({version}, and this one knows {len(schema.steps)})")
    return int(version)


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    with transaction(connection):
        # Asked again: another process may have done it before the lock was ours.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in schema.steps[version:]:
            for statement in statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application}")
        connection.execute(f"PRAGMA user_version = {len(schema.steps)}")


class Checkpointer:
    """Writes the log (WAL) of a stage's file back into it, in a thread of its own, where SQLite would let the writer do
    so in the middle of its work: that waits for the disk. `connection` is that writer's. Every so many `seconds` a log
    of `least` bytes is written back; one of `most` while writers wait, or it would not begin anew under writing without
    a pause.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        seconds: float = 1.0,
        least: int = 4 * 1024 * 1024,
        most: int = 64 * 1024 * 1024,
    ) -> None:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._path, self._seconds, self._least, self._most = path, seconds, least, most
        self._ending = Event()
        self._thread = Thread(target=self._work, name="listener-stage-checkpointer", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ending.wait(self._seconds):
            with contextlib.suppress(OSError, sqlite3.Error):  # The next one writes back what this one could not.
                size = os.path.getsize(f"{self._path}-wal")
                if size >= self._least:
                    self._checkpoint("PASSIVE" if size < self._most else "RESTART")

    def _checkpoint(self, mode: str) -> None:
        there = f"file:{quote(self._path)}?mode=rw"
        with contextlib.closing(sqlite3.connect(there, uri=True, timeout=_BUSY_TIMEOUT)) as connection:
            connection.execute(f"PRAGMA wal_checkpoint({mode})")

    def close(self) -> None:
        """End the thread. Closing the last connection writes back the rest."""
        self._ending.set()
        self._thread.join()


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction; roll back on any error. SQLite's errors become StageFaults."""
    with translated(), atomic(connection):
        yield


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise StageFaults in place of sqlite's errors and OSErrors."""
    try:
        yield
    except sqlite3.Error as error:
        raise StageFault(str(error)) from error
    except OSError as error:
        raise StageFault(error.strerror or type(error).__name__) from error

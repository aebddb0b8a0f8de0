"""A Reader for who asks again and again: its connection is kept, since to open one costs a hundred times a question."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from listener.ledger.connection import Stamp, data_version, open_reader, path_of, translated
from listener.ledger.reader import Reader

T = TypeVar("T")


class KeptReader:
    """Asks the ledger in a state directory; one that was replaced, or failed, is opened anew. For one thread."""

    def __init__(self, state_dir: str) -> None:
        self._path = path_of(state_dir)
        self._connection: sqlite3.Connection | None = None
        self._stamp = Stamp()
        self._version: int | None = None

    def ask(self, question: Callable[[Reader], T]) -> T:
        """Return what `question` returns of a Reader of the ledger that lies there now. Raises LedgerFault."""
        with self._connected() as connection:
            return question(Reader(connection))

    def has_changed(self) -> bool:
        """Return whether somebody wrote since the last call, or a connection was opened. Raises LedgerFault."""
        with self._connected() as connection, translated():
            version = data_version(connection)
        before, self._version = self._version, version
        return version != before

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the ledger that lies there now; one that fails is closed."""
        try:
            stamp = Stamp.of(self._path)
            if self._connection is None or not self._stamp.is_still(stamp):
                self.close()
                self._stamp, self._connection = stamp, open_reader(self._path)
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._version = None

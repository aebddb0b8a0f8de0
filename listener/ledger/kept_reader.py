"""A Reader for who asks again and again: its connection is kept, since to open one costs a hundred times a question."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
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
        try:
            return question(Reader(self._current()))
        except BaseException:
            self.close()
            raise

    def has_changed(self) -> bool:
        """Return whether somebody wrote since the last call, or a connection was opened. Raises LedgerFault."""
        try:
            connection = self._current()
            with translated():
                version = data_version(connection)
        except BaseException:
            self.close()
            raise
        before, self._version = self._version, version
        return version != before

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the ledger that lies there now."""
        stamp = Stamp.of(self._path)
        if self._connection is None or not self._stamp.is_still(stamp):
            self.close()
            self._stamp, self._connection = stamp, open_reader(self._path)
        return self._connection

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._version = None

"""The one entry for arrivals, whatever noticed them; and the memory of what `--keep-source` has processed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from hashlib import blake2b
from math import inf
from typing import Protocol

from listener.diagnostics import log
from listener.planning.names import is_temporary
from listener.records import Arrival, Deferral, Outcome
from listener.service.backlog import FULL, NEW, Backlog
from listener.service.pool import WorkerExit
from listener.service.recovery import Recovery


class EngineObserver(Protocol):
    """Who hears what happens: metrics, events, progress."""

    def discovered(self, source: str) -> None:
        """A file entered; `source` is one of records.SOURCES."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""

    def lost(self, lost: WorkerExit) -> None:
        """A worker died and was replaced."""


_LENGTH = 16


class ProcessedFiles:
    """A set that survives restarts. About 100 bytes of memory a file that is kept."""

    def __init__(self, state: str) -> None:
        self._file = open(os.path.join(state, "kept"), "a+b", buffering=0)  # noqa: SIM115 - close() does
        self._file.seek(0)
        data = self._file.read()
        whole = len(data) - len(data) % _LENGTH
        self._file.truncate(whole)
        self._done = {data[start : start + _LENGTH] for start in range(0, whole, _LENGTH)}
        self._offered: dict[str, bytes] = {}

    def holds(self, path: str, status: os.stat_result) -> bool:
        """Whether this very file was done; if not, it is noted as offered."""
        told = f"{status.st_ino} {status.st_size} {status.st_mtime_ns} ".encode() + os.fsencode(path)
        key = blake2b(told, digest_size=_LENGTH).digest()
        if key in self._done:
            return True
        self._offered[path] = key
        return False

    def add(self, path: str) -> None:
        """The file that was offered under `path` is done. What replaced it meanwhile has another key, and is not."""
        key = self._offered.pop(path, None)
        if key is not None and key not in self._done:
            self._done.add(key)
            self._file.write(key)

    def close(self) -> None:
        """Give back the file."""
        self._file.close()


class Intake:
    """Offers what was noticed to the backlog; with --keep-source it remembers what is done.

    `turned_away`: when the backlog last had no room, in seconds on the monotonic clock.
    """

    def __init__(
        self, recovery: Recovery, backlog: Backlog, observer: EngineObserver, kept: ProcessedFiles | None
    ) -> None:
        self._recovery = recovery
        self._backlog = backlog
        self._observer = observer
        self._kept = kept
        self.turned_away = -inf

    def offer(self, path: str, root: int, source: str) -> str:
        """A path was noticed. Looked up at once, so that what is already gone, because it is done, is no arrival."""
        if is_temporary(os.path.basename(path)):
            return ""
        try:
            status = os.lstat(path)
        except OSError:
            return ""
        if stat.S_ISDIR(status.st_mode) or (self._kept and self._kept.holds(path, status)):
            return ""
        now = time.monotonic()
        arrival = Arrival(path, root, status.st_ctime_ns, source, size=status.st_size, noticed=now)
        answer = self._backlog.offer(arrival)
        if answer == NEW:
            self._observer.discovered(source)
        elif answer == FULL:
            self.turned_away = now
        return answer

    def requeue_claims(self) -> int:
        """Claims that an earlier run left are done again, oldest first; how many."""
        found = self._recovery.left_behind()
        self._backlog.put_back(found)
        for _ in found:
            self._observer.discovered("startup")
        for orphans in self._recovery.orphans():
            log.warning("%s; %s", orphans.text(), orphans.remedy())
        return len(found)

    def done(self, path: str) -> None:
        """The file that was offered under `path` is finished."""
        if self._kept:
            self._kept.add(path)

    def close(self) -> None:
        """Give back what is open."""
        if self._kept:
            self._kept.close()

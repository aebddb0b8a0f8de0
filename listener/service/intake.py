"""The single entry of arrivals, and the list of files that `--keep-source` has processed."""

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
    """Receives what the engine does: for metrics, events, progress."""

    def discovered(self, source: str) -> None:
        """A file entered; `source` is one of records.SOURCES."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are finished."""

    def deferred(self, deferral: Deferral) -> None:
        """A file was deferred."""

    def lost(self, lost: WorkerExit) -> None:
        """A worker died and was replaced."""


_LENGTH = 16


class ProcessedFiles:
    """The set of processed files, stored below `state_dir`: 16 bytes a file there, about 100 in memory."""

    def __init__(self, state_dir: str) -> None:
        self._file = open(os.path.join(state_dir, "kept"), "a+b", buffering=0)  # noqa: SIM115 - close() does
        self._file.seek(0)
        data = self._file.read()
        whole = len(data) - len(data) % _LENGTH
        self._file.truncate(whole)
        self._done = {data[start : start + _LENGTH] for start in range(0, whole, _LENGTH)}
        self._offered: dict[str, bytes] = {}

    def holds(self, path: str, status: os.stat_result) -> bool:
        """Return whether this file was processed; if not, remember it as offered."""
        identity = f"{status.st_ino} {status.st_size} {status.st_mtime_ns} ".encode() + os.fsencode(path)
        key = blake2b(identity, digest_size=_LENGTH).digest()
        if key in self._done:
            return True
        self._offered[path] = key
        return False

    def add(self, path: str) -> None:
        """Record the file that was offered under `path` as processed; one that replaced it meanwhile is not."""
        key = self._offered.pop(path, None)
        if key is not None and key not in self._done:
            self._done.add(key)
            self._file.write(key)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Intake:
    """Offers files to the backlog; with --keep-source skips those that were processed.

    `came`: when a file was last taken into the backlog, `turned_away`: when the backlog was last full, in seconds on
    the monotonic clock.
    """

    def __init__(
        self, recovery: Recovery, backlog: Backlog, observer: EngineObserver, kept: ProcessedFiles | None
    ) -> None:
        self._recovery = recovery
        self._backlog = backlog
        self._observer = observer
        self._kept = kept
        self.came = self.turned_away = -inf

    def offer(self, path: str, root: int, source: str) -> str:
        """Offer a path to the backlog and return its answer; "" if it is not a file, is gone, or was processed."""
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
            self.came = now
            self._observer.discovered(source)
        elif answer == FULL:
            self.turned_away = now
        return answer

    def requeue_claims(self) -> int:
        """Queue the claims of an earlier run, oldest first, and return how many."""
        claims = self._recovery.left_behind()
        self._backlog.put_back(claims)
        for _ in claims:
            self._observer.discovered("startup")
        for orphans in self._recovery.orphans():
            log.warning("%s; %s", orphans.text(), orphans.remedy())
        return len(claims)

    def done(self, path: str) -> None:
        """Record that the file that was offered under `path` is finished."""
        if self._kept:
            self._kept.add(path)

    def close(self) -> None:
        """Close the list of processed files."""
        if self._kept:
            self._kept.close()

"""How files come in: whatever noticed them, all through one door."""

from __future__ import annotations

import os
import stat
import time
from math import inf

from listener.diagnostics import log
from listener.planning.names import is_temporary
from listener.records import Arrival
from listener.service.backlog import FULL, NEW, Backlog
from listener.service.casualties import Casualties
from listener.service.kept import Kept
from listener.service.listens import Listens


class Intake:
    """Offers what was noticed to the backlog; with --keep-source it remembers what is done.

    `turned_away`: when the backlog last had no room, in seconds on the monotonic clock.
    """

    def __init__(self, casualties: Casualties, backlog: Backlog, listens: Listens, kept: Kept | None) -> None:
        self._casualties = casualties
        self._backlog = backlog
        self._listens = listens
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
            self._listens.discovered(source)
        elif answer == FULL:
            self.turned_away = now
        return answer

    def requeue_claims(self) -> int:
        """Claims that an earlier run left are done again, oldest first; how many."""
        found = self._casualties.left_behind()
        self._backlog.put_back(found)
        for _ in found:
            self._listens.discovered("startup")
        for orphans in self._casualties.orphans():
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

"""`<state>/ledger.behind-<listener>`: a file whose time of modification says since when outcomes are not recorded.

It is there while the ledger cannot be written, so that the next start counts again what was published since, also where
the ledger that could have told it is damaged or gone. Empty, because it is made when a volume may be full.
"""

from __future__ import annotations

import contextlib
import os


class Behind:
    """`earlier_ns`: what an earlier run left, in nanoseconds since the epoch; 0 for nothing. Nothing here raises for a
    volume that refuses: it is tried again.
    """

    def __init__(self, state: str, owner: str) -> None:
        self._path = os.path.join(state, f"ledger.behind-{owner}")
        try:
            self.earlier_ns = os.stat(self._path).st_mtime_ns
        except OSError:
            self.earlier_ns = 0
        self._is_there = bool(self.earlier_ns)

    def begin(self, since_ns: int) -> None:
        """Outcomes since then are not recorded; an earlier moment stays."""
        if self._is_there:
            return
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.utime(self._path, ns=(since_ns, since_ns))
            self._is_there = True

    def end(self) -> None:
        """Everything is recorded."""
        if self._is_there:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
                self._is_there, self.earlier_ns = False, 0

"""Whether another listener that shares the ledger takes in the files of a series now."""

from __future__ import annotations

import contextlib
import time

from listener.service.lock import is_owned
from listener.status import snapshot
from listener.status.document import is_running


class OtherListeners:
    """`state_dir` is the state directory whose service counts for series without a known incoming directory; "": it is
    this service's own.
    """

    #: How long an answer is reused, in seconds: a check takes the directory's lock for a moment.
    GOOD_FOR = 10.0

    def __init__(self, state_dir: str = "") -> None:
        self._state_dir = state_dir
        self._answers: dict[str, tuple[float, bool]] = {}

    def work_on(self, root: str) -> bool:
        """Return whether a listener takes files from this incoming directory now (as the ledger names it)."""
        now = time.monotonic()
        asked, answer = self._answers.get(root, (-self.GOOD_FOR, False))
        if now - asked >= self.GOOD_FOR:
            answer = is_owned(root) if root else self._service_runs()
            self._answers[root] = now, answer
        return answer

    def _service_runs(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._state_dir) and is_running(snapshot.read(self._state_dir), time.time_ns())
        return False

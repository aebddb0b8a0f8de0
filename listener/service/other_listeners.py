"""Other listeners that share a ledger: whether one of them takes in the files of a series."""

from __future__ import annotations

import contextlib
import time

from listener.service.lock import is_owned
from listener.status import snapshot
from listener.status.document import runs


class OtherListeners:
    """`state` is the state directory whose running service is asked for series of which nobody knows where they came
    from; "": the asker is that service.
    """

    #: How long an answer is good, in seconds: asking takes the directory's lock for a moment.
    GOOD_FOR = 10.0

    def __init__(self, state: str = "") -> None:
        self._state = state
        self._answers: dict[str, tuple[float, bool]] = {}

    def work_on(self, root: str) -> bool:
        """Whether one of them takes files from this incoming directory now (as the ledger names it)."""
        now = time.monotonic()
        asked, answer = self._answers.get(root, (-self.GOOD_FOR, False))
        if now - asked >= self.GOOD_FOR:
            answer = is_owned(root) if root else self._service_runs()
            self._answers[root] = now, answer
        return answer

    def _service_runs(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._state) and runs(snapshot.read(self._state), time.time_ns())
        return False

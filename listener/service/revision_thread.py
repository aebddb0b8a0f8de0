"""A thread that has corrected series revised by a process of its own (revision_process.py); it exists only while
series wait.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from listener.config import Config
from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.disk.retry import pause
from listener.repacking.context import CLAIM
from listener.repacking.revision import Revision, merge
from listener.service.protocol import WorkerConfig
from listener.service.revision_process import Request, Revised

#: Delay of a revision after the last correction of its series, in seconds: a series that is sent again is revised a few
#: times, not once a file. And the delay of a second revision, for documents that workers had cached until then.
_GATHER, _AGAIN = 1.0, 3.0

#: Tries of a series; after them `verify` names what is left, and the end of the series offers it again.
_TRIES = 10

#: How long one process may take, in seconds.
_LONGEST = 300.0


class _Waiting(NamedTuple):
    revision: Revision
    due: float
    tries: int = 0
    again: bool = True


class RevisionThread:
    """Takes revisions from any thread (`offer`) and returns their results (`take`), after a call of `wake`."""

    def __init__(
        self,
        config: Config,
        directories: Directories,
        wake: Callable[[], None] = lambda: None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._worker_config = WorkerConfig(config, directories, CLAIM)
        self._wake = wake
        self._keep_open = tuple(keep_open)
        self._waiting: dict[str, _Waiting] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._done: list[Revised] = []

    def offer(self, revisions: Iterable[Revision]) -> None:
        """Queue the revision of corrected series."""
        due = time.monotonic() + _GATHER
        with self._lock:
            for revision in revisions:
                known = self._waiting.get(revision.SeriesInstanceUID)
                wanted = merge(known.revision, revision) if known else revision
                self._waiting[revision.SeriesInstanceUID] = _Waiting(wanted, due)
            if self._waiting and self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="revisions", daemon=True)
                self._thread.start()
        self._changed.set()

    def take(self) -> list[Revised]:
        """Return what was revised since the last call."""
        if not self._done:
            return []
        with self._lock:
            done, self._done = self._done, []
        return done

    def finish(self, seconds: float) -> None:
        """Revise all that waits, for about `seconds`, after the workers have ended; nothing is begun afterwards."""
        self._closing = True
        self._changed.set()
        thread, end = self._thread, time.monotonic() + seconds
        if thread:
            thread.join(seconds)
        while (due := self._due(float("inf"))) and time.monotonic() < end:
            self._revise([waiting._replace(again=False) for waiting in due], end - time.monotonic())
            if self._waiting:
                time.sleep(0.2)
        if self._process:  # It hangs in a system call, and its inherited locks would keep the next start out.
            self._process.kill()
        if self._waiting:
            log.warning(
                "%d corrected series were not revised in time; 'listener verify' names them", len(self._waiting)
            )

    # -- its own thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            due = self._due(time.monotonic())
            if due:
                self._revise(due, _LONGEST)
                self._wake()
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
            self._changed.wait(_GATHER / 2)
            self._changed.clear()

    def _due(self, now: float) -> list[_Waiting]:
        with self._lock:
            due = [waiting for waiting in self._waiting.values() if waiting.due <= now]
            for waiting in due:
                del self._waiting[waiting.revision.SeriesInstanceUID]
        return due

    def _revise(self, due: Sequence[_Waiting], seconds: float) -> None:
        request = Request(self._worker_config, [waiting.revision for waiting in due])
        done = self.run_process(request, max(1.0, seconds))
        now = time.monotonic()
        with self._lock:
            self._done += done
            results = {result.revision.SeriesInstanceUID: result for result in done}
            for waiting in due:
                result = results.get(waiting.revision.SeriesInstanceUID)
                if result is None or result.refused:
                    self._retry(waiting, now, result.refused if result else "its process ended")
                elif waiting.again:
                    self._put(waiting.revision, now + _AGAIN, again=False)

    def _retry(self, waiting: _Waiting, now: float, why: str) -> None:
        tries = waiting.tries + 1
        if tries == 1:
            log.warning("a corrected series cannot be revised now (%s); it is tried again", why)
        if tries <= _TRIES:
            self._put(waiting.revision, now + pause(tries, 30.0), tries=tries, again=waiting.again)

    def _put(self, revision: Revision, due: float, *, tries: int = 0, again: bool) -> None:
        self._waiting.setdefault(revision.SeriesInstanceUID, _Waiting(revision, due, tries, again))

    def run_process(self, request: Request, seconds: float) -> list[Revised]:
        """Return the results of a process; none if it dies or takes longer than `seconds`."""
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "listener.service.revision_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=self._keep_open,
            ) as self._process:
                return self._communicate(self._process, pickle.dumps(request, pickle.HIGHEST_PROTOCOL), seconds)
        except OSError:
            return []
        finally:
            self._process = None

    def _communicate(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> list[Revised]:
        try:
            output, _ = process.communicate(request, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return []
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            return [Revised._make(fields) for fields in pickle.loads(output)]  # noqa: S301 - our own process
        return []

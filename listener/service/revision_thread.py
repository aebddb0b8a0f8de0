"""Has series revised that were corrected: a thread that waits for the process which does it, only while there is
something to do.
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

#: A series is revised so long after its last correction, in seconds: a series that is sent again is revised a few
#: times, not once a file. Once more after the second time, for workers that trusted documents until then.
_GATHER, _AGAIN = 1.0, 3.0

#: A series is tried so often; what is left then is named by `verify`, and seen again when the series ends.
_TRIES = 10

#: How long one burst may take beside its files' deadline, in seconds.
_LONGEST = 300.0


class _Waiting(NamedTuple):
    revision: Revision
    due: float
    tries: int = 0
    again: bool = True


class RevisionThread:
    """Revisions in (`offer`, from any thread), what was set aside out (`take`); `wake` is called when there is some."""

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
        """These series were corrected."""
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
        """What was revised since the last call."""
        if not self._done:
            return []
        with self._lock:
            done, self._done = self._done, []
        return done

    def finish(self, seconds: float) -> None:
        """Revise what waits, now, for about so long, after the workers have ended; nothing is begun after it."""
        self._closing = True
        self._changed.set()
        thread, end = self._thread, time.monotonic() + seconds
        if thread:
            thread.join(seconds)
        while (due := self._due(float("inf"))) and time.monotonic() < end:
            self._revise([one._replace(again=False) for one in due], end - time.monotonic())
            if self._waiting:
                time.sleep(0.2)
        if self._process:  # It hangs in a system call; what it holds would keep the next start out.
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
            due = [one for one in self._waiting.values() if one.due <= now]
            for one in due:
                del self._waiting[one.revision.SeriesInstanceUID]
        return due

    def _revise(self, due: Sequence[_Waiting], seconds: float) -> None:
        request = Request(self._worker_config, [one.revision for one in due])
        done = self._asked(request, max(1.0, seconds))
        now = time.monotonic()
        with self._lock:
            self._done += done
            told = {one.revision.SeriesInstanceUID: one for one in done}
            for one in due:
                result = told.get(one.revision.SeriesInstanceUID)
                if result is None or result.refused:
                    self._later(one, now, result.refused if result else "its process ended")
                elif one.again:
                    self._put(one.revision, now + _AGAIN, again=False)

    def _later(self, one: _Waiting, now: float, why: str) -> None:
        if not one.tries:
            log.warning("a corrected series cannot be revised now (%s); it is tried again", why)
        if one.tries < _TRIES:
            self._put(one.revision, now + pause(one.tries + 1, 30.0), tries=one.tries + 1, again=one.again)

    def _put(self, revision: Revision, due: float, *, tries: int = 0, again: bool) -> None:
        self._waiting.setdefault(revision.SeriesInstanceUID, _Waiting(revision, due, tries, again))

    def _asked(self, request: Request, seconds: float) -> list[Revised]:
        """The answer of a process; nothing when it dies or takes too long."""
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "listener.service.revision_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=self._keep_open,
            ) as self._process:
                return self._answer_of(self._process, pickle.dumps(request, pickle.HIGHEST_PROTOCOL), seconds)
        except OSError:
            return []
        finally:
            self._process = None

    def _answer_of(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> list[Revised]:
        try:
            told, _ = process.communicate(request, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return []
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            return [Revised._make(one) for one in pickle.loads(told)]  # noqa: S301 - our own process
        return []

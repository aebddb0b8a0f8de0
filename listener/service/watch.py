"""How arrivals are noticed: close-write events (watchdog), and sweeps that find whatever events missed.

An exception in a watchdog thread ends it for good while the process looks healthy, so that thread only puts a path into
a bounded inbox. No event source is trusted: sweeps go on for ever.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable

from watchdog.events import FileClosedEvent, FileSystemEventHandler

from listener.diagnostics import log
from listener.planning.names import OWN
from listener.service.inbox import Inbox
from listener.service.inotify import CloseWriteObserver

#: Where watchdog tells of a queue overflow, which it does nowhere else.
_LOGGERS = ("watchdog.observers.inotify_c", "watchdog.observers.inotify")
_LIMITS = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)


class _Overflow(logging.Handler):
    """watchdog tells of a queue overflow only by a log record."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._tell()


def rest_for(fsync: str) -> float:
    """How long events may wait for others to come along, in seconds: longer where the disk is waited for anyhow."""
    return 0.0015 if fsync == "none" else 0.004


class Watch:
    """A watchdog observer over the incoming directories, made again when it can no longer be believed.

    `rest` is how many seconds an event may wait for others to come along (see inotify.py).

    `polling` says that sweeps alone find the files: asked for (--poll), or because inotify cannot work here.
    """

    def __init__(self, roots: tuple[str, ...], inbox: Inbox, *, polling: bool = False, rest: float = 0.0) -> None:
        self._roots = roots
        self._inbox = inbox
        self._wanted = not polling
        self._rest = rest
        self.polling = polling
        self._observer: CloseWriteObserver | None = None
        self._identities: list[tuple[int, int]] = []
        self._overflow = _Overflow(self._overflowed)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._overflow)

    def _overflowed(self) -> None:
        self._inbox.overflowed = True
        self._inbox.wake()

    def root_of(self, path: str) -> int:
        """The index of the incoming directory that `path` lies in; -1 for our own files and strangers."""
        for index, root in enumerate(self._roots):
            if path.startswith(root + "/"):
                return -1 if path.startswith(f"{root}/{OWN}/") else index
        return -1

    def ensure(self) -> None:
        """Watch, or watch again: a root may have been replaced, and an emitter may have died without a word."""
        if not self._wanted or self.alive():
            return
        if self._observer is not None:
            log.warning(
                "the watch on incoming was lost (its directory was replaced, or a thread ended); watching again"
            )
        self.stop()
        problem = self._start()
        if problem and not self.polling:
            log.warning("%s", problem)
        self.polling = bool(problem)

    def _start(self) -> str:
        """Watch all roots; "" when it works, else why inotify cannot."""
        observer: CloseWriteObserver | None = None
        try:
            observer = CloseWriteObserver(self._inbox.put, self._rest)  # Takes its inotify instance at once.
            # Only close-write: with moved or created events watchdog holds everything back for half a second.
            for root in self._roots:
                observer.schedule(FileSystemEventHandler(), root, recursive=True, event_filter=[FileClosedEvent])
            self._identities = [_identity(root) for root in self._roots]
            observer.start()
        except OSError as error:
            if observer is not None:
                _stop(observer)
            return _explain(error)
        self._observer = observer
        return ""

    def alive(self) -> bool:
        """Whether the observer and each of its emitters live and every root is still the directory that is watched."""
        observer = self._observer
        if observer is None or not observer.is_whole() or len(observer.emitters) < len(self._roots):
            return False
        return self._identities == [_identity(root) for root in self._roots]

    def stop(self) -> None:
        """End the observer's threads."""
        if self._observer is not None:
            _stop(self._observer)
            self._observer = None

    def close(self) -> None:
        """Stop, and take back the handlers."""
        self.stop()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._overflow)


def _stop(observer: CloseWriteObserver) -> None:
    with contextlib.suppress(RuntimeError):  # never started
        observer.stop()
        observer.join(5)


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _explain(error: OSError) -> str:
    if error.errno in _LIMITS:
        return (
            f"inotify's limit for this user is reached ({error.strerror}); raise fs.inotify.max_user_instances or "
            "fs.inotify.max_user_watches; until then sweeps alone find the files"
        )
    return f"inotify cannot be used here ({error.strerror}); sweeps alone find the files"

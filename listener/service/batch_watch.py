"""Sees folders renamed or moved into the directories of batches. What it misses, scans find.

watchdog holds a move for half a second, to see whether its other half comes: too long for incoming, so that this is an
observer of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence

from watchdog.events import DirMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver

from listener.diagnostics import log


class _Handler(FileSystemEventHandler):
    """Notes where directories were moved to, and calls `wake`; in watchdog's thread."""

    def __init__(self, paths: deque[str], wake: Callable[[], None]) -> None:
        self._paths = paths
        self._wake = wake

    def on_moved(self, event: FileSystemEvent) -> None:
        """Note a move; one to elsewhere has no destination."""
        if event.is_directory and event.dest_path:
            self._paths.append(os.fsdecode(event.dest_path))
            self._wake()


class BatchWatch:
    """An observer over directories, not over what is below; `wake` is called, from another thread, when `take` has
    something.
    """

    def __init__(self, roots: Sequence[str], wake: Callable[[], None]) -> None:
        self._roots = roots
        self._paths: deque[str] = deque()
        self._handler = _Handler(self._paths, wake)
        self._observer: InotifyObserver | None = None
        self._watched: list[tuple[int, int]] = []
        self._failed = False

    def take(self) -> list[str]:
        """Return where directories were moved to since the last call."""
        return [self._paths.popleft() for _ in range(len(self._paths))]

    def ensure(self) -> None:
        """Begin to watch, or begin anew if a directory was replaced or a thread ended. Where that cannot be, scans see
        renames as long as a folder was seen under both names.
        """
        now = [_identity(root) for root in self._roots]
        if self._observer and now == self._watched and all(one.is_alive() for one in self._observer.emitters):
            return
        self.close()
        try:
            # With full events a move from elsewhere is a move too, without a source.
            observer = self._observer = InotifyObserver(generate_full_events=True)
            for root in self._roots:
                observer.schedule(self._handler, root, recursive=False, event_filter=[DirMovedEvent])
            observer.start()
            self._watched, self._failed = now, False
        except OSError as error:
            self.close()
            if not self._failed:
                log.warning("directories of batches cannot be watched (%s); scans find what comes", error.strerror)
            self._failed = True

    def close(self) -> None:
        """End the observer."""
        if self._observer is not None:
            with contextlib.suppress(RuntimeError):  # never started
                self._observer.stop()
                self._observer.join(5)
            self._observer = None


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino

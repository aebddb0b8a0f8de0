"""Observers of close-writes: the fast one on watchdog's inner classes where these are as expected, else one that uses
its public API alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from watchdog import version
from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

Put = Callable[[str], None]

#: The release whose inner classes inotify.py was written for and tested with.
_KNOWN = "7.1."


class Source(Protocol):
    """What a watch needs of an observer. `fileno` is readable when there are events; `read` passes their paths on."""

    @property
    def emitters(self) -> Collection[Any]:
        """The threads, one for each watched directory."""

    def add(self, root: str) -> None:
        """Watch a directory and all below it. Raises OSError."""

    def start(self) -> None:
        """Start the threads. Raises OSError."""

    def stop(self) -> None:
        """End the threads."""

    def join(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds for their end."""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""

    def read(self) -> None:
        """Read the events and pass their paths on."""

    def is_alive(self) -> bool:
        """Return whether its main thread is alive."""

    def is_whole(self) -> bool:
        """Return whether all its threads are alive."""


class PublicObserver:
    """watchdog's observer by its documented methods alone. Its thread queues paths, which `read` passes to `put`."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._paths: deque[str] = deque()
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._observer = Observer()
        self._handler = _Handler(self._paths, self._signal)

    @property
    def emitters(self) -> Collection[Any]:
        """The threads, one for each watched directory."""
        return tuple(self._observer.emitters)

    def add(self, root: str) -> None:
        """Watch a directory and all below it. Raises OSError."""
        self._observer.schedule(self._handler, root, recursive=True, event_filter=[FileClosedEvent])

    def start(self) -> None:
        """Start the threads. Raises OSError."""
        self._observer.start()

    def is_alive(self) -> bool:
        """Return whether its main thread is alive."""
        return self._observer.is_alive()

    def stop(self) -> None:
        """End the threads."""
        self._observer.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds for their end. Raises RuntimeError if it was never started."""
        try:
            self._observer.join(timeout)
        finally:
            # A thread that is still alive may write to it: the number must not become another file's.
            if self._signal >= 0 and not self._observer.is_alive():
                os.close(self._signal)
                self._signal = -1

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events."""
        return self._signal

    def read(self) -> None:
        """Pass the queued paths to `put`."""
        os.eventfd_read(self._signal)
        while self._paths:
            self._put(self._paths.popleft())

    def is_whole(self) -> bool:
        """Return whether all its threads are alive."""
        return self._observer.is_alive() and all(thread.is_alive() for thread in self.emitters)


class _Handler(FileSystemEventHandler):
    def __init__(self, paths: deque[str], signal: int) -> None:
        self._paths = paths
        self._signal = signal

    def on_closed(self, event: FileSystemEvent) -> None:
        if not event.is_directory:
            self._paths.append(os.fsdecode(event.src_path))
            os.eventfd_write(self._signal, 1)


def short_way() -> Callable[[Put], Source] | None:
    """Return the observer of inotify.py; None if watchdog is another release than that was written for, or lacks a
    class or method.
    """
    if not str(getattr(version, "VERSION_STRING", "")).startswith(_KNOWN):
        return None
    try:
        from listener.service.inotify import CloseWriteObserver, lacking
    except (ImportError, AttributeError, TypeError):  # A name is gone, or a class has changed.
        return None
    return None if lacking() else CloseWriteObserver

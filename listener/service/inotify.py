"""watchdog's inotify observer with a shortcut for close-writes, which the service's loop reads itself.

Through watchdog an event passes three threads and two queues, and each created file is an event too, since new
directories must be watched: 150 us of CPU a file. Here no thread waits for inotify: its descriptor is readable, and
`read` takes close-writes at once and drops the creation of files. All other events (new and moved directories, deleted
roots, overflows) are passed to watchdog.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from watchdog.events import FileClosedEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyObserver, InotifyWatchGroup
from watchdog.observers.inotify_c import DEFAULT_EVENT_BUFFER_SIZE, InotifyConstants, InotifyEvent, InotifyFD

_CLOSED = InotifyConstants.IN_CLOSE_WRITE
_CREATED = InotifyConstants.IN_CREATE
_DIRECTORY = InotifyConstants.IN_ISDIR
_OVERFLOW = InotifyConstants.IN_Q_OVERFLOW

Put = Callable[[str], None]


#: Inner methods of watchdog that the classes below call or override, by class: a minor release may change them.
_INNER = {
    InotifyFD: ("_parse_event_buffer", "_read_event_buffer", "handle_event", "read_events", "close"),
    InotifyWatchGroup: ("_build_event_source_path", "on_event"),
    InotifyEmitter: ("on_thread_start", "get_event_mask_from_filter"),
}


def lacking() -> list[str]:
    """Return the methods of watchdog's inner classes that this module needs and that are missing."""
    return [f"{kind.__name__}.{name}" for kind, names in _INNER.items() for name in names if not hasattr(kind, name)]


class _Reader(InotifyFD):
    """The inotify instance. For watchdog it is a thread, which is never started here."""

    def __init__(self) -> None:
        super().__init__()
        self._is_reading = False  # No thread reads: it can be closed at once.

    def fileno(self) -> int:
        return self._inotify_fd

    def is_open(self) -> bool:
        return not self._closed

    def join(self, timeout: float | None = None) -> None:
        """Return at once: no thread was started."""

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        events = self._parse_event_buffer(self._read_event_buffer(event_buffer_size))
        # As watchdog does, but without created files: an InotifyEvent is slow to make.
        return [
            InotifyEvent(wd, mask, cookie, name)
            for wd, mask, cookie, name in events
            if mask & (_CREATED | _DIRECTORY) != _CREATED and (wd != -1 or mask & _OVERFLOW)
        ]


@dataclass
class _Group(InotifyWatchGroup):
    """The watches of one incoming directory."""

    put: Put = field(kw_only=True)

    def on_event(self, event: InotifyEvent) -> None:
        if event.mask & (_CLOSED | _DIRECTORY) == _CLOSED:
            path = self._build_event_source_path(event)
            if path is not None:
                self.put(os.fsdecode(path))
            return
        super().on_event(event)


class _Emitter(InotifyEmitter):
    """The thread for one watched directory."""

    def __init__(self, *args: Any, put: Put, **more: Any) -> None:
        super().__init__(*args, **more)
        self._put = put

    def on_thread_start(self) -> None:
        self._inotify = _Group(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            is_recursive=self.watch.is_recursive,
            event_mask=self.get_event_mask_from_filter(),
            put=self._put,
        )


class CloseWriteObserver(InotifyObserver):
    """Calls `put` with the path of each file that was closed after writing, from `read`.

    Raises OSError where inotify's limits are reached.
    """

    def __init__(self, put: Put) -> None:
        self._reader = self._inotify_fd = _Reader()
        BaseObserver.__init__(self, _Emitter, inotify_fd=self._inotify_fd, put=put)

    def add(self, root: str) -> None:
        """Watch a directory and all below it. Raises OSError."""
        # Only close-write: with moved or created events watchdog holds everything back for half a second.
        self.schedule(FileSystemEventHandler(), root, recursive=True, event_filter=[FileClosedEvent])

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events."""
        return self._reader.fileno()

    def read(self) -> None:
        """Read the events and call `put`; blocks while there are none."""
        for event in self._reader.read_events():
            self._reader.handle_event(event)

    def is_whole(self) -> bool:
        """Return whether all threads are alive and inotify is open."""
        return self._reader.is_open() and all(thread.is_alive() for thread in (self, *self.emitters))

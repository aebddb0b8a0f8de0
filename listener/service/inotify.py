"""watchdog's inotify observer with a short way for the one event that matters.

On watchdog's own way an event passes three threads and two queues, and each created file is an event too, since new
directories must be watched: 150 us of CPU for a file. Here the thread that reads inotify hands close-writes straight to
the inbox and drops the creation of files; all else (new and moved directories, deleted roots, overflows) goes
watchdog's way. After each reading it rests a moment: where files come fast, it then takes several at once, and the
loop and the workers behind it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyObserver, InotifyWatchGroup
from watchdog.observers.inotify_c import DEFAULT_EVENT_BUFFER_SIZE, InotifyConstants, InotifyEvent, InotifyFD

_CLOSED = InotifyConstants.IN_CLOSE_WRITE
_CREATED = InotifyConstants.IN_CREATE
_DIRECTORY = InotifyConstants.IN_ISDIR
_OVERFLOW = InotifyConstants.IN_Q_OVERFLOW

Put = Callable[[str], None]


class _Reader(InotifyFD):
    """The thread that reads inotify, and rests so many seconds after each reading."""

    def __init__(self, rest: float) -> None:
        super().__init__()
        self._rest = rest

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        self.stopped_event.wait(self._rest)
        events = self._parse_event_buffer(self._read_event_buffer(event_buffer_size))
        # As watchdog's, but for created files: an InotifyEvent takes its time to make.
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
    """What watchdog has one of for each watched directory."""

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
    """Calls `put` with the path of each file that was closed after writing, from a thread of its own, at most `rest`
    seconds (and what the machine needs) after the moment. OSError where inotify's limits are reached.
    """

    def __init__(self, put: Put, rest: float) -> None:
        self._inotify_fd = _Reader(rest)
        self._inotify_fd.start()
        BaseObserver.__init__(self, _Emitter, inotify_fd=self._inotify_fd, put=put)

    def is_whole(self) -> bool:
        """Whether all its threads live."""
        threads = (self, self._inotify_fd, *self.emitters)
        return all(thread.is_alive() for thread in threads)

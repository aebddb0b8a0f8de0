"""The watch on incoming: close-write events by watchdog. Rescans find what events miss.

A watch that raised, or lost its root or a thread, is recreated; rescans go on in any case.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

from listener.diagnostics import log
from listener.planning.names import OWN
from listener.service import observers
from listener.service.observers import PublicObserver, Source

#: Loggers of watchdog, the only place where it reports a queue overflow.
_LOGGERS = ("watchdog.observers.inotify_c", "watchdog.observers.inotify")

#: Reports readiness once, until it is modified again.
_ONCE = select.EPOLLIN | select.EPOLLONESHOT

#: How files are found, values of the metric watch_mode: by rescans alone, by watchdog's public observer, by the faster
#: one of inotify.py.
RESCANS, PUBLIC, SHORT = 0, 1, 2

_LIMITS = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)


class _Overflow(logging.Handler):
    """Calls `report` for watchdog's log record of a queue overflow."""

    def __init__(self, report: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._report()


def rest_for(fsync: str) -> float:
    """Return how long to collect events, in seconds: longer where each batch waits for the disk anyway."""
    return 0.001 if fsync == "none" else 0.004


class Watch:
    """A watchdog observer over the incoming directories, recreated after an error, a dead thread or a replaced root.

    When there are events, `selector` reports a key whose data is `on_events`; call `take` then. After each reading
    events are collected for `rest` seconds, until `opens` on the monotonic clock, so that where files come fast the
    loop and the workers take several at once.

    `polling` says that rescans alone find the files: asked for (--poll), or because inotify cannot work here;
    `overflowed` that events were lost since `take_overflow` was called last.
    """

    def __init__(
        self,
        roots: tuple[str, ...],
        selector: BaseSelector,
        on_events: Callable[[], object],
        *,
        polling: bool = False,
        rest: float = 0.0,
    ) -> None:
        self._roots = roots
        self._selector = selector
        self._on_events = on_events
        self._wanted = not polling
        self._public = False
        self._rest = rest
        self.polling = polling
        self.overflowed = False
        self.opens: float | None = None
        self._paths: list[str] = []
        self._observer: Source | None = None
        self._gate: select.epoll | None = None
        self._failed = False
        self._identities: list[tuple[int, int]] = []
        self._overflow = _Overflow(self._note_overflow)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._overflow)

    def _note_overflow(self) -> None:
        self.overflowed = True

    def take(self, now: float) -> list[str]:
        """Return the files that were closed since the last call, in order, each once; never raises.

        Call it when the selector reports, and when `now` has reached `opens`.
        """
        if self._gate is None or self._observer is None:
            return []
        try:
            if self.opens is not None:
                self._gate.modify(self._observer, _ONCE)
                self.opens = None
            if not self._gate.poll(0):
                return []
            self._observer.read()
        except Exception as error:  # noqa: BLE001 - whatever watchdog raises, files are found by rescans
            log.error("the watch on incoming failed (%s); a rescan finds what it missed", type(error).__name__)
            if not self._public and not isinstance(error, OSError):
                self._go_public("did not do what the short way expects of it")
            self._failed = self.overflowed = True
        self.opens = now + self._rest
        paths = list(dict.fromkeys(self._paths))
        self._paths.clear()
        return paths

    def take_overflow(self) -> bool:
        """Return whether events were lost since the last call."""
        lost, self.overflowed = self.overflowed, False
        return lost

    def root_of(self, path: str) -> int:
        """Return the index of the incoming directory of `path`; -1 for our own files and paths elsewhere."""
        for index, root in enumerate(self._roots):
            if path.startswith(root + "/"):
                return -1 if path.startswith(f"{root}/{OWN}/") else index
        return -1

    def ensure(self) -> None:
        """Start the watch, or recreate it if a root was replaced or a thread ended."""
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
        """Watch all roots; return "" or why inotify cannot."""
        observer: Source | None = None
        try:
            observer = self._make()(self._paths.append)  # Opens its inotify instance.
            for root in self._roots:
                observer.add(root)
            self._identities = [_identity(root) for root in self._roots]
            observer.start()
        except OSError as error:
            if observer is not None:
                _stop(observer)
            return _explain(error)
        except Exception as error:
            if self._public:
                raise
            self._go_public(f"failed ({type(error).__name__})")
            return self._start()
        self._observer = observer
        self._failed = False
        self._gate = select.epoll()
        self._gate.register(observer, _ONCE)
        self._selector.register(self._gate, EVENT_READ, self._on_events)
        return ""

    def _make(self) -> Callable[[Callable[[str], None]], Source]:
        way = None if self._public else observers.short_way()
        if way is None and not self._public:
            self._go_public("is not the release that the short way was written for")
        return way or PublicObserver

    def _go_public(self, why: str) -> None:
        self._public = True
        log.warning("watchdog %s: events come by its public observer from now on, at some more CPU for each file", why)

    @property
    def mode(self) -> int:
        """How files are found: SHORT, PUBLIC or RESCANS."""
        if self.polling or self._observer is None:
            return RESCANS
        return PUBLIC if self._public else SHORT

    def alive(self) -> bool:
        """Return whether all threads of the observer are alive and every root is the directory that is watched."""
        observer = self._observer
        if observer is None or self._failed or not observer.is_whole() or len(observer.emitters) < len(self._roots):
            return False
        return self._identities == [_identity(root) for root in self._roots]

    def stop(self) -> None:
        """Stop the observer."""
        self.opens = None
        if self._gate is not None:
            self._selector.unregister(self._gate)
            self._gate.close()
            self._gate = None
        if self._observer is not None:
            _stop(self._observer)
            self._observer = None

    def close(self) -> None:
        """Stop the observer and remove the log handlers."""
        self.stop()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._overflow)


def _stop(observer: Source) -> None:
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
            "fs.inotify.max_user_watches; until then rescans alone find the files"
        )
    return f"inotify cannot be used here ({error.strerror}); rescans alone find the files"

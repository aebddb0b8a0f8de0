"""Write diagnostics to standard error, free of patient data: JSON lines for programs, plain text on a terminal."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

import orjson

from listener.planning.names import instant, printable

log = logging.getLogger("listener")

_COLOURS = {"warning": "\033[33m", "error": "\033[31m"}
_PLAIN = "\033[0m"

#: How long a line waits for a reader, in seconds. The next ones do not wait until it reads again.
_MOMENT = 0.2


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": instant(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "text": printable(record.getMessage()),
        }
        line |= getattr(record, "fields", {})
        return orjson.dumps(line).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        colour = _COLOURS.get(level, "") if in_colour(sys.stderr) else ""
        named = "" if level == "info" else f"{level}: "
        return f"{colour}listener: {named}{record.getMessage()}{_PLAIN if colour else ''}"


class _UnblockingHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream whose reader may hang. Lines that it does not take within `_MOMENT` seconds are counted,
    and their number is written when it reads again.
    """

    # A terminal that is held, or a log collector that hangs, must not hold the intake.

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_read(self.stream, 0 if self._left_out else _MOMENT):
            self._left_out += 1
            return
        if self._left_out:
            text, self._left_out = f"standard error was not read: {self._left_out} lines left out", 0
            super().emit(logging.LogRecord(log.name, logging.WARNING, "", 0, text, None, None))
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Do nothing: standard error lies on a full disk or its reader is gone, so there is no place for a message."""


def in_colour(stream: TextIO) -> bool:
    """Return whether to write in colours: on a terminal unless NO_COLOR (https://no-color.org) is set, not empty."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def has_room(descriptor: int, seconds: float) -> bool:
    """Return whether a page (4 KiB) can be written without waiting, now or within `seconds`."""
    return bool(select.select([], [descriptor], [], max(0.0, seconds))[1])


def _is_read(stream: TextIO, seconds: float) -> bool:
    try:
        return has_room(stream.fileno(), seconds)
    except (OSError, ValueError):  # No descriptor (a test's buffer), or closed: writing will tell.
        return True


class _Count(logging.Handler):
    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        self._count(record.levelname.lower())


def set_up(level: str) -> None:
    """Write diagnostics of `level` and above to standard error."""
    handler = _UnblockingHandler(sys.stderr)
    handler.setFormatter(_Text() if sys.stderr.isatty() else _Lines())
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())
    # watchdog's messages name paths below incoming; what matters of them is logged by service.watch.
    logging.getLogger("watchdog").propagate = False


def count_into(count: Callable[[str], None]) -> None:
    """Call `count` with the level of each record that is logged from now on."""
    log.addHandler(_Count(count))

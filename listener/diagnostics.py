"""Diagnostics on standard error: JSON lines for programs, readable text on a terminal. Free of patient data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import orjson

from listener.planning.names import instant, printable

log = logging.getLogger("listener")

_COLOURS = {"warning": "\033[33m", "error": "\033[31m"}
_PLAIN = "\033[0m"


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
        colour = _COLOURS.get(level, "")
        named = "" if level == "info" else f"{level}: "
        return f"{colour}listener: {named}{record.getMessage()}{_PLAIN if colour else ''}"


class _Count(logging.Handler):
    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        self._count(record.levelname.lower())


def set_up(level: str) -> None:
    """Let diagnostics of `level` and above go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Text() if sys.stderr.isatty() else _Lines())
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())
    # watchdog's own words name paths below incoming; what matters of them is told by us.
    logging.getLogger("watchdog").propagate = False


def count_into(count: Callable[[str], None]) -> None:
    """Call `count` with the level of each record from now on."""
    log.addHandler(_Count(count))

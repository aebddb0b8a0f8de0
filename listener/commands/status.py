"""How it stands: series, rates, lag, backlog, what is set aside, disk; needs no running service.

It reads the state directory; what only a running service has is in the snapshot there (status/snapshot.py).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import orjson

from listener.config import Config
from listener.errors import StateUnreadable
from listener.planning.names import printable
from listener.status import ledger_view, snapshot
from listener.status.document import RUNNING, SCHEMA, DirectoryTotals, document
from listener.status.terminal import render

#: The period of --watch in seconds.
_EVERY = 1.0

#: Cursor to the upper left corner, and clear the screen.
_CLEAR = "\033[H\033[J"

EPILOG = "exit status: 0; 1 the state cannot be read"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("--watch", action="store_true", help="show it anew every second, until q or Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the status document, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the status once, or every second. Return 0, or 1 when the state cannot be read."""
    show = functools.partial(_print_json, given.config or "") if given.json else _print
    if not given.watch:
        found = _look(config)
        show(found)
        if given.config and not given.json:
            print(f"\noptions are read from '{printable(given.config)}'")
        return 0 if found["ledger"]["readable"] or found["ledger"]["missing"] else 1
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if sys.stdout.isatty() and not given.json:
            return _watch_on_screen(config)
        while True:
            show(_look(config))
            time.sleep(_EVERY)
    return 0


def _watch_on_screen(config: Config) -> int:
    """Show as much as fits, until q. Return 0; raise KeyboardInterrupt."""
    from listener.commands._keys import END, keys  # for --watch alone

    try:
        with keys(sys.stdin.fileno()) as key:
            foot = "q ends" if key else "Ctrl-C ends"
            while True:
                _draw(_look(config), foot)
                if key is None:
                    time.sleep(_EVERY)
                elif key(_EVERY) in ("q", "Q", END):
                    return 0
    finally:
        sys.stdout.write("\n")


def _look(config: Config) -> dict[str, Any]:
    word = snapshot.read(config.state)
    if word and word.get("schema") != SCHEMA:
        raise StateUnreadable("another version of listener runs here; ask that one")
    told = ledger_view.read(config.state)
    now = time.time_ns()
    found = document(word, None, told, now)
    if found["service"]["state"] in RUNNING:
        return found
    if word is None and told.missing:
        raise StateUnreadable(f"no listener has run with the state directory '{config.state}'")
    return document(word, _looked(config), told, now)


def _looked(config: Config) -> DirectoryTotals:
    from listener.repacking import setaside  # a third of the start, and needed only where no service runs

    named = {"incoming": config.roots[0], "data": config.data, "log": config.log, "state": config.state}
    volumes = {role: one for role, path in named.items() if (one := _volume(path))}
    return DirectoryTotals(setaside.totals(os.path.join(config.state, "set-aside")), volumes)


def _volume(path: str) -> dict[str, int | str]:
    try:
        found = os.statvfs(path)
    except OSError:  # It is not there, or was not named and is the default of another place.
        return {}
    return {
        "size": found.f_blocks * found.f_frsize,
        "available": found.f_bavail * found.f_frsize,
        "files": found.f_files,
        "files_free": found.f_favail,
        "id": f"{found.f_fsid:x}",
    }


def _print_json(config_file: str, found: Mapping[str, Any]) -> None:
    found = {**found, "config": printable(config_file)}
    sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _print(found: Mapping[str, Any]) -> None:
    sys.stdout.write(render(found))
    sys.stdout.flush()


def _draw(found: Mapping[str, Any], foot: str) -> None:
    columns, lines = shutil.get_terminal_size()
    shown = render(found, columns).splitlines()[: max(1, lines - 2)]
    sys.stdout.write("\n".join([_CLEAR + shown[0], *shown[1:], "", foot]))
    sys.stdout.flush()

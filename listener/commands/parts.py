"""The parts of a backfill: what is done and left, which parts are missing, how long it takes yet."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import orjson

from listener.config import Config

#: The period of --watch in seconds.
_EVERY = 2.0

#: Cursor to the upper left corner, and clear the screen.
_CLEAR = "\033[H\033[J"

EPILOG = "exit status: 0 every part has ended and nothing is left; 1 something is left or missing, or no part was begun"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("lists", nargs="*", metavar="LIST", help="a list of --files-from that must have been done")
    parser.add_argument("--watch", action="store_true", help="show it anew until no part runs, or Ctrl-C")
    parser.add_argument("--textfile", metavar="FILE", help="write metrics to FILE too, such as node_exporter reads")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print how the parts stand. Return 0 when all have ended and nothing is left, else 1."""
    from listener.backfill.parts import is_complete

    found = _look(config, given.lists)
    _print(found, as_json=given.json, clears=False)
    _write(found, given.textfile)
    if given.watch:
        with contextlib.suppress(KeyboardInterrupt):
            while found["states"]["running"]:
                time.sleep(_EVERY)
                found = _look(config, given.lists)
                _print(found, as_json=given.json, clears=sys.stdout.isatty())
                _write(found, given.textfile)
    return 0 if is_complete(found) else 1


def _look(config: Config, lists: list[str]) -> dict[str, Any]:
    from listener.backfill import account, parts
    from listener.backfill.account import name_of_list

    there = account.parts(config.state)
    found = parts.document(there, map(name_of_list, lists), time.time_ns())
    if found["vanished"] and not found["states"]["running"]:
        found["vanished_elsewhere"] = account.seen_to_elsewhere(config.state, there)
    return found


def _write(found: Mapping[str, Any], path: str | None) -> None:
    if path:
        from listener.backfill.account import write_metrics
        from listener.backfill.metric_rows import exposition

        write_metrics(path, exposition(found, time.time()))


def _print(found: Mapping[str, Any], *, as_json: bool, clears: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write((_CLEAR if clears else "") + _text(found))
        sys.stdout.flush()


def _text(found: Mapping[str, Any]) -> str:
    from listener.backfill.parts import KINDS, named, summary, unfinished
    from listener.commands._table import table
    from listener.status.formatting import count, moment

    if not found["parts"] and not found["missing"]:
        return "no part was begun below --state; begin one: listener once --part I/N\n"
    text = f"{summary(found)}\n"
    if found["missing"]:
        text += f"never begun: {named(found['missing'])}\n"
    shown, more = unfinished(found)
    if shown:
        names = ["part", "state", "listed", *(kind.replace("_", " ") for kind in KINDS), "begun (UTC)", "host"]
        numbers = ("listed", *KINDS)
        rows = [
            [one["part"], one["state"], *(count(one[name]) for name in numbers), moment(one["begun"]), one["host"]]
            for one in shown
        ]
        text += "\n" + table(names, rows) + (f"and {count(more)} more\n" if more else "")
    return text

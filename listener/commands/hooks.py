"""List hooks and their deliveries; retire one, redeliver or forget what failed.

A hook here is any consumer of the ledger: those of the service's options, and stages that registered themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson

from listener.commands._table import table
from listener.config import Config
from listener.errors import ConfigError, ConsumerRetired, LedgerMissing, UnknownConsumer
from listener.ledger import consumers, deliveries
from listener.ledger.connection import open_writer, path_of, translated
from listener.ledger.reader import reading
from listener.ledger.rows import ConsumerRow
from listener.status import ledger_view, snapshot
from listener.status.document import RUNNING, LedgerView, document

COLUMNS = ("hook", "state", "delivered", "waiting", "given up", "oldest that waits (UTC)", "last error")

#: How long a running service may take to register a hook of its own again, in seconds.
_MOMENT = 1.5

EPILOG = (
    "without ACTION: lists them. retire NAME: it gets no more messages, and what waits is given up; "
    "redeliver NAME: what failed is delivered again, and what waits at once; forget NAME: what failed is "
    "forgotten, and keeps no series from 'listener prune' any more. Only shown unless --yes. Exit status: 0; "
    "1 the ledger cannot be used, knows no such hook, or the service registered it again; 2 the command line "
    "is wrong"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("action", nargs="?", choices=ACTS, metavar="ACTION", help=f"one of {', '.join(ACTS)}")
    parser.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="the hook: webhook, exec, or a stage's name"
    )
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--json", action="store_true", help="one JSON object a hook, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return bool(given.yes)


class Act(NamedTuple):
    """An action on a consumer: the `states` of the deliveries that it changes, its result in `words`, its function."""

    states: tuple[str, ...]
    words: str
    work: Callable[[sqlite3.Connection, ConsumerRow, int], None]


ACTS = {
    "retire": Act(
        ("pending",),
        "given up, and it is told nothing any more",
        lambda connection, row, now_ns: deliveries.retire(connection, row.name, now_ns),
    ),
    "redeliver": Act(
        ("pending", "failed"),
        "told now",
        lambda connection, row, now_ns: consumers.redeliver(connection, row.id, now_ns),
    ),
    "forget": Act(
        ("failed",),
        "forgotten",
        lambda connection, row, _: consumers.forget(connection, row.id),
    ),
}


class Request(NamedTuple):
    """One of ACTS with the name of a hook, or "" for a list."""

    action: str = ""
    name: str = ""
    yes: bool = False
    json: bool = False


def run(config: Config, given: argparse.Namespace) -> int:
    """List, or act. Return 0, or 1 when a running service registered a retired hook again at once.

    Raise ConfigError, a LedgerFault, UnknownConsumer or ConsumerRetired.
    """
    request = Request(given.action or "", given.name, given.yes, given.json)
    if not request.action:
        return _list(config, request)
    if not request.name:
        raise ConfigError([f"hooks: which one? give {request.action} NAME; 'listener hooks' lists them"])
    return _act(config, request)


def _list(config: Config, request: Request) -> int:
    with reading(config.state) as reader:
        rows = ledger_view.hooks(reader)
    if request.json:
        sys.stdout.buffer.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    elif rows:
        keys = ("name", "state", "delivered", "pending", "failed", "oldest", "error")
        sys.stdout.write(table(COLUMNS, [[str(row[key]) or "-" for key in keys] for row in rows]))
    sys.stdout.flush()
    if not rows and not request.json:
        sys.stderr.write("there is no hook; 'listener run --on-series-complete URL' registers one\n")
    return 0


def _act(config: Config, request: Request) -> int:
    path = path_of(config.state)
    if not os.path.exists(path):
        raise LedgerMissing
    act = ACTS[request.action]
    with reading(config.state) as reader:
        row = next((one for one in reader.consumers() if one.name == request.name), None)
    if row is None:
        raise UnknownConsumer(request.name)
    if request.action == "redeliver" and row.state == "retired":
        raise ConsumerRetired(request.name)
    number = sum(getattr(row, state) for state in act.states)
    if request.yes:
        with contextlib.closing(open_writer(path)) as connection, translated():
            act.work(connection, row, time.time_ns())
    back = request.yes and request.action == "retire" and _comes_back(config.state, request.name)
    _tell(request, number, act.words)
    if back:
        sys.stderr.write(
            f"the service that runs has registered {request.name} again: take its option away, or stop it, first\n"
        )
    return int(back)


def _tell(request: Request, number: int, words: str) -> None:
    if request.json:
        told = {"name": request.name, "action": request.action, "deliveries": number, "done": request.yes}
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
    else:
        verb, rest = ("are", "") if request.yes else ("would be", f"; --yes does it ({request.action})")
        print(f"{request.name}: {number} deliveries {verb} {words}{rest}")
    sys.stdout.flush()


def _comes_back(state: str, name: str) -> bool:
    """Return whether a running service, which still serves the hook, registers it again."""
    try:
        word = snapshot.read(state)
    except OSError:
        return False
    if document(word, None, LedgerView(), time.time_ns())["service"]["state"] not in RUNNING:
        return False
    end = time.monotonic() + _MOMENT
    while time.monotonic() < end:
        with reading(state) as reader:
            if any(one.name == name and one.state != "retired" for one in reader.consumers()):
                return True
        time.sleep(0.1)
    return False

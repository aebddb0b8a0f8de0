"""List hooks and their deliveries; test one, tell again what failed, retire one, or forget what failed.

A hook here is any consumer of the ledger: those of the service's options, and stages that registered themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sqlite3
import sys
import time
from typing import Any, NamedTuple

from listener.commands._selection import add_acting, check_acting, check_user
from listener.commands._table import table, write_json
from listener.config import Config
from listener.errors import (
    ConfigError,
    ConsumerRetired,
    HookNotConfigured,
    LedgerMissing,
    NothingDelivered,
    NotTaken,
    UnknownConsumer,
)
from listener.hook_config import DEEDS
from listener.ledger import consumers, deliveries
from listener.ledger.connection import open_writer, path_of, translated
from listener.ledger.interests import interest_of
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import ConsumerDelivery, ConsumerRow
from listener.parse import closest
from listener.planning.names import instant
from listener.status import ledger_view, snapshot
from listener.status.document import RUNNING, LedgerView, document
from listener.status.formatting import moment, several

COLUMNS = ("hook", "state", "delivered", "waiting", "given up", "oldest that waits (UTC)", "last error")
DELIVERY_COLUMNS = ("event", "of", "generation", "state", "attempts", "since (UTC)", "error")

#: The keys of COLUMNS.
_KEYS = ("name", "state", "delivered", "pending", "failed", "oldest", "error")

#: How long a running service may take to register a hook of its own again, in seconds.
_MOMENT = 1.5

EPILOG = (
    "without a word: lists them; with a NAME alone: what it wants, what waits for it and what was given up. "
    "test NAME: sends it a signed example with the event 'test', once, and says what became of it; "
    "redeliver NAME: what failed is delivered again, and what waits at once (with --failed: only what failed; with a "
    "UID: the newest of that series, or of that study and its series, also if it was taken); "
    "retire NAME: it gets no more messages, and what waits is given up; "
    "forget NAME: what failed is forgotten, and keeps no series from 'listener prune' any more. "
    "All but test are only shown unless --yes. Exit status: 0; 1 the ledger cannot be used, knows no such hook, the "
    "hook did not take the example, or the service registered it again; 2 the command line is wrong"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"NAME, or one of {', '.join(DEEDS)} and NAME [UID]")
    parser.add_argument("--failed", action="store_true", help="of redeliver: only what was given up")
    add_acting(parser, acts=False)
    parser.add_argument("--json", action="store_true", help="one JSON object a hook, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return bool(given.yes) or given.words[:1] == ["test"]


class Request(NamedTuple):
    """One of DEEDS ("": show) with the name of a hook ("": all), and for redeliver the UID of a series or study."""

    deed: str = ""
    name: str = ""
    uid: str = ""
    failed: bool = False
    yes: bool = False
    json: bool = False


def request_of(given: argparse.Namespace) -> Request:
    """Return what is asked for. Raise ConfigError."""
    check_acting(given, "hooks")
    deed = next((word for word in given.words[:1] if word in DEEDS), "")
    words: list[str] = given.words[1:] if deed else given.words
    name, uid, *more = [*words, "", ""]
    if deed and not name:
        raise ConfigError([f"hooks: which one? give {deed} NAME; 'listener hooks' lists them"])
    if uid and not deed:
        close = closest(name, DEEDS)
        hint = f"did you mean {close}?" if close else f"give a NAME alone, or one of {', '.join(DEEDS)} and NAME"
        raise ConfigError([f"hooks: there is no '{name}'; {hint}"])
    if any(more) or (uid and deed != "redeliver"):
        raise ConfigError([f"hooks: '{more[0] or uid}' is too much; give {deed} NAME"])
    if given.failed and (deed != "redeliver" or uid):
        raise ConfigError(["hooks: --failed is for 'redeliver NAME' without a UID"])
    return Request(deed, name, uid, given.failed, given.yes, given.json)


def run(config: Config, given: argparse.Namespace) -> int:
    """Show, test or act. Return 0, or 1 when an example was not taken or a running service registered a retired hook
    again at once. Raise ConfigError, HookNotConfigured, a LedgerFault, or what is wrong with the name or UID.
    """
    request = request_of(given)
    if request.deed == "test":
        return _test(config, request)
    if request.deed:
        return _act(config, request)
    return _show_one(config, request) if request.name else _list(config, request)


# -- show --------------------------------------------------------------------------------------------------------------


def _list(config: Config, request: Request) -> int:
    with reading(config.state) as reader:
        rows = ledger_view.hooks(reader)
    if request.json:
        write_json(rows)
    elif rows:
        shown = ({**row, "oldest": moment(row["oldest"])} for row in rows)
        sys.stdout.write(table(COLUMNS, [[str(row[key]) for key in _KEYS] for row in shown]))
    sys.stdout.flush()
    if not rows and not request.json:
        sys.stderr.write("there is no hook; 'listener run --on-series-complete URL' registers one\n")
    return 0


def _show_one(config: Config, request: Request) -> int:
    with reading(config.state) as reader:
        row = _named(reader, request.name)
        wants = interest_of(reader.wants_of(row))._asdict()
        waiting = [_shown_delivery(one) for one in reader.waiting_for(row)]
    told = ledger_view.hook(row)
    if request.json:
        write_json([{**told, "wants": wants, "deliveries": waiting}])
        return 0
    values = {**told, "oldest": moment(told["oldest"]), **{name: ", ".join(words) for name, words in wants.items()}}
    names = dict(zip(_KEYS, COLUMNS, strict=True))
    for name, value in values.items():
        if value != "":
            print(f"{names.get(name, name):<25} {value}")
    if waiting:
        lines = [[str(value) for value in one.values()] for one in waiting]
        print(f"\n{table(DELIVERY_COLUMNS, lines)}", end="")
    sys.stdout.flush()
    return 0


def _shown_delivery(row: ConsumerDelivery) -> dict[str, Any]:
    since = moment(instant(row.settled_ns if row.state == "failed" else row.made_ns))
    about = {"event": row.event, "subject": row.subject, "generation": row.generation, "state": row.state}
    return {**about, "attempts": row.attempts, "since": since, "error": row.error}


def _named(reader: Reader, name: str) -> ConsumerRow:
    row = next((one for one in reader.consumers() if one.name == name), None)
    if row is None:
        raise UnknownConsumer(name)
    return row


# -- test --------------------------------------------------------------------------------------------------------------


def _test(config: Config, request: Request) -> int:
    """Send an example; the ledger is left alone."""
    from listener.hooks.dispatch import configured_hooks
    from listener.hooks.payload import example_of

    hook = next((one for one in configured_hooks(config) if one.name == request.name), None)
    if hook is None:
        raise HookNotConfigured(request.name)
    payload = example_of(interest_of(hook.wants).events[0], f"test/{secrets.token_hex(8)}", time.time_ns())
    error, begun = "", time.monotonic()
    try:
        hook.send(payload)
    except NotTaken as failure:
        error = failure.detail
    seconds = time.monotonic() - begun
    if request.json:
        write_json([{"name": request.name, "key": payload.key, "taken": not error, "seconds": seconds, "error": error}])
    else:
        print(f"{request.name}: " + (f"did not take the example: {error}" if error else f"took it in {seconds:.3f} s"))
    sys.stdout.flush()
    return int(bool(error))


# -- act ---------------------------------------------------------------------------------------------------------------


def _act(config: Config, request: Request) -> int:
    path = path_of(config.state)
    if not os.path.exists(path):
        raise LedgerMissing
    if request.yes:
        check_user(config)
    with reading(config.state) as reader:
        row = _named(reader, request.name)
    if request.deed == "redeliver" and row.state == "retired":
        raise ConsumerRetired(request.name)
    with contextlib.closing(open_writer(path)) as connection, translated():
        number, words = _do(connection, row, request)
    back = request.yes and request.deed == "retire" and _comes_back(config.state, request.name)
    _tell(request, number, words)
    if back:
        sys.stderr.write(
            f"the service that runs has registered {request.name} again: take its option away, or stop it, first\n"
        )
    return int(back)


def _do(connection: sqlite3.Connection, row: ConsumerRow, request: Request) -> tuple[int, str]:
    """Do what is asked for if --yes says so; return the number of deliveries, and what they are."""
    now_ns = time.time_ns()
    if request.deed == "retire":
        if request.yes:
            deliveries.retire(connection, row.name, now_ns)
        return row.pending, "given up, and it is told nothing any more"
    if request.deed == "forget":
        if request.yes:
            consumers.forget(connection, row.id)
        return row.failed, "forgotten"
    if request.uid:
        ids = consumers.deliveries_of_uid(connection, row.id, request.uid)
        if not ids:
            raise NothingDelivered(request.uid)
        if request.yes:
            consumers.redeliver_these(connection, row.id, ids, now_ns)
        return len(ids), "told now"
    if request.yes:
        consumers.redeliver(connection, row.id, now_ns, only_failed=request.failed)
    return row.failed + (0 if request.failed else row.pending), "told now"


def _tell(request: Request, number: int, words: str) -> None:
    if request.json:
        write_json([{"name": request.name, "action": request.deed, "deliveries": number, "done": request.yes}])
    else:
        verb = ("is" if number == 1 else "are") if request.yes else "would be"
        rest = "" if request.yes else f"; --yes does it ({request.deed})"
        print(f"{request.name}: {several(number, 'delivery', 'deliveries')} {verb} {words}{rest}")
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

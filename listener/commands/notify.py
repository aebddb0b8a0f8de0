"""Tell a ChRIS of what was taken in: progress over NATS, and each series to CUBE, which registers it.

A stage: a program beside `listener run` that follows its collection through the ledger. It does what oxidicom does for
ChRIS, and forgets nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from listener.commands._selection import check_user
from listener.commands._stages import check_word, run_stage, show_status, since_of, standings
from listener.config import Config
from listener.cpu import let_others_first
from listener.errors import ConfigError, UnknownSeries
from listener.ledger import consumers, deliveries
from listener.ledger.connection import open_writer, path_of, translated
from listener.ledger.interests import interest_of
from listener.ledger.reader import reading
from listener.moments import LAST
from listener.notify.metric_rows import CUBE, NAME, NATS
from listener.notify.options import NotifyOptions
from listener.planning.names import printable
from listener.stages import options
from listener.status import snapshot
from listener.status.formatting import several

#: The other deeds of the stage; without one it is the service.
DEEDS = ("once", "check", "status", "again")

EPILOG = (
    "without a word: serves until a signal. once: tells what is due, and leaves; check: tries targets and collection; "
    "status: how each target stands, also without a running service; again UID...: the last generation of these series "
    "is told again (--failed: of all that were given up), also of one from before the first start, which else is not. "
    "Exit status: 0; 1 something was not told, a target does not answer, or a second signal came; 2 the configuration "
    "cannot work"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"one of {', '.join(DEEDS)}; of again: UIDs of series")
    options.add_flags(parser, NotifyOptions)
    parser.add_argument("--failed", action="store_true", help="of again: all that was given up")
    parser.add_argument("--since", default="", metavar="WHEN", help="of again: series that ended since, as in report")
    parser.add_argument("--dry-run", action="store_true", help="of again: only say how many would be told")
    parser.add_argument("--watch", action="store_true", help="of status: anew every second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="of status: one JSON object, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return given.words[:1] in ([], ["once"], ["again"])


def run(config: Config, given: argparse.Namespace) -> int:
    """Serve, or do one of DEEDS. Return the exit status; raise ConfigError, StageOwned, or a LedgerFault."""
    word, *more = given.words or [""]
    _check_words(word, more, given)
    if word == "status":
        return _status(config, given)
    if word == "again":
        return _again(config, more, given)
    chosen = options.load(NotifyOptions, NAME, given, os.environ)
    if word == "check":
        return _check(config, chosen)
    return _serve(config, chosen, once=word == "once")


def _check_words(word: str, more: Sequence[str], given: argparse.Namespace) -> None:
    check_word(NAME, word, DEEDS)
    if more and word != "again":
        raise ConfigError([f"notify: '{more[0]}' is too much; give {word} alone"])
    flags = {"failed": "again", "since": "again", "dry_run": "again", "watch": "status", "json": "status"}
    for flag, of in flags.items():
        if getattr(given, flag) and word != of:
            raise ConfigError([f"notify: --{flag.replace('_', '-')} is for '{of}'"])
    if word == "again" and sum((bool(more), given.failed, bool(given.since))) != 1:
        raise ConfigError(["notify: again needs UIDs of series, --failed or --since WHEN; give one of the three"])


def _serve(config: Config, chosen: NotifyOptions, *, once: bool) -> int:
    from listener.notify.service import Collection, NotifyStage, require, targets_of

    check_user(config)
    targets, collection = targets_of(chosen), Collection(config.state, config.data)
    require(collection)
    let_others_first()  # Intake, above all: what is told may wait for a moment.
    stage = NotifyStage(collection, chosen, targets)
    return run_stage(stage, config.state, chosen.http, chosen.drain, once=once)


# -- look --------------------------------------------------------------------------------------------------------------


def _check(config: Config, chosen: NotifyOptions) -> int:
    from listener.notify.service import Collection, is_oxidicom, require, targets_of, unreachable

    targets = targets_of(chosen)
    require(Collection(config.state, config.data))
    problems = unreachable(targets)
    for problem in problems:
        print(f"error: {problem}")
    if targets.broker and not is_oxidicom(config.state):
        print("warning: CUBE registers series of the layout oxidicom alone; give listener run --layout oxidicom")
    if not problems:
        print("ok: each target answers, and the ledger can be read")
    return int(bool(problems))


def _status(config: Config, given: argparse.Namespace) -> int:
    return show_status(given, lambda: _standing(config), _lines)


def _standing(config: Config) -> dict[str, Any]:
    live = snapshot.read(os.path.join(config.state, NAME)) or {}
    checks = live.get("checks") or {}
    targets = standings(config.state, (NATS, CUBE))
    for name, target in targets.items():
        check = checks.get(name.removeprefix(f"{NAME}-"), {})
        target["connected"] = bool(check.get("ok"))
        target["note"] = live.get("notes", {}).get(name, "")
        target["fault"] = "" if target["connected"] else check.get("text", "")
    return {"targets": targets, "service": live}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for name, target in found["targets"].items():
        yield f"{name}\n"
        for key, value in target.items():
            if key != "name" and value != "":
                yield f"  {key:<12} {value}\n"
    live = found["service"]
    for key in ("state", "nats", "celery", "cube", "time"):
        if live.get(key):
            yield f"{key:<14} {live[key]}\n"


# -- tell again --------------------------------------------------------------------------------------------------------


def _again(config: Config, uids: Sequence[str], given: argparse.Namespace) -> int:
    check_user(config)
    with reading(config.state) as reader:
        rows = [row for row in reader.consumers() if row.name in (NATS, CUBE)]
    if not rows:
        raise ConfigError(["notify: nobody was told anything here yet; start listener notify once"])
    now_ns, since_ns = time.time_ns(), since_of(given.since, LAST)
    with contextlib.closing(open_writer(path_of(config.state))) as connection, translated():
        if given.failed:
            numbers = {row.name: row.failed for row in rows}
            for row in rows if not given.dry_run else []:
                consumers.redeliver(connection, row.id, now_ns, only_failed=True)
        else:
            ends = _ends(connection, uids, since_ns)
            numbers = {row.name: _tell_again(connection, row.id, ends, now_ns, given.dry_run) for row in rows}
    for name, number in numbers.items():
        verb = "would be" if given.dry_run else ("is" if number == 1 else "are")
        print(f"{name}: {several(number, 'series', 'series')} {verb} told again")
    return 0


def _ends(connection: sqlite3.Connection, uids: Sequence[str], since_ns: int) -> list[tuple[str, deliveries.Subject]]:
    """Return the ends that are meant. Raises UnknownSeries for a UID that has none."""
    if not uids:
        return consumers.ended_series(connection, since_ns=since_ns)
    ends = []
    for uid in uids:
        of_uid = consumers.ended_series(connection, uid=uid)
        if not of_uid:
            raise UnknownSeries(printable(uid))
        ends += of_uid
    return ends


def _tell_again(
    connection: sqlite3.Connection,
    consumer: int,
    ends: Sequence[tuple[str, deliveries.Subject]],
    now_ns: int,
    only_shows: bool,
) -> int:
    """Tell a consumer again what it wants of these ends; return how many that are."""
    (text,) = connection.execute("SELECT wants FROM consumers WHERE id = ?", (consumer,)).fetchone()
    wanted = [end for end in ends if end[0] in interest_of(text).events]
    if not only_shows:
        consumers.tell_again(connection, consumer, wanted, now_ns)
    return len(wanted)

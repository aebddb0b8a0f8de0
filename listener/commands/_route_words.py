"""The words of `listener route` that need no running service: how it stands, and what people ask of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from listener.commands._selection import check_user
from listener.commands._table import table, write_json
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger.reader import reading
from listener.planning.names import printable
from listener.route import deeds, standing
from listener.route.deeds import StudyNotRouted, UnknownTarget
from listener.route.schema import ROUTE
from listener.route.standing import Standing
from listener.route.studies import live_of
from listener.stages.database import StageMissing, open_writer
from listener.status import snapshot
from listener.status.document import STATES, state_of
from listener.status.formatting import NONE, count, moment, several

#: Seconds for which a running service may take up what it is asked for, between two looks, and of --watch.
_ANSWER, _LOOK, _EVERY = 5.0, 0.2, 1.0

_TARGETS = ("target", "kind", "state", "since (UTC)", "live", "waiting", "oldest (UTC)", "given up", "error")
_STUDIES = ("last (UTC)", "state", "sent", "came back", "route", "sender", "worker", "study")
_HELD = ("id", "since (UTC)", "reason", "sender", "of", "instance")
_DEAD = ("since (UTC)", "target", "status", "error", "route", "study", "instance")
_RESULTS = ("came (UTC)", "from", "to", "state", "settled (UTC)", "instance")
_UNCLAIMED = ("last (UTC)", "instances", "sender", "root")

#: Rows of a table that are printed at most.
_MOST = 50

HELP = (
    "status: targets, what waits, what was given up, what is held, the unclaimed; studies [UID]: which worker has "
    "which study, and what came back; pause W: worker W gets no new studies, and keeps its own; resume W: it gets new "
    "ones again; drain W: pause, and how many studies of it are live (--wait: until there is none, then it is safe to "
    "switch off; --move: give them to others); retry [TARGET or UID]: what was given up is sent again; drop [TARGET or "
    "UID]: what was given up is sent to nobody; send --study UID: send a study again, to its worker or to W; held: "
    "what workers sent and nobody gets"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the words."""
    parser.add_argument("--json", action="store_true", help="of status, studies and held: JSON, for programs")
    parser.add_argument("--watch", action="store_true", help="of status: show it anew every second")
    parser.add_argument("--wait", action="store_true", help="of drain: return when no study of the worker is live")
    parser.add_argument("--timeout", type=float, metavar="S", help="of drain --wait: wait at most S seconds")
    parser.add_argument("--move", action="store_true", help="of drain: give its live studies to other workers")
    parser.add_argument("--study", default="", metavar="UID", help="of send: which study")
    parser.add_argument("--worker", default="", metavar="W", help="of send: to this worker, not to the study's own")
    deed = parser.add_mutually_exclusive_group()
    deed.add_argument("--send", nargs=2, metavar=("ID", "DEST"), help="of held: send this one to a destination")
    deed.add_argument("--discard", metavar="ID", help="of held: send this one to nobody; its file stays")


def acts(given: argparse.Namespace) -> bool:
    """Return whether a word does more than print."""
    word = given.words[0]
    return word in ("pause", "resume", "drain", "retry", "drop", "send") or bool(given.send or given.discard)


def run(config: Config, given: argparse.Namespace) -> int:
    """Do what the first word says. Return the exit status; raise ConfigError, StageFault, or what is not known."""
    word, *rest = given.words
    _check(given, word, rest)
    return WORDS[word](config, given, rest[0] if rest else "")


#: The words that take an argument, and whether it must be given.
_ARGUMENTS = {"studies": False, "pause": True, "resume": True, "drain": True, "retry": False, "drop": False}

#: Options of one word each.
_OPTIONS = {
    "watch": ("status",),
    "json": ("status", "studies", "held"),
    "wait": ("drain",),
    "timeout": ("drain",),
    "move": ("drain",),
    "study": ("send",),
    "worker": ("send",),
    "send": ("held",),
    "discard": ("held",),
}


def _check(given: argparse.Namespace, word: str, rest: Sequence[str]) -> None:
    """Raise ConfigError for what does not belong together."""
    problems = [
        f"route {word}: --{name} is for {' or '.join(words)}; leave it out"
        for name, words in _OPTIONS.items()
        if getattr(given, name) and word not in words
    ]
    if len(rest) > int(word in _ARGUMENTS):
        problems.append(f"route {word}: '{printable(rest[-1])}' is too much; leave it out")
    if _ARGUMENTS.get(word) and not rest:
        problems.append(f"route {word}: which worker? 'listener route status' lists them")
    if word == "send" and not given.study:
        problems.append("route send: which study? give --study UID")
    if given.timeout is not None and not given.wait:
        problems.append("route drain: --timeout is for --wait; give both")
    if problems:
        raise ConfigError(problems)


# -- show --------------------------------------------------------------------------------------------------------------


def _status(config: Config, given: argparse.Namespace, _: str) -> int:
    if not given.watch:
        _show_status(config, given)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if not given.json and sys.stdout.isatty():
                sys.stdout.write("\033[H\033[J")
            _show_status(config, given)
            time.sleep(_EVERY)
    return 0


def _show_status(config: Config, given: argparse.Namespace) -> None:
    found: dict[str, Any] = standing.read(config.state, lambda one: {**one.summary(), "dead_letters": one.dead(10)})
    found = {"service": _service(config.state), **found}
    if given.json:
        write_json([found])
        return
    service = found["service"]
    print(f"listener route {service['version']}".rstrip() + f": {STATES[service['state']]}")
    for name, check in service["checks"].items():
        if not check["ok"]:
            print(f"  ! {name}: {check['text']}")
    held = sum(found["held"].values())
    words = (("waiting", "pending"), ("given up", "dead"), ("unclaimed", "unclaimed"), ("unanswered", "unanswered"))
    print(", ".join([*(f"{count(found[key])} {word}" for word, key in words), f"{count(held)} held"]))
    print(f"\n{table(_TARGETS, [_target(one) for one in found['targets']])}", end="")
    if found["unclaimed_by"]:
        unclaimed = [
            [moment(one["last"]), count(one["instances"]), one["sender"], one["root"]] for one in found["unclaimed_by"]
        ]
        print(f"\n{table(_UNCLAIMED, unclaimed)}", end="")
    if found["dead_letters"]:
        print(f"\n{table(_DEAD, [_dead(one) for one in found['dead_letters']])}", end="")
    sys.stdout.flush()


def _service(state_dir: str) -> dict[str, Any]:
    """Return state, version and checks of the service, by what it wrote last."""
    try:
        live = snapshot.read(os.path.join(state_dir, ROUTE.stage))
    except OSError:
        live = None
    state = state_of(live, time.time_ns())
    return {"state": state, "version": str((live or {}).get("version", "")), "checks": (live or {}).get("checks", {})}


def _target(one: Mapping[str, Any]) -> list[str]:
    live = NONE if one["live"] is None else count(one["live"])
    numbers = [live, count(one["pending"]), moment(one["oldest"]), count(one["dead"])]
    error = " ".join(word for word in (one["cause"], one["error"]) if word)
    state = ", ".join(word for word in (one["state"], "paused" if one["paused"] else "") if word)
    return [one["name"] or NONE, one["kind"], state or NONE, moment(one["since"]), *numbers, error]


def _dead(one: Mapping[str, Any]) -> list[str]:
    about = [one["target"], one["status"], one["error"], one["route"]]
    return [moment(one["since"]), *about, one["StudyInstanceUID"], one["SOPInstanceUID"]]


def _studies(config: Config, given: argparse.Namespace, uid: str) -> int:
    rows = standing.read(config.state, lambda one: one.study(uid) if uid else one.studies(_MOST))
    if uid and not rows:
        raise StudyNotRouted
    if given.json:
        write_json(rows)
    elif uid:
        for row in rows:
            _show_study(row)
    else:
        sys.stdout.write(table(_STUDIES, [_study(one) for one in rows]))
    sys.stdout.flush()
    return 0


def _study(one: Mapping[str, Any]) -> list[str]:
    sent = f"{count(one['sent'])}/{count(one['instances'])}"
    about = [one["route"], one["sender"], one["worker"] or NONE, one["StudyInstanceUID"]]
    return [moment(one["last"]), one["state"], sent, count(one["came_back"]), *about]


def _show_study(one: Mapping[str, Any]) -> None:
    plain = {name: value for name, value in one.items() if not isinstance(value, list | dict) and value != ""}
    for name, value in plain.items():
        print(f"{name:<18} {moment(value) if name in ('began', 'last', 'answered') else value}")
    for move in one["moves"]:
        print(f"{'moved':<18} {moment(move['at'])} from {move['from']} to {move['to'] or NONE} ({move['reason']})")
    keys = ("came", "sender", "destination", "state", "settled", "SOPInstanceUID")
    rows = [[moment(row[key]) if key in ("came", "settled") else row[key] for key in keys] for row in one["results"]]
    print(f"\n{table(_RESULTS, rows)}" if rows else "")


# -- act ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _writing(config: Config) -> Iterator[sqlite3.Connection]:
    """Give a connection that writes to the state of a service that has run here. Raises StageMissing, StageFault."""
    if not os.path.exists(ROUTE.path(config.state)):
        raise StageMissing(ROUTE.stage)
    check_user(config, os.path.join(config.state, ROUTE.stage, "owner"))
    with contextlib.closing(open_writer(config.state, ROUTE)) as connection:
        yield connection


def _known(connection: sqlite3.Connection, name: str, *, is_worker: bool) -> None:
    """Raise UnknownTarget for a name that the routes file has not, or has as another kind."""
    known = Standing(connection, time.time_ns()).routes.targets.get(name)
    if known is None or known.is_worker != is_worker:
        raise UnknownTarget(f"'{printable(name)}' as a {'worker' if is_worker else 'destination'}")


def _pause(config: Config, given: argparse.Namespace, worker: str) -> int:
    paused = given.words[0] == "pause"
    with _writing(config) as connection:
        _known(connection, worker, is_worker=True)
        deeds.pause(connection, worker, paused=paused)
    print(f"{worker} gets no new studies, and keeps those that it has" if paused else f"{worker} gets new studies")
    return 0


def _drain(config: Config, given: argparse.Namespace, worker: str) -> int:
    """Pause a worker. Return 1 if --wait ended before it had no live study."""
    end = time.monotonic() + given.timeout if given.timeout is not None else float("inf")
    with _writing(config) as connection:
        _known(connection, worker, is_worker=True)
        deeds.pause(connection, worker, paused=True)
        status = _ask(config, connection, "move", {"worker": worker}) if given.move else 0
        live = len(live_of(connection, worker, time.time_ns()))
        while given.wait and live and not status and time.monotonic() < end:
            time.sleep(min(_LOOK, max(0.0, end - time.monotonic())))
            live = len(live_of(connection, worker, time.time_ns()))
    studies = f"{several(live, 'study', 'studies')} of it {'is' if live == 1 else 'are'} live"
    rest = f"; {studies}" if live else ", and has nothing to do: it is safe to switch it off"
    print(f"{worker} gets no new studies{rest}")
    return int(bool(status or (given.wait and live)))


def _retry(config: Config, _given: argparse.Namespace, what: str) -> int:
    with _writing(config) as connection:
        target, study = _chosen(connection, what)
        with reading(config.state) as reader:
            data = reader.data_dir()
        number = deeds.retry(connection, data, target, study)
    print(f"{several(number, 'instance')} {'is' if number == 1 else 'are'} sent again")
    return 0


def _drop(config: Config, _given: argparse.Namespace, what: str) -> int:
    with _writing(config) as connection:
        number = deeds.drop(connection, *_chosen(connection, what))
    print(f"{several(number, 'instance')} {'is' if number == 1 else 'are'} sent to nobody; the files stay")
    return 0


def _chosen(connection: sqlite3.Connection, what: str) -> tuple[str, str]:
    """Return which dead letters are meant: those of a target, of a study, or ("", "") all. Raises UnknownTarget."""
    if what and set(what) <= set("0123456789."):
        return "", what
    if what:
        _known_any(connection, what)
    return what, ""


def _known_any(connection: sqlite3.Connection, name: str) -> None:
    if name not in {one["name"] for one in Standing(connection, time.time_ns()).targets()}:
        raise UnknownTarget(f"'{printable(name)}'")


def _send(config: Config, given: argparse.Namespace, _: str) -> int:
    with _writing(config) as connection:
        if given.worker:
            _known(connection, given.worker, is_worker=True)
        with reading(config.state) as reader:
            if reader.study(given.study) is None:
                raise StudyNotRouted
        return _ask(config, connection, "send", {"study": given.study, "worker": given.worker})


def _ask(config: Config, connection: sqlite3.Connection, verb: str, arguments: Mapping[str, str]) -> int:
    """Ask the service, and print what it says, if it runs. Return 1 if it cannot do it."""
    request = deeds.ask(connection, verb, arguments, time.time_ns())
    if _service(config.state)["state"] not in ("ready", "not-ready"):
        print("the service does not run; it does this when it starts")
        return 0
    end = time.monotonic() + _ANSWER
    while (said := deeds.answer(connection, request)) is None and time.monotonic() < end:
        time.sleep(_LOOK)
    if said:
        print(f"listener: {said}", file=sys.stderr)
        return 1
    print("done" if said == "" else "the service has not taken it up yet; it will")
    return 0


def _held(config: Config, given: argparse.Namespace, _: str) -> int:
    if given.send or given.discard:
        return _decide(config, given)
    rows = standing.read(config.state, lambda one: one.held())
    if given.json:
        write_json(rows)
    elif rows:
        keys = ("id", "since", "reason", "sender", "of", "SOPInstanceUID")
        lines = [[moment(str(row[key])) if key == "since" else str(row[key]) for key in keys] for row in rows]
        sys.stdout.write(table(_HELD, lines))
    else:
        sys.stderr.write("nothing is held\n")
    sys.stdout.flush()
    return 0


def _decide(config: Config, given: argparse.Namespace) -> int:
    text, destination = given.send or (given.discard, "")
    if not text.isdecimal():
        raise ConfigError([f"route held: '{printable(text)}' is no number; 'listener route held' lists them"])
    with _writing(config) as connection:
        if destination:
            _known(connection, destination, is_worker=False)
            deeds.send_held(connection, int(text), destination, time.time_ns())
            print(f"{text} goes to {destination}")
        else:
            deeds.discard_held(connection, int(text), time.time_ns())
            print(f"{text} is held no longer, and goes to nobody; its file stays")
    return 0


#: The words, and what each does; it gets the word behind, "" for none.
WORDS: Mapping[str, Callable[[Config, argparse.Namespace, str], int]] = {
    "status": _status,
    "studies": _studies,
    "pause": _pause,
    "resume": _pause,
    "drain": _drain,
    "retry": _retry,
    "drop": _drop,
    "send": _send,
    "held": _held,
}

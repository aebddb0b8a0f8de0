"""argv -> Config -> a command; exception -> exit status. Imports of a command's parts wait until it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from listener import arguments, settings, streams
from listener import config as configuration
from listener.config import Config
from listener.errors import ConfigError, ListenerError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    streams.open_closed()
    try:
        try:
            status = _main(argv)
        finally:
            streams.flush()
    except BrokenPipeError:
        if not streams.is_unread():
            raise
        streams.silence()
        return streams.CLOSED_PIPE
    return status


def _main(argv: Sequence[str] | None) -> int:
    parser = arguments.parser()
    given = parser.parse_args(argv)
    if not given.command:
        parser.print_help()
        return 2
    try:
        return streams.guarded(lambda: _dispatch(given)) if _acts(given) else _dispatch(given)
    except ConfigError as error:
        for problem in error.problems:
            print(f"listener: {problem}", file=sys.stderr)
        return error.exit_code
    except ListenerError as error:
        print(f"listener: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError) and streams.is_unread():
            raise
        # The second of the two places where exceptions are caught; without a path, which may hold patient data.
        print(f"listener: {error.strerror or error}; see 'listener check' for what is in the way", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _acts(given: argparse.Namespace) -> bool:
    """Whether a command does more than print: then it is done whether anybody reads of it or not."""
    asked = {"prune": "yes", "verify": "repair"}.get(given.command)
    if asked:
        return bool(getattr(given, asked))
    return given.command not in _PRINT and not getattr(given, "dry_run", False)


def _dispatch(given: argparse.Namespace) -> int:
    from listener.diagnostics import set_up

    flags = {name: getattr(given, name, None) for name in configuration.options()}
    config = settings.load(flags, os.environ, given.command, given.config)
    given.with_state = settings.is_given("state", flags, os.environ, given.config)
    set_up(config.log_level)
    return _RUN[given.command](config, given)


def _run(config: Config, _: argparse.Namespace) -> int:
    from listener.service import run

    return run.run(config)


def _once(config: Config, _: argparse.Namespace) -> int:
    from listener.commands import once

    return once.run(config)


def _repack(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import repack

    return repack.run(config, repack.Request.of(vars(given), given.with_state))


def _plan(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import plan

    return plan.run(config, given.paths, given.json)


def _check(config: Config, given: argparse.Namespace) -> int:
    from listener.checks import check

    return check.run(config, given.json)


def _verify(config: Config, given: argparse.Namespace) -> int:
    from listener.verification import verify

    return verify.run(config, verify.Request(given.deep, given.repair, given.json))


def _retry(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import retry
    from listener.commands.retry import Request

    return retry.run(config, Request.of(vars(given)))


def _status(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import status

    return status.run(config, watch=given.watch, as_json=given.json)


def _series(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import series

    return series.run(config, series.Request(given.uid, given.only, given.limit, given.json))


def _expect(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import expect

    return expect.run(config, given.uid, given.number)


def _report(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import report

    request = report.Request.of(given.since, given.until, given.by, tsv=given.tsv, json=given.json)
    return report.run(config, request)


def _prune(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import prune

    return prune.run(config, prune.Request(given.set_aside, given.series, given.yes, given.json))


def _hooks(config: Config, given: argparse.Namespace) -> int:
    from listener.commands import hooks

    return hooks.run(config, hooks.Request(given.action or "", given.name, given.yes, given.json))


def _bench(config: Config, given: argparse.Namespace) -> int:
    from listener.benchmark.request import Request
    from listener.commands import bench

    return bench.run(config, Request.of(vars(given) | {"keep_source": config.keep_source}))


#: Commands that only print; and the service, which looks after its output itself (telemetry.events, diagnostics).
_PRINT = frozenset({"bench", "check", "plan", "report", "run", "series", "status"})

_RUN: dict[str, Callable[[Config, argparse.Namespace], int]] = {
    "run": _run,
    "once": _once,
    "repack": _repack,
    "plan": _plan,
    "check": _check,
    "bench": _bench,
    "series": _series,
    "expect": _expect,
    "report": _report,
    "prune": _prune,
    "hooks": _hooks,
    "verify": _verify,
    "retry": _retry,
    "status": _status,
}

"""argv -> Config -> a verb; exception -> exit status. No other verb than the given one is imported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from listener import arguments, config_file, settings, streams, verbs
from listener.errors import ConfigError, ListenerError
from listener.start_again import pause_of, start_again
from listener.verbs import Verb


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (`sys.argv` without `argv`). Return the exit status."""
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
    words = sys.argv[1:] if argv is None else list(argv)
    given = None
    try:
        parser = arguments.parser(words)
        given = parser.parse_args(words)
        if not given.command:
            parser.print_help()
            return 2
        verb = verbs.load(given.command)
        return streams.guarded(lambda: _run(verb, given)) if verb.acts(given) else _run(verb, given)
    except (ListenerError, OSError) as error:
        if isinstance(error, BrokenPipeError) and streams.is_unread():
            raise
        return _failed(error, given)
    except KeyboardInterrupt:
        return 130


def _failed(error: ListenerError | OSError, given: argparse.Namespace | None) -> int:
    """Say what went wrong. Return the exit status, unless the same is tried again."""
    lines = _lines(error)
    for line in lines:
        print(f"listener: {line}", file=sys.stderr)
    status = error.exit_code if isinstance(error, ListenerError) else 1
    pause = pause_of(given, os.environ)
    if given and pause:
        start_again(given, os.environ, lines, pause)
    return status


def _lines(error: ListenerError | OSError) -> list[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, ListenerError):
        return [str(error)]
    # The second of the two places where exceptions are caught; without a path, which may hold patient data.
    return [f"{error.strerror or error}; see 'listener check' for what is in the way"]


def _run(verb: Verb, given: argparse.Namespace) -> int:
    from listener.diagnostics import log, set_up

    given.config = config_file.find(given.config, os.environ)
    config = settings.load(arguments.flags(given), os.environ, given.command, given.config)
    given.pause = config.retry_start
    set_up(config.log_level)
    for line in config_file.unknown_variables(os.environ):
        log.warning(line)
    return verb.run(config, given)

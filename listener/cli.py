"""argv -> Config -> a verb; exception -> exit status. No other verb than the given one is imported."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from listener import arguments, config_file, settings, streams, verbs
from listener.errors import ConfigError, ListenerError
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
    try:
        parser = arguments.parser(words)
        given = parser.parse_args(words)
        if not given.command:
            parser.print_help()
            return 2
        verb = verbs.load(given.command)
        return streams.guarded(lambda: _run(verb, given)) if verb.acts(given) else _run(verb, given)
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


def _run(verb: Verb, given: argparse.Namespace) -> int:
    from listener.diagnostics import log, set_up

    given.config = config_file.find(given.config, os.environ)
    config = settings.load(arguments.flags(given), os.environ, given.command, given.config)
    set_up(config.log_level)
    for line in config_file.unknown_variables(os.environ):
        log.warning(line)
    return verb.run(config, given)

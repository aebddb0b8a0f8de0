"""Repack what is in incoming now, and leave."""

from __future__ import annotations

import argparse

from listener import parse
from listener.config import Config
from listener.errors import ConfigError
from listener.planning.names import printable

EPILOG = (
    "exit status: 0 every file was published, duplicate or superseding; 1 some were set aside or are left; 2 "
    "the configuration is wrong"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument(
        "--number", metavar="N", help="take at most N folders of --batches, the oldest first, and leave"
    )


def acts(_: argparse.Namespace) -> bool:
    """Return True: it is done even when nobody reads what it prints."""
    return True


def run(config: Config, given: argparse.Namespace) -> int:
    """Repack everything. Return 0, or 1 when some files were set aside or are left."""
    from listener.oneshot import once

    return once.run(config, _number(config, given.number))


def _number(config: Config, text: str | None) -> int | None:
    """Return the number of folders to take; None: all. Raise ConfigError."""
    if text is None:
        return None
    if not config.batches:
        raise ConfigError(["--number: counts folders, and there are none without --batches; give that too"])
    try:
        return parse.whole(1, 10**9)(text)
    except ValueError as error:
        raise ConfigError([f"--number: '{printable(text)}' {error}"]) from None

"""Is this configuration going to work? One line a finding, with its remedy."""

from __future__ import annotations

import argparse

from listener.config import Config

EPILOG = "exit status: 0 it will work; 1 something is in the way"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("--json", action="store_true", help="one JSON object a finding, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print every finding. Return 0 when nothing is in the way, else 1."""
    from listener.checks import check

    return check.run(config, given.config, given.json)

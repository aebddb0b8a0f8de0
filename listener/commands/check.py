"""Is this configuration going to work? One line a finding, with its remedy."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from listener.config import STAGES, Config
from listener.errors import ConfigError

if TYPE_CHECKING:
    from listener.checks.finding import Finding

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

    return check.run(config, given.config, given.json, list(_stages(given.config)))


def _stages(path: str) -> Iterator[Finding]:
    """Yield whether the options of stages are in order, as far as file and variables have any."""
    from listener.checks.finding import OK, PROBLEM, Finding
    from listener.stages import options

    for stage in STAGES:
        kind = getattr(importlib.import_module(f"listener.{stage}.options"), f"{stage.capitalize()}Options")
        try:
            if options.load(kind, stage, argparse.Namespace(config=path), os.environ) != kind():
                yield Finding(OK, f"[{stage}]", f"its options can be used; 'listener {stage} check' tries them")
        except ConfigError as error:
            for problem in error.problems:
                yield Finding(PROBLEM, f"[{stage}]", problem)

"""Measure this machine, side by side with px-repack and rx-repack when they are on PATH.

Programs take turns, and figures are medians of rounds: read the ratios, for a machine's speed drifts. A run that did
not produce every instance and every document is a failure, never a figure.
"""

from __future__ import annotations

import argparse

from listener.benchmark.request import Request, flag, options
from listener.config import Config

EPILOG = "exit status: 0 measured; 1 a run did not produce everything"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    text = "measure listener serve and FrameCache instead (of the others --dir, --repeat and --json)"
    parser.add_argument("--serve", action="store_true", help=text)
    text = "measure three backfills beside their predictions instead (--files is a tenth of two of them)"
    parser.add_argument("--capacity", action="store_true", help=text)
    for name, option in options().items():
        if option.is_switch:
            parser.add_argument(flag(name), dest=name, action="store_const", const="true", help=option.help)
        else:
            default = getattr(Request(), name)
            shown = option.shown or (f"{default:g}" if isinstance(default, float) else default)
            text = f"{option.help} (default: {shown})"
            parser.add_argument(flag(name), metavar=option.metavar, dest=name, help=text)


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the figures. Return 0, or 1 when a run did not produce everything."""
    from listener.benchmark import backfilling, bench, serving

    request = Request.of(vars(given), keep_source=config.keep_source)
    if given.serve:
        return serving.run(request.directory, request.repeat, as_json=request.json)
    if given.capacity:
        many = 10 * request.files
        return backfilling.run(request.directory, many, request.repeat, config.workers, as_json=request.json)
    return bench.run(config, request)

"""Compare the tree, the JSON logs and the ledger, and name every difference."""

from __future__ import annotations

import argparse
import os

from listener.commands._selection import check_user
from listener.config import Config
from listener.planning.names import OWN

EPILOG = (
    "reads names, sizes and documents unless --deep; takes over what px-repack or rx-repack left, too; exit "
    "status: 0 no difference, or every one was repaired; 1 differences are left; 2 the configuration is wrong"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument(
        "--deep", action="store_true", help="read every instance's header: is it whole, and in its place"
    )
    parser.add_argument(
        "--repair", action="store_true", help="mend logs and ledger from the tree; no instance is touched"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a difference, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return bool(given.repair)


def run(config: Config, given: argparse.Namespace) -> int:
    """Verify. Return 0 when no difference is left, else 1."""
    from listener.verification import verify

    if given.repair:
        check_user(config, os.path.join(config.state, "id"), os.path.join(config.log, OWN))

    return verify.run(config, verify.Request(given.deep, given.repair, given.json))

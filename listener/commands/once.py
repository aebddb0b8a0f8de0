"""Repack what is in incoming now, and leave."""

from __future__ import annotations

import argparse

from listener.config import Config

EPILOG = (
    "exit status: 0 every file was published, duplicate or superseding; 1 some were set aside or are left; 2 "
    "the configuration is wrong"
)


def add_options(_: argparse.ArgumentParser) -> None:
    """Add none: it has the shared ones."""


def acts(_: argparse.Namespace) -> bool:
    """Return True: it is done even when nobody reads what it prints."""
    return True


def run(config: Config, _: argparse.Namespace) -> int:
    """Repack everything. Return 0, or 1 when some files were set aside or are left."""
    from listener.oneshot import once

    return once.run(config)

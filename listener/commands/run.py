"""Run the service: watch, repack, serve metrics, until a signal; then drain and stop."""

from __future__ import annotations

import argparse
import os

from listener import config_file, settings
from listener.config import Config

EPILOG = (
    "exit status: 0 stopped cleanly; 1 failed at run time, incoming is owned by another listener (--standby"
    " waits for it), or a second signal; 2 the configuration is wrong"
)


def add_options(_: argparse.ArgumentParser) -> None:
    """Add none: it has the shared ones."""


def acts(_: argparse.Namespace) -> bool:
    """Return False: the service looks after its output itself (telemetry.events, diagnostics)."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Run until the service has stopped. Return 0, or 1 when it failed."""
    from listener.service import run as service

    return service.run(config, lambda: _read_again(given))


def _read_again(given: argparse.Namespace) -> Config:
    """Return the configuration as it is now. Where there was no file one may have come. Raises ConfigError."""
    path = config_file.find(given.config, os.environ)
    return settings.load(vars(given), os.environ, given.command, path)

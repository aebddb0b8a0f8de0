"""Serve the collection over DICOMweb: viewers and programs search it, and retrieve instances, metadata and frames.

A stage that only reads: it registers nothing in the ledger, holds nothing back, and any number of it may run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os

from listener.config import Config
from listener.errors import ConfigError
from listener.serve.options import NAME, ServeOptions
from listener.stages import options

EPILOG = (
    "serves until a signal; docs/dicomweb.md says what it answers. It needs the extra 'serve' "
    "(pip install 'dicom-listener[serve]'). "
    "Exit status: 0; 1 it cannot listen, or a second signal came; 2 the configuration cannot work"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    options.add_flags(parser, ServeOptions)


def acts(_given: argparse.Namespace) -> bool:
    """Return True: it serves."""
    return True


def run(config: Config, given: argparse.Namespace) -> int:
    """Serve until a signal. Return the exit status; raise ConfigError, FatalFault, LedgerFault."""
    chosen = options.load(ServeOptions, NAME, given, os.environ)
    problems = list(_problems(chosen))
    if problems:
        raise ConfigError(problems)
    from listener.serve.service import ServeService

    return ServeService(config.data, config.state, chosen).run()


def _problems(chosen: ServeOptions) -> list[str]:
    problems = []
    missing = [name for name in ("uvicorn", "httptools") if importlib.util.find_spec(name) is None]
    if missing:
        problems.append(f"serve: {' and '.join(missing)} cannot be found: pip install 'dicom-listener[serve]'")
    if not (chosen.token_file or chosen.no_token or _is_loopback(chosen.dicomweb)):
        problems.append(
            f"--dicomweb: '{chosen.dicomweb}' can be reached from elsewhere: give --token-file, or --no-token where "
            "all who can connect may read"
        )
    if chosen.token_file and chosen.no_token:
        problems.append("--no-token: tokens are given by --token-file; leave one of the two out")
    if chosen.viewer and not os.path.isfile(os.path.join(chosen.viewer, "index.html")):
        problems.append("--viewer: there is no index.html in the directory; name that of a viewer's build")
    return problems


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.") or address.startswith("unix:")

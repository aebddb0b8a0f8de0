"""Serve the collection over DICOMweb: viewers and programs search it, and retrieve instances, metadata and frames.

A stage that only reads: it registers nothing in the ledger, holds nothing back, and any number of it may run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from listener.commands._stages import check_word, show_status
from listener.config import Config
from listener.errors import ConfigError
from listener.serve.options import NAME, ServeOptions
from listener.stages import options
from listener.status import snapshot

#: The other deeds of the stage; without one it is the service.
WORDS = ("once", "check", "status")

#: Seconds after which a service that writes its state every second is taken for ended.
_GONE = 10.0

EPILOG = (
    "without a word: serves until a signal; docs/dicomweb.md says what it answers. once: indexes what is complete, and "
    "leaves; check: will it serve, a line a finding; status: how it stands, also without a running service. It needs "
    "the extra 'serve' (pip install 'dicom-listener[serve]'). "
    "Exit status: 0; 1 it cannot listen, something could not be indexed or is in the way, or a second signal came; "
    "2 the configuration cannot work"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help=f"one of {', '.join(WORDS)}")
    options.add_flags(parser, ServeOptions)
    parser.add_argument("--watch", action="store_true", help="of status: anew every second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="of status: one JSON object, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return given.word in ("", "once")


def run(config: Config, given: argparse.Namespace) -> int:
    """Serve, or do one of WORDS. Return the exit status; raise ConfigError, FatalFault, LedgerFault."""
    check_word(NAME, given.word, WORDS)
    if (given.watch or given.json) and given.word != "status":
        raise ConfigError(["serve: --watch and --json are for 'status'"])
    chosen = options.load(ServeOptions, NAME, given, os.environ)
    if given.word == "status":
        return show_status(given, lambda: _standing(config, chosen), _lines)
    problems = _problems(chosen)
    if problems:
        raise ConfigError(problems)
    return {"": _serve, "once": _once, "check": _check}[given.word](config, chosen)


def _serve(config: Config, chosen: ServeOptions) -> int:
    from listener.serve.service import ServeService

    return ServeService(config.data, config.state, chosen).run()


def _once(config: Config, chosen: ServeOptions) -> int:
    from listener.serve.http_server import Setup, base_of
    from listener.serve.once import fill

    return int(fill(Setup(config.data, config.state, base_of(chosen), chosen)) > 0)


def _check(config: Config, chosen: ServeOptions) -> int:
    from listener.serve.checking import findings

    failed = 0
    for works, text in findings(config.data, config.state, chosen):
        failed += not works
        print(f"{'ok' if works else 'problem'}: {text}")
    return int(failed > 0)


def _standing(config: Config, chosen: ServeOptions) -> dict[str, Any]:
    found = snapshot.read(chosen.index or os.path.join(config.state, NAME)) or {"state": "never started"}
    if time.time() - found.get("time_ns", time.time_ns()) / 1e9 > _GONE:
        found["state"] = "stopped"
    return found


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for name in ("state", "time", "started", "version", "dicomweb", "processes", "connections"):
        if name in found:
            yield f"{name:<25} {found[name]}\n"
    names = {
        "waiting": "not in the catalogue",
        "documents_waiting": "to be indexed ahead",
        "bytes": "bytes of the index",
    }
    for name, value in found.get("index", {}).items():
        yield f"{names.get(name, name):<25} {'not known yet' if value is None else value}\n"
    for name, check in found.get("checks", {}).items():
        yield f"{name:<25} {check['text']}\n"


def _problems(chosen: ServeOptions) -> list[str]:
    problems = []
    lacking = [name for name in ("uvicorn", "httptools") if importlib.util.find_spec(name) is None]
    if lacking:
        problems.append(f"serve: {' and '.join(lacking)} cannot be found: pip install 'dicom-listener[serve]'")
    if chosen.dicomweb == "off":
        problems.append("--dicomweb: 'off' leaves nothing to serve; give ADDR:PORT")
    elif not (chosen.token_file or chosen.no_token or _is_loopback(chosen.dicomweb)):
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

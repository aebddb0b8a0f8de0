"""Export complete series to object storage or a directory: each once, listed, verified, and only then prunable.

A stage: a program beside `listener run` that follows its collection through the ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from listener.commands._selection import check_user
from listener.commands._stages import check_word, run_stage, show_status, standings
from listener.commands._table import write_json
from listener.config import Config
from listener.cpu import let_others_first
from listener.errors import ConfigError
from listener.export.metric_rows import NAME
from listener.export.options import ExportOptions
from listener.stages import options
from listener.status import snapshot
from listener.status.formatting import several

#: The other deeds of the stage; without one it is the service.
DEEDS = ("once", "check", "status", "audit", "rebuild-parquet")

EPILOG = (
    "without a word: serves until a signal. once: exports what is due, and leaves; check: tries target and collection; "
    "status: how it stands, also without a running service; audit: compares the manifests with what is there, a JSON "
    "line for each thing that is off (missing, size, altered, unknown, unreadable; keys of instances with --phi alone, "
    "since they may name patients); rebuild-parquet: makes the table again from manifests and tree. Series that end "
    "from the first start on are exported. "
    "Exit status: 0; 1 something was not exported, is off, or a second signal came; 2 the configuration cannot work"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help=f"one of {', '.join(DEEDS)}")
    options.add_flags(parser, ExportOptions)
    parser.add_argument("--deep", action="store_true", help="of audit: read every object")
    parser.add_argument("--watch", action="store_true", help="of status: anew every second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="of status: one JSON object, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return given.word in ("", "once")


def run(config: Config, given: argparse.Namespace) -> int:
    """Serve, or do one of DEEDS. Return the exit status; raise ConfigError, StageOwned, or a TargetFault."""
    check_word(NAME, given.word, DEEDS)
    for flag, word in (("deep", "audit"), ("watch", "status"), ("json", "status")):
        if getattr(given, flag) and given.word != word:
            raise ConfigError([f"export: --{flag} is for '{word}'"])
    if given.word == "status":
        return _status(config, given)
    chosen = options.load(ExportOptions, NAME, given, os.environ)
    return {"": _serve, "once": _once, "check": _check, "audit": _audit, "rebuild-parquet": _rebuild}[given.word](
        config, given, chosen
    )


def _serve(config: Config, _: argparse.Namespace, chosen: ExportOptions) -> int:
    return _run(config, chosen, once=False)


def _once(config: Config, _: argparse.Namespace, chosen: ExportOptions) -> int:
    return _run(config, chosen, once=True)


def _run(config: Config, chosen: ExportOptions, *, once: bool) -> int:
    from listener.export.service import Collection, ExportStage, open_target, require

    check_user(config)
    if not once:  # For that somebody waits. Before obstore is asked anything, which starts its threads.
        let_others_first()
    collection, target = Collection(config.state, config.data), open_target(chosen)
    require(collection, target, table=not chosen.no_parquet)
    stage = ExportStage(collection, chosen, target)
    return run_stage(stage, config.state, chosen.http, chosen.drain, once=once)


# -- look --------------------------------------------------------------------------------------------------------------


def _check(config: Config, _: argparse.Namespace, chosen: ExportOptions) -> int:
    from listener.export.service import Collection, layout, open_target, require

    check_user(config)
    layout(chosen)
    target = open_target(chosen)
    require(Collection(config.state, config.data), target, table=not chosen.no_parquet)
    print(f"ok: {target.shown} can be written and read")
    if not target.is_conditional:
        print(f"warning: {target.shown} does not refuse to replace; let no other program write there")
    print("ok: the ledger can be read")
    return 0


def _audit(config: Config, given: argparse.Namespace, chosen: ExportOptions) -> int:
    from listener.export.audit import audit, shown
    from listener.export.service import open_target

    found = 0
    target = open_target(chosen)
    with contextlib.closing(target):
        for finding in audit(target, deep=given.deep):
            write_json([shown(finding, phi=config.phi)])
            found += 1
    print("nothing is off" if not found else several(found, "thing is off", "things are off"), file=sys.stderr)
    return int(found > 0)


def _rebuild(config: Config, _: argparse.Namespace, chosen: ExportOptions) -> int:
    from listener.export import parquet
    from listener.export.flow import Flow
    from listener.export.rebuild import rebuild
    from listener.export.service import open_target, part_rules
    from listener.export.spool import Spool
    from listener.export.upload import Rules, Uploader
    from listener.stages.ownership import Ownership
    from listener.stages.service import StageOwned

    check_user(config)
    parquet.require()
    target = open_target(chosen)
    uploader = Uploader(target, Rules(reads=chosen.verify == "read"), Flow(chosen.rate), lambda _name, _amount: None)
    rows = 0
    with contextlib.closing(Ownership(os.path.join(config.state, NAME))) as owner:
        if not owner.take():
            raise StageOwned(NAME)
        with contextlib.closing(Spool(config.state)) as spool, contextlib.closing(target):
            for count in rebuild(target, uploader, spool, config.data, part_rules(chosen)):
                rows += count
    print(f"the table of {target.shown} was made again: {several(rows, 'row')}")
    return 0


def _status(config: Config, given: argparse.Namespace) -> int:
    return show_status(given, lambda: _standing(config), _lines)


def _standing(config: Config) -> dict[str, Any]:
    live = snapshot.read(os.path.join(config.state, NAME)) or {}
    return {**standings(config.state, [NAME])[NAME], "service": live}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    live = found["service"]
    names = {"delivered": "exported", "pending": "waiting", "failed": "given up", "oldest": "oldest that waits (UTC)"}
    values = {name: value for name, value in found.items() if name not in ("name", "service") and value != ""}
    for name, value in values.items():
        yield f"{names.get(name, name):<25} {value}\n"
    for name in ("to", "in_flight", "time"):
        if name in live:
            yield f"{name.replace('_', ' '):<25} {live[name]}\n"
    for name, check in live.get("checks", {}).items():
        yield f"{name:<25} {check}\n"

"""Show what would become of a file's elements under the confidentiality profile; make its key."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from listener.commands._table import table, write_json
from listener.config import Config
from listener.deidentify import inputs
from listener.deidentify.explaining import explain
from listener.deidentify.faults import NotUnderstood
from listener.deidentify.keys import SECRET, Keys
from listener.deidentify.marks import marks_of
from listener.deidentify.options import DeidentifyOptions, check
from listener.deidentify.profile import Rules
from listener.deidentify.replacing import Replacer, Subject
from listener.deidentify.rewriting import Job
from listener.errors import ConfigError
from listener.parse import closest
from listener.planning.names import printable
from listener.stages import options

#: What may stand behind the verb.
DEEDS = ("explain", "new-key")

EPILOG = (
    "explain FILE...: what would become of each element of these files, and by which rule; with --phi also the values, "
    "which are patient data. new-key FILE: makes the key from which UIDs, pseudonyms and shifts are derived, for its "
    "owner alone. "
    "Exit status: 0; 1 a file is not understood or cannot be read; 2 the command line is wrong or a file of it unusable"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("words_given", nargs="+", metavar="WORD", help=f"one of {', '.join(DEEDS)}, then FILEs")
    options.add_flags(parser, DeidentifyOptions)
    parser.add_argument("--json", action="store_true", help="of explain: one JSON object an element, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return bool(given.words_given[:1] == ["new-key"])


def run(config: Config, given: argparse.Namespace) -> int:
    """Do what is asked for. Return the exit status; raise ConfigError."""
    deed, *paths = given.words_given
    if deed not in DEEDS:
        hint = closest(deed, DEEDS)
        raise ConfigError([f"deidentify: there is no '{deed}'; {f'did you mean {hint}?' if hint else EPILOG}"])
    if not paths or (deed == "new-key" and len(paths) > 1):
        raise ConfigError([f"deidentify: give {deed} {'FILE' if deed == 'new-key' else 'FILE...'}"])
    chosen = options.load(DeidentifyOptions, "deidentify", given, os.environ)
    check(chosen)
    if deed == "new-key":
        inputs.new_key(paths[0])
        print("made; keep a copy where no file of a patient is: without it no identifier is ever the same again")
        return 0
    job = _job(chosen)
    return max([_explain(path, job, config, given) for path in paths])


def _job(chosen: DeidentifyOptions) -> Job:
    """Return the job of an explanation, for which any key will do: no new value is shown."""
    names = frozenset(chosen.option)
    safe = inputs.read_safe_private(chosen.safe_private) if chosen.safe_private else frozenset()
    words = inputs.read_words(chosen.words)
    replacer = Replacer(Keys(os.urandom(SECRET)), Subject("P", 1), words)
    return Job(Rules(names, safe), replacer, marks_of(names))


def _explain(path: str, job: Job, config: Config, given: argparse.Namespace) -> int:
    """Print what becomes of one file. Return 1 if nothing of it would pass."""
    try:
        rows = explain(path, job, phi=config.phi)
    except (NotUnderstood, OSError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        print(f"{printable(path)}: {text}", file=sys.stderr)
        return 1
    if given.json:
        write_json(rows)
    else:
        print(printable(path))
        print(table(list(rows[0]), [_cells(row) for row in rows]) if rows else "  no element", end="")
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    return [str(value) for value in row.values()]

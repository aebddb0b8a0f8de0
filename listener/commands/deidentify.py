"""De-identify complete series into another collection: PS3.15 and its options, verified, or held for a person.

A stage: a program beside `listener run` that follows its collection through the ledger.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from listener.commands._selection import check_user
from listener.commands._stages import check_word, run_stage, since_of, standings
from listener.commands._table import table, write_json
from listener.config import Config
from listener.cpu import let_others_first
from listener.deidentify import inputs
from listener.deidentify.explaining import explain
from listener.deidentify.faults import NotUnderstood, RecipeFailed
from listener.deidentify.jobs import Job
from listener.deidentify.keys import SECRET, Keys
from listener.deidentify.marks import marks_of
from listener.deidentify.metric_rows import NAME
from listener.deidentify.options import DeidentifyOptions, check
from listener.deidentify.profile import Rules
from listener.deidentify.recipe_file import read_recipes
from listener.deidentify.replacing import Replacer, Subject
from listener.errors import ConfigError
from listener.ledger.reader import reading
from listener.moments import FORMS
from listener.planning.names import instant, printable
from listener.stages import options
from listener.status import snapshot
from listener.status.formatting import moment, several

#: What may stand behind the verb, and which of these take files.
DEEDS = ("once", "check", "status", "held", "evidence", "words", "crosswalk", "reverse", "explain", "new-key")
_WITH_FILES = ("reverse", "explain", "new-key")

EPILOG = (
    "without a word: serves until a signal. once: cleans what is due, and leaves; check: will it work?; status: how it "
    "stands, also without a running service; held: what waits for a person, with --release UID (of an instance or "
    "series) or --release --reason R lets it go; evidence: for a privacy board, what was done and what is not, without "
    "patient data, with --html FILE as a page; words: which words texts of the collection have; crosswalk: "
    "pseudonyms with their originals; both need --phi; reverse PATH...: objects that were derived from what was handed "
    "over get their originals again, into the directory of --into; "
    "explain FILE...: what would become of each element of these files, and by which rule, with --phi also the values; "
    "new-key FILE: makes the key from which UIDs, pseudonyms and shifts are derived, for its owner alone. Series that "
    "end from the first start on are cleaned. "
    "Exit status: 0; 1 something is held, was not cleaned or not understood, or a second signal came; 2 the "
    "configuration cannot work"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("deed", nargs="*", metavar="WORD", help=f"one of {', '.join(DEEDS)}, and of some FILEs")
    options.add_flags(parser, DeidentifyOptions)
    parser.add_argument(
        "--release", nargs="?", const="", metavar="UID", help="of held: let go what this UID (or --reason) names"
    )
    parser.add_argument("--reason", default="", metavar="R", help="of held: only what is held for this reason")
    parser.add_argument("--since", default="", metavar="TIME", help=f"of evidence: from then on: {FORMS}")
    parser.add_argument("--html", default="", metavar="FILE", help="of evidence: write a page")
    parser.add_argument("--json", action="store_true", help="of status, held, evidence, words, explain: for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return not given.deed or given.deed[0] in ("once", "reverse", "new-key") or given.release is not None


def run(config: Config, given: argparse.Namespace) -> int:
    """Serve, or do one of DEEDS. Return the exit status; raise ConfigError, StageOwned, StageFault."""
    deed, *paths = given.deed or [""]
    check_word(NAME, deed, DEEDS)
    if bool(paths) != (deed in _WITH_FILES) or (deed == "new-key" and len(paths) > 1):
        raise ConfigError([f"deidentify: give {deed}{_FILES.get(deed, ' alone')}"])
    if (given.release is not None or given.reason) and deed != "held":
        raise ConfigError(["deidentify: --release and --reason are for 'held'"])
    chosen = options.load(DeidentifyOptions, NAME, given, os.environ)
    check(chosen)
    deeds: dict[str, Callable[[], int]] = {
        "": lambda: _serve(config, chosen, once=False),
        "once": lambda: _serve(config, chosen, once=True),
        "check": lambda: _check(config, chosen),
        "status": lambda: _status(config, given),
        "held": lambda: _held(config, chosen, given),
        "evidence": lambda: _evidence(config, chosen, given),
        "words": lambda: _count_words(config, chosen, given),
        "crosswalk": lambda: _crosswalk(config, chosen),
        "reverse": lambda: _reverse(config, chosen, paths),
        "explain": lambda: _explain(config, chosen, given, paths),
        "new-key": lambda: _new_key(paths[0]),
    }
    return deeds[deed]()


_FILES = {"reverse": " PATH...", "explain": " FILE...", "new-key": " FILE"}


def _serve(config: Config, chosen: DeidentifyOptions, *, once: bool) -> int:
    from listener.deidentify.service import DeidentifyStage, require

    check_user(config)
    require(config.state, chosen)
    if not once:  # For that somebody waits.
        let_others_first()
    stage = DeidentifyStage(config.state, config.data, chosen)
    return run_stage(stage, config.state, chosen.http, chosen.drain, once=once)


def _check(config: Config, chosen: DeidentifyOptions) -> int:
    from listener.deidentify.service import method_of, require

    require(config.state, chosen)
    method = method_of(chosen)
    print(f"ok: '{printable(chosen.into)}' can be written")
    print(f"ok: the key {method.keys.fingerprint} can be used")
    print("ok: the ledger can be read")
    return 0


def _status(config: Config, given: argparse.Namespace) -> int:
    live = snapshot.read(os.path.join(config.state, NAME)) or {}
    found = {**standings(config.state, [NAME])[NAME], "service": live}
    if given.json:
        write_json([found])
        return 0
    for name, value in found.items():
        if name not in ("name", "service") and value != "":
            print(f"{name:<25} {value}")
    for reason, count in live.get("held", {}).items():
        print(f"{f'held: {reason}':<25} {count}")
    for name, verdict in live.get("checks", {}).items():
        print(f"{name:<25} {verdict}")
    return 0


# -- what is held ------------------------------------------------------------------------------------------------------


def _held(config: Config, chosen: DeidentifyOptions, given: argparse.Namespace) -> int:
    """List what waits for a person, or let it go."""
    from listener.deidentify import due
    from listener.deidentify.vault import Vault

    releases = given.release is not None
    if releases and not given.release and not given.reason:
        raise ConfigError(["deidentify: release what? give --release UID, or --release --reason R"])
    if releases:
        check_user(config)
    with closing(Vault(config.state, writes=releases, folder=chosen.vault)) as vault:
        rows = [row for row in vault.held() if not given.reason or row.reason == given.reason]
        if given.release:
            rows = [row for row in rows if given.release in (row.SOPInstanceUID, row.SeriesInstanceUID)]
        if releases:
            vault.release(rows, pwd.getpwuid(os.geteuid()).pw_name, time.time_ns())
    if releases:
        due.release(config.state, {row.SeriesInstanceUID for row in rows})
        print(f"{several(len(rows), 'is', 'are')} let go; the stage cleans {'them' if len(rows) != 1 else 'it'} now")
        return 0 if rows else 1
    if given.json:
        write_json([{**row._asdict(), "since": instant(row.since_ns)} for row in rows])
    elif rows:
        heads = ("reason", "series", "instance", "since (UTC)", "detail")
        print(table(heads, [_held_cells(row) for row in rows]), end="")
    else:
        print("nothing is held", file=sys.stderr)
    return 0


def _held_cells(row: Any) -> list[str]:
    whole = row.SOPInstanceUID or "(all)"
    return [row.reason, row.SeriesInstanceUID, whole, moment(instant(row.since_ns)), row.detail]


def _evidence(config: Config, chosen: DeidentifyOptions, given: argparse.Namespace) -> int:
    from listener.deidentify.evidence import evidence
    from listener.deidentify.evidence_page import page
    from listener.deidentify.vault import Vault

    since_ns = since_of(given.since, 0)
    with closing(Vault(config.state, writes=False, folder=chosen.vault)) as vault:
        found = evidence(vault, chosen, since_ns, time.time_ns())
    if given.html:
        _write_page(given.html, page(found))
    if given.json:
        write_json([found])
    if given.json or given.html:
        return 0
    for name, value in found.items():
        if name != "attributes":
            text = value if isinstance(value, str | int) else ", ".join(_words(value))
            print(f"{name.replace('_', ' '):<15} {text}")
    rows = [[str(cell) for cell in row.values()] for row in found["attributes"]]
    if rows:
        print(table(("tag", "keyword", "action", "count"), rows), end="")
    return 0


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}: {one}" for name, one in value.items()]
    return [f"{one['name']} {one['sha256']}" if isinstance(one, dict) else str(one) for one in value]


def _write_page(path: str, text: str) -> None:
    """Write a page. Raises ConfigError."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError([f"--html: '{printable(path)}' cannot be written: {error.strerror}"]) from None


def _count_words(config: Config, chosen: DeidentifyOptions, given: argparse.Namespace) -> int:
    """Print the words in texts of the collection."""
    from listener.deidentify import wording

    if not config.phi:
        raise ConfigError(["deidentify: words of descriptions may name patients: give --phi if that is what you want"])
    with reading(config.state) as reader:
        words, unread = wording.count(reader, config.data, inputs.read_words(chosen.words))
    if given.json:
        write_json([word._asdict() for word in words])
    else:
        rows = [[word.word, str(word.series), "yes" if word.allowed else "no"] for word in words]
        print(table(("word", "series", "allowed"), rows), end="")
    if unread:
        print(f"{several(unread, 'series', 'series')} could not be read", file=sys.stderr)
    return int(bool(unread))


def _crosswalk(config: Config, chosen: DeidentifyOptions) -> int:
    from listener.deidentify.vault import Vault

    if not config.phi:
        raise ConfigError(["deidentify: crosswalk names patients: give --phi if that is what you want"])
    with closing(Vault(config.state, writes=False, folder=chosen.vault)) as vault:
        for kind in ("patients", "studies", "series"):
            for original, new, *_ in vault.rows(kind):
                write_json([{"kind": kind, "original": str(original).lstrip("\0"), "replaced": new}])
    return 0


# -- files -------------------------------------------------------------------------------------------------------------


def _reverse(config: Config, chosen: DeidentifyOptions, paths: Sequence[str]) -> int:
    """Give derived objects their originals again. Return 1 if one is held."""
    from listener.deidentify.reversing import Held, Reversing
    from listener.deidentify.vault import Vault

    if not chosen.into or not os.path.isdir(chosen.into):
        raise ConfigError(["--into: name a directory for what is given back"])
    if not chosen.key_file:
        raise ConfigError(["--key-file: name the key of the vault"])
    keys = Keys(inputs.read_key(chosen.key_file))
    status = 0
    with closing(Vault(config.state, writes=False, folder=chosen.vault)) as vault, reading(config.state) as reader:
        if vault.fingerprint() != keys.fingerprint:
            raise ConfigError(["--key-file: it is another key than the vault's"])
        reversing = Reversing(reader, config.data, keys, vault)
        for path in _files_below(paths):
            try:
                print(printable(reversing.reverse(path, chosen.into)))
            except (Held, OSError) as error:
                text = error.strerror if isinstance(error, OSError) else str(error)
                print(f"held: {printable(path)}: {text}", file=sys.stderr)
                status = 1
    return status


def _files_below(paths: Sequence[str]) -> Iterator[str]:
    """Yield files, and those below directories."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
        for folder, _, names in os.walk(path):
            yield from (os.path.join(folder, name) for name in sorted(names))


def _new_key(path: str) -> int:
    inputs.new_key(path)
    print("made; keep a copy where no file of a patient is: without it no identifier is ever the same again")
    return 0


def _explain(config: Config, chosen: DeidentifyOptions, given: argparse.Namespace, paths: Sequence[str]) -> int:
    job = _job(chosen)
    return max([_explain_one(path, job, phi=config.phi, as_json=given.json) for path in paths])


def _job(chosen: DeidentifyOptions) -> Job:
    """Return the job of an explanation, for which any key will do: no new value is shown."""
    names = frozenset(chosen.option)
    safe = inputs.read_safe_private(chosen.safe_private) if "retain-safe-private" in names else frozenset()
    words = inputs.read_words(chosen.words)
    replacer = Replacer(Keys(os.urandom(SECRET)), Subject("P", 1), words)
    recipes = read_recipes(chosen.recipe, has_values=bool(chosen.identifiers or chosen.identifiers_exec))
    return Job(Rules(names, safe, recipes.header, chosen.profile == "basic"), replacer, marks_of(names))


def _explain_one(path: str, job: Job, *, phi: bool, as_json: bool) -> int:
    """Print what becomes of one file. Return 1 if nothing of it would pass."""
    try:
        rows = explain(path, job, phi=phi)
    except (NotUnderstood, RecipeFailed, OSError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        print(f"{printable(path)}: {text}", file=sys.stderr)
        return 1
    if as_json:
        write_json(rows)
    else:
        print(printable(path))
        print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]) if rows else "", end="")
    return 0

"""What commands share: which set-aside files are meant, whether to act or only to show, and as which user."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from listener.config import Config
from listener.disk import json_file
from listener.errors import ConfigError, UnknownReason
from listener.planning.names import printable
from listener.reasons import SET_ASIDE_REASONS
from listener.repacking import setaside


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add --reason, which may be given several times."""
    parser.add_argument("--reason", action="append", dest="reasons", metavar="R", help="only those set aside for R")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add --reason, --sender and --study."""
    add_reason(parser)
    parser.add_argument("--sender", default="", metavar="AET", help="only those of this calling AE title")
    parser.add_argument("--study", default="", metavar="UID", help="only those of this StudyInstanceUID")


def is_of(path: str, sender: str, study: str) -> bool:
    """Return whether a set-aside file is of a sender and a study ("": of any), as its reason file says."""
    if not (sender or study):
        return True
    told = json_file.load_if_readable(setaside.reason_file(path)) or {}
    return sender in ("", told.get("sender")) and study in ("", told.get("StudyInstanceUID"))


def reasons_of(given: Iterable[str] | None) -> tuple[str, ...]:
    """Return the reasons that were given, none for all of them. Raise UnknownReason."""
    reasons = tuple(given or ())
    for reason in reasons:
        if reason not in SET_ASIDE_REASONS:
            raise UnknownReason(f"'{printable(reason)}'; one of: {', '.join(SET_ASIDE_REASONS)}")
    return reasons


def add_acting(parser: argparse.ArgumentParser, *, acts: bool) -> None:
    """Add --dry-run and --yes to a command that `acts` (or only shows) when neither is given."""
    shown, done = ("", " (the default)") if acts else (" (the default)", "")
    parser.add_argument("--dry-run", action="store_true", help=f"only show what would be done{shown}")
    parser.add_argument("--yes", action="store_true", help=f"do it{done}")


def is_acting(given: argparse.Namespace, *, acts: bool) -> bool:
    """Return whether to act: as the two options say, else as the command does by default."""
    return given.yes or (acts and not given.dry_run)


def check_user(config: Config, *marks: str) -> None:
    """Raise ConfigError when root acts on directories of another user's service, which could not use what root makes
    there. `marks`: paths of which each tells its user, if it is there: what a service makes, or else its directory.
    """
    paths = marks or (os.path.join(config.state, "id"),)
    for mark in () if os.geteuid() else paths:
        path = next((one for one in (mark, os.path.dirname(mark)) if os.path.exists(one)), "")
        owner = os.stat(path).st_uid if path else 0
        if owner:
            what = (
                f"'{os.path.dirname(mark)}' belongs to uid {owner}, whose service could not use what root makes there"
            )
            raise ConfigError([f"{what}; do this as that user: sudo -u '#{owner}' listener ..."])


def check_acting(given: argparse.Namespace, command: str) -> None:
    """Raise ConfigError when both are given."""
    if given.yes and given.dry_run:
        raise ConfigError([f"{command}: --dry-run and --yes exclude each other; give one of them"])

"""`listener check`: is this configuration going to work? One line a finding, with its remedy. Makes no directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import orjson

from listener.checks import configuration, directories, storescp, system
from listener.checks.finding import NOTE, OK, PROBLEM, Finding, named
from listener.config import Config
from listener.diagnostics import in_colour

__all__ = ["NOTE", "OK", "PROBLEM", "Finding", "findings", "run"]

Check = Callable[[Config], Iterator[Finding]]

#: What is tried out in the directories: only when all of them are there and can be written.
_INSIDE: tuple[Check, ...] = (
    directories.overlaps,
    directories.moves,
    directories.network,
    directories.lock_support,
    directories.clocks,
    directories.leases,
    directories.owners,
    directories.unfinished,
    directories.strangers,
    directories.readers,
    configuration.ledger,
)

#: What can always be looked at.
_AROUND: tuple[Check, ...] = (
    directories.space,
    directories.modes,
    system.inotify,
    system.open_files,
    system.lasting,
    system.memory,
    system.core_files,
    configuration.templates,
    configuration.hooks,
    storescp.receivers,
)


def run(config: Config, as_json: bool) -> int:
    """Print every finding; 0 when nothing is in the way, else 1."""
    found = list(findings(config))
    for finding in found:
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(finding._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        else:
            print(_line(finding))
    sys.stdout.flush()
    return 1 if any(finding.level == PROBLEM for finding in found) else 0


def _line(finding: Finding) -> str:
    colours = {OK: "\033[32m", NOTE: "\033[33m", PROBLEM: "\033[31m"} if in_colour(sys.stdout) else {}
    level = f"{colours.get(finding.level, '')}{finding.level:8}{chr(27) + '[0m' if colours else ''}"
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{level} {finding.about}: {finding.text}{remedy}"


def findings(config: Config) -> Iterator[Finding]:
    """Everything that can be found out before a file arrives."""
    usable = True
    for option, path in named(config):
        finding = directories.directory(option, path)
        usable &= finding.level == OK
        yield finding
    for check in (*(_INSIDE if usable else ()), *_AROUND):
        yield from check(config)

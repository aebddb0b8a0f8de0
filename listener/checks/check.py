"""`listener check`: test whether a configuration will work. One line a finding, with its remedy. Makes no directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import orjson

from listener.checks import batches, configuration, directories, storescp, system
from listener.checks.finding import NOTE, OK, PROBLEM, Finding, configured_directories
from listener.config import Config
from listener.diagnostics import in_colour

__all__ = ["NOTE", "OK", "PROBLEM", "Finding", "findings", "run"]

Check = Callable[[Config], Iterator[Finding]]

#: Checks that need all directories to exist and be writable.
_IN_DIRECTORIES: tuple[Check, ...] = (
    directories.overlaps,
    directories.moves,
    directories.network,
    directories.lock_support,
    directories.clocks,
    directories.leases,
    directories.owners,
    directories.unfinished,
    directories.foreign_directories,
    directories.readers,
    configuration.ledger,
)

#: Checks that are always possible.
_ALWAYS: tuple[Check, ...] = (
    batches.folders,
    directories.space,
    directories.modes,
    system.inotify,
    system.open_files,
    system.persistence,
    system.memory,
    system.core_files,
    configuration.templates,
    configuration.hooks,
    configuration.access,
    storescp.receivers,
)


def run(config: Config, config_file: str, as_json: bool, more: Sequence[Finding] = ()) -> int:
    """Print every finding, first which file was read ("": none), `more` last; return 0, or 1 when one is a problem."""
    results = [configuration.file(config_file), *findings(config), *more]
    for finding in results:
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(finding._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        else:
            print(_line(finding))
    sys.stdout.flush()
    return 1 if any(finding.level == PROBLEM for finding in results) else 0


def _line(finding: Finding) -> str:
    colours = {OK: "\033[32m", NOTE: "\033[33m", PROBLEM: "\033[31m"} if in_colour(sys.stdout) else {}
    level = f"{colours.get(finding.level, '')}{finding.level:8}{chr(27) + '[0m' if colours else ''}"
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{level} {finding.about}: {finding.text}{remedy}"


def findings(config: Config) -> Iterator[Finding]:
    """Yield every finding that is possible before a file arrives."""
    usable = True
    for option, path in configured_directories(config):
        finding = directories.directory(option, path)
        usable &= finding.level == OK
        yield finding
    for check in (*(_IN_DIRECTORIES if usable else ()), *_ALWAYS):
        yield from check(config)

"""The command line's parser: commands, their options (from the rows of config.py), and their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import listener
from listener import config as configuration
from listener import parse
from listener.benchmark.options import bench_options

_COMMANDS = {
    "run": "the service: watch, repack, serve metrics, until a signal; then drain and stop",
    "once": "repack what is in incoming now, and leave",
    "repack": "repack the named files, or every file in the named folders",
    "plan": "show where files would go and which documents would be written; touches nothing",
    "check": "is this configuration going to work? one line a finding, with its remedy",
    "verify": "compare the tree, the JSON logs and the ledger, and name every difference",
    "retry": "put set-aside files back into incoming",
    "status": "how it stands: series, rates, lag, backlog, what is set aside, disk; needs no running service",
    "series": "list the series that the ledger knows, or show one with its history",
    "expect": "say how many instances a series will have",
    "report": "the accounts: a row a series, or sums by day, modality, sender or batch",
    "prune": "remove old set-aside files and published series; shows what it would do unless --yes",
    "hooks": "who is told of series, and how that goes; retire one, redeliver or forget what failed",
    "bench": "measure this machine, side by side with px-repack and rx-repack when they are on PATH",
}

_EPILOG = {
    "series": "exit status: 0; 1 the ledger cannot be read, or knows no such series",
    "expect": "a running service hears of it within a second; exit status: 0; 1 the ledger cannot be written",
    "report": "times are UTC; exit status: 0; 1 the ledger cannot be read",
    "prune": "never removes what is unfinished, or of which a consumer is still to hear; the documents of patients and "
    "studies stay; exit status: 0; 1 the ledger cannot be used, or a file not be removed",
    "hooks": "without ACTION: lists them. retire NAME: it is told nothing any more, and what waits is given up; "
    "redeliver NAME: what failed is told again, and what waits at once; forget NAME: what failed is forgotten, and "
    "keeps no series from 'listener prune' any more. Only shown unless --yes. Exit status: 0; 1 the ledger cannot be "
    "used, knows no such hook, or the service registered it again; 2 the command line is wrong",
    "status": "exit status: 0; 1 the state cannot be read",
    "bench": "exit status: 0 measured; 1 a run did not produce everything",
    "run": "exit status: 0 stopped cleanly; 1 failed at run time, incoming is owned by another listener, or a second "
    "signal; 2 the configuration is wrong",
    "once": "exit status: 0 every file was published, duplicate or superseding; 1 some were set aside or are left; "
    "2 the configuration is wrong",
    "repack": "also takes rx-repack's spelling (--xcrdir D --xcrfile F --datadir D --logdir D --cleanup --verbosity N "
    "--log-ndjson) and px-repack's --parseAllFilesWithSubStr S, so that a storescp -xcr line keeps working; "
    "exit status as once",
    "plan": "exit status: 0 every file can be repacked; 1 some cannot",
    "check": "exit status: 0 it will work; 1 something is in the way",
    "verify": "reads names, sizes and documents unless --deep; takes over what px-repack or rx-repack left, too; "
    "exit status: 0 no difference, or every one was repaired; 1 differences are left; 2 the configuration is wrong",
    "retry": "superseded files go back only when named exactly or by --reason superseded: they would replace newer "
    "data sets; exit status: 0 all of them are back; 1 a name or reason is unknown, or a file stayed; 2 nothing is "
    "selected, or the configuration is wrong",
}


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` is "" when none was given."""
    whole = argparse.ArgumentParser(
        prog="listener",
        description="DICOM intake that never loses a file: storescp's files repacked, described and measured.",
        epilog="'listener COMMAND --help' tells each command's options. Every option is also an environment variable "
        "LISTENER_<NAME> and a key of a TOML file (--config).",
    )
    whole.add_argument("--version", action="version", version=f"listener {listener.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_EPILOG[name], allow_abbrev=False
        )
        _add_options(command, name)
        _EXTRA.get(name, lambda _: None)(command)
    return whole


def _add_options(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these options (LISTENER_CONFIG)")
    defaults = configuration.defaults()
    for name, row in configuration.options().items():
        if command not in row.commands:
            continue
        spelled = (
            [configuration.flag(name), *_ALIASES.get(name, ())] if command == "repack" else [configuration.flag(name)]
        )
        if row.is_switch:
            text = f"{row.help} (default: off)"
            parser.add_argument(*spelled, dest=name, action="append_const", const="true", help=text)
        else:
            shown = _shown(row, defaults[name])
            parser.add_argument(
                *spelled, dest=name, action="append", metavar=row.metavar, help=f"{row.help} (default: {shown})"
            )


def _shown(row: configuration.Option, default: Any) -> str:
    text = row.shown or (" ".join(default) if isinstance(default, tuple) else str(default))
    if isinstance(default, float):
        text = f"{default:g}"
    return f"{text} {row.unit}".strip().replace("%", "%%")


#: px-repack's and rx-repack's spellings of our options.
_ALIASES = {
    "data": ("--datadir", "-d"),
    "log": ("--logdir", "-l"),
    "root_template": ("--rootDirTemplate",),
    "study_template": ("--studyDirTemplate",),
    "series_template": ("--seriesDirTemplate",),
    "image_template": ("--imageTemplate",),
}


def _repack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a DICOM file, or a folder of them")
    parser.add_argument("--cleanup", action="store_true", help="move: remove each source that was published")
    parser.add_argument("-p", "--xcrdir", metavar="D", help="folder of --xcrfile or of the files to parse")
    parser.add_argument("-f", "--xcrfile", metavar="F", help="one file in --xcrdir")
    parser.add_argument("--xcrdirfile", metavar="PATH", help="one file with its folder")
    parser.add_argument(
        "--parseAllFilesWithSubStr", metavar="S", dest="substring", help="all files of --xcrdir whose names hold S"
    )
    parser.add_argument("--log-ndjson", action="store_true", help="print an event a file even to a terminal")
    parser.add_argument("-v", "--verbosity", metavar="N", help="accepted and ignored")
    parser.add_argument("--debug", action="store_true", help="accepted and ignored")


def _plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="FILE", help="a DICOM file")
    parser.add_argument("--json", action="store_true", help="one JSON object a file, for programs")


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a finding, for programs")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deep", action="store_true", help="read every instance's header: is it whole, and in its place"
    )
    parser.add_argument(
        "--repair", action="store_true", help="mend logs and ledger from the tree; no instance is touched"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a difference, for programs")


def _status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show it anew every second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the status document, for programs")


def _retry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="a set-aside file's name, or a shell pattern of names")
    parser.add_argument("--reason", action="append", dest="reasons", metavar="R", help="only those set aside for R")
    parser.add_argument("--all", action="store_true", help="all of them, but for superseded ones")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be put back")
    parser.add_argument("--json", action="store_true", help="one JSON object a file, for programs")


def _series_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uid", nargs="?", default="", metavar="UID", help="one series, by its SeriesInstanceUID")
    parser.add_argument("--only", choices=("open", "complete", "incomplete"), default="", help="those in this state")
    limit = _number(0, 10**9)
    parser.add_argument("--limit", type=limit, default=50, metavar="N", help="the newest N; 0: all (default: 50)")
    parser.add_argument("--json", action="store_true", help="one JSON object a series, for programs")


def _number(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument: a whole number in this range."""
    read = parse.whole(least, most)

    def number(text: str) -> int:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text[:40]}' {error}") from None

    return number


def _expect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uid", metavar="UID", help="the SeriesInstanceUID")
    parser.add_argument("number", type=int, metavar="N", help="how many instances it will have; 0: nobody knows")


def _report_options(parser: argparse.ArgumentParser) -> None:
    since = "a day, an instant, or a time ago: 2026-01-31, 2026-01-31T08:00:00Z, 7d"
    parser.add_argument("--since", default="", metavar="TIME", help=f"from then on; {since}")
    parser.add_argument("--until", default="", metavar="TIME", help="until then, the day included")
    parser.add_argument("--by", choices=("day", "modality", "sender", "batch"), default="", help="sums instead of rows")
    parser.add_argument("--tsv", action="store_true", help="tab-separated values with a head")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")


def _prune_options(parser: argparse.ArgumentParser) -> None:
    text = "set-aside files that lie there for more than so many days"
    parser.add_argument("--set-aside", type=float, metavar="DAYS", help=text)
    text = "complete series in which nothing happened for so many days, and that every consumer has taken"
    parser.add_argument("--series", type=float, metavar="DAYS", help=text)
    parser.add_argument("--yes", action="store_true", help="remove them")
    parser.add_argument("--json", action="store_true", help="one JSON object a series or file, for programs")


def _hooks_options(parser: argparse.ArgumentParser) -> None:
    acts = ("retire", "redeliver", "forget")
    parser.add_argument("action", nargs="?", choices=acts, metavar="ACTION", help=f"one of {', '.join(acts)}")
    parser.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="the hook: webhook, exec, or a stage's name"
    )
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--json", action="store_true", help="one JSON object a hook, for programs")


_EXTRA = {
    "hooks": _hooks_options,
    "series": _series_options,
    "expect": _expect_options,
    "report": _report_options,
    "prune": _prune_options,
    "repack": _repack_options,
    "plan": _plan_options,
    "check": _check_options,
    "bench": bench_options,
    "verify": _verify_options,
    "retry": _retry_options,
    "status": _status_options,
}

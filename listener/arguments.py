"""The command line's parser: commands, their options (from the rows of config.py), and their help."""

from __future__ import annotations

import argparse
from typing import Any

import listener
from listener import config as configuration

_COMMANDS = {
    "run": "the service: watch, repack, serve metrics, until a signal; then drain and stop",
    "once": "repack what is in incoming now, and leave",
    "repack": "repack the named files, or every file in the named folders",
    "plan": "show where files would go and which documents would be written; touches nothing",
    "check": "is this configuration going to work? one line a finding, with its remedy",
    "verify": "compare the tree with the JSON logs and name every difference",
    "retry": "put set-aside files back into incoming",
    "bench": "measure this machine, side by side with px-repack and rx-repack when they are on PATH",
}

_EPILOG = {
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


def _bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=2000, metavar="N", help="files of the large run (default: 2000)")
    parser.add_argument("--kib", type=int, default=100, metavar="N", help="size of a header (default: 100 KiB)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds; figures are medians (default: 3)")
    parser.add_argument(
        "--dir", metavar="DIR", default="", help="where to work (default: the system's temporary directory)"
    )
    parser.add_argument("--json", action="store_true", help="figures for programs")


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a finding, for programs")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deep", action="store_true", help="read every instance's header: is it whole, and in its place"
    )
    parser.add_argument("--repair", action="store_true", help="mend the logs from the tree; no instance is touched")
    parser.add_argument("--json", action="store_true", help="one JSON object a difference, for programs")


def _retry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="a set-aside file's name, or a shell pattern of names")
    parser.add_argument("--reason", action="append", dest="reasons", metavar="R", help="only those set aside for R")
    parser.add_argument("--all", action="store_true", help="all of them, but for superseded ones")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be put back")
    parser.add_argument("--json", action="store_true", help="one JSON object a file, for programs")


_EXTRA = {
    "repack": _repack_options,
    "plan": _plan_options,
    "check": _check_options,
    "bench": _bench_options,
    "verify": _verify_options,
    "retry": _retry_options,
}

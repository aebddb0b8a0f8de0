"""The command line's parser: a command for each verb, with the options that verbs share (the rows of config.py)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import listener
from listener import config as configuration
from listener import verbs


def parser(words: list[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` is None when none was given.

    Of all verbs only the one that `words` name is imported and gets its options. Without `words` all do.
    """
    whole = argparse.ArgumentParser(
        prog="listener",
        description="DICOM intake that never loses a file: storescp's files repacked, described and measured.",
        epilog="'listener COMMAND --help' tells each command's options. Every option is also an environment variable "
        "LISTENER_<NAME> and a key of a TOML file (--config).",
    )
    whole.add_argument("-V", "--version", action="version", version=f"listener {listener.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND")
    # No option in front of the command takes a value.
    named = None if words is None else next((word for word in words if not word.startswith("-")), "")
    for name in verbs.names():
        text = verbs.summary(name)
        command = commands.add_parser(
            name, help=text[0].lower() + text[1:].removesuffix("."), description=text, allow_abbrev=False
        )
        if named in (name, None):
            verb = verbs.load(name)
            command.epilog = verb.EPILOG
            _add_shared_options(command, name, getattr(verb, "ALIASES", {}))
            verb.add_options(command)
    return whole


def _add_shared_options(parser: argparse.ArgumentParser, command: str, aliases: Mapping[str, tuple[str, ...]]) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these options (LISTENER_CONFIG)")
    defaults = configuration.defaults()
    for name, row in configuration.options().items():
        if command not in row.commands:
            continue
        spellings = [configuration.flag(name), *aliases.get(name, ())]
        if row.is_switch:
            text = f"{row.help} (default: off)"
            parser.add_argument(*spellings, dest=name, action="append_const", const="true", help=text)
        else:
            text = f"{row.help} (default: {_shown(row, defaults[name])})"
            parser.add_argument(*spellings, dest=name, action="append", metavar=row.metavar, help=text)


def _shown(row: configuration.Option, default: Any) -> str:
    text = row.shown or (" ".join(default) if isinstance(default, tuple) else str(default))
    if isinstance(default, float):
        text = f"{default:g}"
    return f"{text} {row.unit}".strip().replace("%", "%%")

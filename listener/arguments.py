"""The command line's parser: a command for each verb, with the options that verbs share (the rows of config.py)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import listener
from listener import config as configuration
from listener import parse, verbs


class _Parser(argparse.ArgumentParser):
    """A parser whose errors say what was probably meant."""

    #: The words of the command line, of which the first names the command.
    words: list[str] = []  # noqa: RUF012 - the whole parser sets its own

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end the program with status 2."""
        super().error(message + _hint(message, self.words))


def _hint(message: str, words: list[str]) -> str:
    """Return what to append to an error of argparse's: the command or the option that is most like what was given."""
    choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
    if choice:
        return _closest(choice[1], re.findall(r"[\w-]+", choice[2]))
    unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
    command = next((word for word in words if not word.startswith("-")), "")
    if not unknown or command not in verbs.names():
        return ""
    name = unknown[1].removeprefix("--").replace("-", "_")
    row = configuration.options().get(name)
    if row:
        return f"; {unknown[1]} belongs to {', '.join(sorted(row.commands))}"
    own = _Parser(add_help=False)
    _add_all_options(own, command)
    return _closest(unknown[1], re.findall(r"--[\w-]+", own.format_usage()))


def _closest(given: str, known: Iterable[str]) -> str:
    close = parse.closest(given, known)
    return f"; did you mean {close}?" if close else ""


def _add_all_options(command: argparse.ArgumentParser, name: str) -> None:
    verb = verbs.load(name)
    _add_shared_options(command, name, getattr(verb, "ALIASES", {}))
    verb.add_options(command)


def parser(words: list[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` is None when none was given.

    Of all verbs only the one that `words` name is imported and gets its options. Without `words` all do.
    """
    whole = _Parser(
        prog="listener",
        description="DICOM intake that never loses a file: storescp's files repacked, described and measured.",
        epilog="'listener COMMAND --help' tells each command's options. Every option is also an environment variable "
        "LISTENER_<NAME> and a key of a TOML file (--config).",
    )
    whole.add_argument("-V", "--version", action="version", version=f"listener {listener.__version__}")
    whole.words = words or []
    commands = whole.add_subparsers(dest="command", metavar="COMMAND")
    # No option in front of the command takes a value.
    named = None if words is None else next((word for word in words if not word.startswith("-")), "")
    for name in verbs.names():
        text = verbs.summary(name)
        command = commands.add_parser(
            name, help=text[0].lower() + text[1:].removesuffix("."), description=text, allow_abbrev=False
        )
        if named in (name, None):
            command.epilog = verbs.load(name).EPILOG
            _add_all_options(command, name)
    return whole


def flags(given: argparse.Namespace) -> dict[str, list[str] | None]:
    """Return what was given of the shared options, by field name: texts, or None."""
    return {name: getattr(given, name, None) for name in configuration.options()}


def commands_of(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, by name, in the order of `listener --help`."""
    for action in whole._actions:  # noqa: SLF001 - argparse shows its parts in no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def _add_shared_options(parser: argparse.ArgumentParser, command: str, aliases: Mapping[str, tuple[str, ...]]) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with any of these options (LISTENER_CONFIG; else the first of ./listener.toml, "
        "~/.config/listener.toml and /etc/listener.toml)",
    )
    defaults = configuration.defaults()
    for name, row in configuration.options().items():
        if command not in row.commands:
            continue
        add_option(parser, name, row, defaults[name], aliases.get(name, ()))


def add_option(
    parser: argparse.ArgumentParser, name: str, row: configuration.Option, default: Any, aliases: Sequence[str] = ()
) -> None:
    """Add the flag of a row; `aliases` are more spellings. Its texts are a list, None if it is not given."""
    spellings = [configuration.flag(name), *aliases]
    if row.is_switch:
        text = f"{row.help} (default: off)"
        parser.add_argument(*spellings, dest=name, action="append_const", const="true", help=text)
    else:
        text = f"{row.help} (default: {_shown(row, default)})"
        parser.add_argument(*spellings, dest=name, action="append", metavar=row.metavar, help=text)


def _shown(row: configuration.Option, default: Any) -> str:
    text = row.shown or (" ".join(default) if isinstance(default, tuple) else str(default))
    if isinstance(default, float):
        text = f"{default:g}"
    return f"{text} {row.unit}".strip().replace("%", "%%")

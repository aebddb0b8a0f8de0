"""Options of a stage: rows as in listener.config, in a class of its own.

Each is a flag of its command, a variable LISTENER_<STAGE>_<NAME>, and a key of the table [STAGE] of the file; other
commands pass over both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from listener import arguments, config_file, settings
from listener.config import Option
from listener.errors import ConfigError

#: A frozen dataclass whose fields are made by row().
T = TypeVar("T")


def row(default: Any, read: Callable[[str], Any], metavar: str, text: str, **more: Any) -> Any:
    """Return a field with its row; the arguments are those of Option."""
    return field(default=default, metadata={"option": Option(read, metavar, text, frozenset(), **more)})


def rows_of(kind: type[T]) -> dict[str, Option]:
    """Return the rows of a class by field name."""
    return {one.name: one.metadata["option"] for one in fields(kind)}  # type: ignore[arg-type]


def add_flags(parser: argparse.ArgumentParser, kind: type[T]) -> None:
    """Add the flags of a class to the parser of its command."""
    for one in fields(kind):  # type: ignore[arg-type]
        arguments.add_option(parser, one.name, one.metadata["option"], one.default)


def load(kind: type[T], stage: str, given: argparse.Namespace, environment: Mapping[str, str]) -> T:
    """Return the options of a stage: of two ways to say one, the first of flag, variable, file. `given` is what the
    command line says, with the file's path in `config`.

    Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    path = given.config or ""
    rows = rows_of(kind)
    from_file = config_file.read_table(path, stage, rows, problems) if path else {}
    values: dict[str, Any] = {}
    for name, one in rows.items():
        sources = settings.Sources({name: getattr(given, name, None)}, environment, from_file, path, stage)
        where, texts = sources.find(name, one)
        if texts is not None:
            settings.parse_into(values, name, one, where, texts, problems)
    if problems:
        raise ConfigError(problems)
    return kind(**values)

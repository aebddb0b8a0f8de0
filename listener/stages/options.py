"""Options of a stage: rows as in listener.config, in a class of its own.

Each is a flag of its command, a variable LISTENER_<STAGE>_<NAME>, and a key of the table [STAGE] of the file; other
commands pass over both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from listener import arguments, config_file, settings
from listener.config import rows_of
from listener.errors import ConfigError

#: A frozen dataclass whose fields are made by config.row().
T = TypeVar("T")


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
    flags = {name: getattr(given, name, None) for name in rows}
    sources = settings.Sources(flags, environment, from_file, path, stage)
    values: dict[str, Any] = {}
    for name, one in rows.items():
        where, texts = sources.find(name, one)
        if texts is not None:
            settings.parse_into(values, name, one, where, texts, problems)
    if problems:
        raise ConfigError(problems)
    return kind(**values)

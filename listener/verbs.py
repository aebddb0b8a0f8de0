"""The verbs of the command line: the modules of `listener.commands`, found by name (`set_aside` is `set-aside`). One
with a leading underscore is none.
"""

from __future__ import annotations

import argparse
import importlib
import os
from contextlib import suppress
from functools import cache
from typing import Protocol, cast

from listener import commands
from listener.config import Config

#: They come first in `listener --help`, since they take files in; the others follow by the alphabet.
_FIRST = ("run", "once", "repack")


class Verb(Protocol):
    """What the module of a verb has. The first line of its docstring is its help. It may have ALIASES as well: more
    spellings of the shared options, by field name.
    """

    #: Shown below its options: what else must be known, and the exit statuses.
    EPILOG: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add its own options and arguments to its parser."""

    def acts(self, given: argparse.Namespace) -> bool:
        """Return whether it does more than print: then it is done even when nobody reads what it prints."""

    def run(self, config: Config, given: argparse.Namespace) -> int:
        """Do it. Return the exit status; raise ListenerError or OSError."""


def names() -> tuple[str, ...]:
    """Return the names of all verbs, in the order of `listener --help`."""
    return _names_in(tuple(commands.__path__))


@cache
def _names_in(folders: tuple[str, ...]) -> tuple[str, ...]:
    files = (entry for folder in folders for entry in os.listdir(folder))
    found = [file[:-3].replace("_", "-") for file in files if file.endswith(".py") and not file.startswith("_")]
    return tuple(sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)))


def load(name: str) -> Verb:
    """Import the module of a verb."""
    return cast("Verb", importlib.import_module(f"{commands.__name__}.{_module(name)}"))


@cache
def summary(name: str) -> str:
    """Return the first line of a verb's docstring, read from its source: no verb is imported for `listener --help`."""
    for folder in commands.__path__:
        with suppress(FileNotFoundError), open(os.path.join(folder, f"{_module(name)}.py"), encoding="utf-8") as file:
            return file.readline().strip().strip('"')
    return ""


def _module(name: str) -> str:
    return name.replace("-", "_")

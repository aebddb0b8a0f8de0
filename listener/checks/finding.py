"""What `listener check` finds: one line each, with its remedy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from listener.config import Config
from listener.disk import mounts

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """One thing looked at: `level` is OK, NOTE (it works, with a cost) or PROBLEM; `remedy` is "" when none is
    needed.
    """

    level: str
    about: str
    text: str
    remedy: str = ""


def named(config: Config) -> list[tuple[str, str]]:
    """The directories with their options."""
    others = [("--data", config.data), ("--log", config.log), ("--state", config.state)]
    return [*(("--incoming", path) for path in config.incoming), *others]


def existing_parent(path: str) -> str:
    """The path itself, or the nearest directory above it that is there."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


@contextlib.contextmanager
def trial_file(directory: str) -> Iterator[tuple[int, str]]:
    """A new file with a hidden name, open for writing, and gone afterwards: its descriptor and path."""
    path = os.path.join(directory, f".listener-{mounts.trial_name()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

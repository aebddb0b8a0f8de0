"""Findings of `listener check`, and what several checks need: directories by option, a probe file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from listener.config import Config
from listener.disk import mounts

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """One result: `level` is OK, NOTE (works, at a cost) or PROBLEM; `about` an option; `remedy` "" if none needed."""

    level: str
    about: str
    text: str
    remedy: str = ""


def configured_directories(config: Config) -> list[tuple[str, str]]:
    """Return the configured directories as (option, path)."""
    others = [("--data", config.data), ("--log", config.log), ("--state", config.state)]
    return [*(("--incoming", path) for path in config.incoming), *others]


def existing_parent(path: str) -> str:
    """Return the path itself, or its nearest parent that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


@contextlib.contextmanager
def probe_file(directory: str) -> Iterator[tuple[int, str]]:
    """Make a hidden file, open for writing; yield its descriptor and path, and remove it at the end."""
    path = os.path.join(directory, f".listener-{mounts.trial_name()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

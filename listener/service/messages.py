"""What goes down and up a worker's pipe beside arrivals and results.

In a room of its own: a worker runs as `__main__`, whose classes nobody else could unpickle.
"""

from __future__ import annotations

from typing import NamedTuple

from listener.config import Config
from listener.disk.directories import Directories


class Setting(NamedTuple):
    """The first message down a pipe: by what a worker works."""

    config: Config
    directories: Directories
    manner: str


class Hello(NamedTuple):
    """The first message up a pipe: the worker works. One that ends before it has said so was not ended by a file."""

    pid: int


class Fatal(NamedTuple):
    """The last message up a pipe: the disk refused a sync, and the whole process must end."""

    error: str

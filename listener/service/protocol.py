"""What goes down and up a worker's pipe.

In a room of its own: a worker runs as `__main__`, whose classes nobody else could unpickle. Arrivals and results travel
as bare tuples, which takes a third of the time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from listener.config import Config
from listener.disk.directories import Directories
from listener.records import Arrival, Deferral, Outcome

_OUTCOME = len(Outcome._fields)
_FINISHED = Outcome._fields.index("finished_ns")


class WorkerConfig(NamedTuple):
    """The first message down a pipe: by what a worker works."""

    config: Config
    directories: Directories
    mode: str


class Ready(NamedTuple):
    """The first message up a pipe: the worker works. One that ends before it has said so was not ended by a file."""

    pid: int


class Fatal(NamedTuple):
    """The last message up a pipe: the disk refused a sync, and the whole process must end."""

    error: str


def send(pipe: Connection, message: Any) -> None:
    """Any message. Raises OSError when nobody is at the other end."""
    pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(pipe: Connection) -> Any:
    """The next message. Raises EOFError or OSError when there will be none."""
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own process is at the other end


def pack(records: Iterable[Arrival] | Iterable[Outcome | Deferral]) -> list[tuple[Any, ...]]:
    """Records as they travel."""
    return [tuple(record) for record in records]


def arrivals(message: Sequence[tuple[Any, ...]]) -> list[Arrival]:
    """Arrivals as they were before they travelled."""
    return [Arrival._make(one) for one in message]


def results(message: Sequence[tuple[Any, ...]], now_ns: int) -> list[Outcome | Deferral]:
    """Results as they were before they travelled, but that an outcome is finished when the parent has it."""
    return [
        Outcome._make((*one[:_FINISHED], now_ns, *one[_FINISHED + 1 :]))
        if len(one) == _OUTCOME
        else Deferral._make(one)
        for one in message
    ]

"""The messages between the service and its workers.

A module of its own, because a worker runs as `__main__`, whose classes other processes cannot unpickle. Arrivals and
results are sent as plain fields, which takes a third of the time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from listener.config import Config
from listener.disk.directories import Directories
from listener.records import Arrival, Deferral, Outcome

#: The first field of a deferral on the wire; that of an outcome is its kind, one of records.OUTCOMES.
DEFERRED = "deferred"

_FINISHED_NS = Outcome._fields.index("finished_ns")


class WorkerConfig(NamedTuple):
    """First message to a worker: configuration, directories, how files are taken (context.CLAIM, COPY, MOVE or LINK),
    and how nice it is to other processes (nice(2)).
    """

    config: Config
    directories: Directories
    mode: str
    niceness: int = 0


class Ready(NamedTuple):
    """First message from a worker: it is ready. If it dies before this, no file is to blame."""

    pid: int


class Fatal(NamedTuple):
    """Last message from a worker: the disk refused a sync, and the whole service must end."""

    error: str


def send(pipe: Connection, message: Any) -> None:
    """Send a message. Raises OSError if the other end is closed."""
    pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(pipe: Connection) -> Any:
    """Return the next message. Raises EOFError or OSError if the other end is closed."""
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own process is at the other end


def pack_arrivals(arrivals: Iterable[Arrival]) -> list[tuple[Any, ...]]:
    """Return the arrivals as fields for the wire."""
    return [tuple(arrival) for arrival in arrivals]


def unpack_arrivals(message: Iterable[Sequence[Any]]) -> list[Arrival]:
    """Rebuild arrivals from the wire."""
    return [Arrival._make(fields) for fields in message]


def pack_results(results: Iterable[Outcome | Deferral]) -> list[list[Any]]:
    """Return the results as fields for the wire, the first of which says what they are: DEFERRED, or a kind."""
    return [[DEFERRED, *result] if isinstance(result, Deferral) else list(result) for result in results]


def unpack_results(message: Iterable[list[Any]], now_ns: int) -> list[Outcome | Deferral]:
    """Rebuild results from the wire; `finished_ns` of an outcome becomes `now_ns`, the time of receipt."""
    return [_result(fields, now_ns) for fields in message]


def _result(fields: list[Any], now_ns: int) -> Outcome | Deferral:
    if fields[0] == DEFERRED:
        return Deferral._make(fields[1:])
    fields[_FINISHED_NS] = now_ns  # Outcome._replace would take three times as long as all else here.
    return Outcome._make(fields)

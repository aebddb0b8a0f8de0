"""The process that revises corrected series: reads a Request from standard input, writes Revised to standard output.

It is a process of its own because it imports pydicom, reads whole headers and may hang on a disk, none of which the
service's loop may do.
"""

from __future__ import annotations

import pickle
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from listener.records import Outcome
from listener.repacking.context import WorkerContext
from listener.repacking.revision import Revision, revise
from listener.service.protocol import WorkerConfig


class Request(NamedTuple):
    """The revisions, and the configuration to make them with."""

    worker_config: WorkerConfig
    revisions: Sequence[Revision]


class Revised(NamedTuple):
    """The result of one revision: outcomes of what was set aside, and "" or why the system refused it."""

    revision: Revision
    outcomes: list[Outcome]
    refused: str = ""


def answer(request: Request) -> list[Revised]:
    """Revise the series one by one and return the results."""
    worker_config = request.worker_config
    context = WorkerContext(worker_config.config, worker_config.directories, worker_config.mode)
    return [_revise_one(revision, context) for revision in request.revisions]


def _revise_one(revision: Revision, context: WorkerContext) -> Revised:
    outcomes: list[Outcome] = []
    try:
        revise(revision, context, outcomes)
    except OSError as error:
        return Revised(revision, outcomes, error.strerror or type(error).__name__)
    return Revised(revision, outcomes)


def main() -> None:
    """Process one request."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    request: Request = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - our own process is at the other end
    results = [tuple(result) for result in answer(request)]
    sys.stdout.buffer.write(pickle.dumps(results, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()

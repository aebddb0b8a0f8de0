"""The process that revises series: what was corrected, on its standard input, what was set aside, on its standard
output.

A process of its own, since it reads whole headers (pydicom takes memory, and the interpreter while it is imported) and
may hang on a disk: the service's loop does neither.
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
    """By what, and what to revise."""

    worker_config: WorkerConfig
    revisions: Sequence[Revision]


class Revised(NamedTuple):
    """What came of one revision: what was set aside, and "" or why the system refused it."""

    revision: Revision
    outcomes: list[Outcome]
    refused: str = ""


def answer(request: Request) -> list[Revised]:
    """Revise them one by one."""
    worker_config = request.worker_config
    context = WorkerContext(worker_config.config, worker_config.directories, worker_config.mode)
    return [_revised(one, context) for one in request.revisions]


def _revised(revision: Revision, context: WorkerContext) -> Revised:
    outcomes: list[Outcome] = []
    try:
        revise(revision, context, outcomes)
    except OSError as error:
        return Revised(revision, outcomes, error.strerror or type(error).__name__)
    return Revised(revision, outcomes)


def main() -> None:
    """Answer one request."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    request: Request = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - our own process is at the other end
    told = [tuple(one) for one in answer(request)]
    sys.stdout.buffer.write(pickle.dumps(told, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()

"""What `listener check` asks of the ledger: can it be opened, and does it lie well."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.disk.mounts import mount_of
from listener.errors import LedgerFault, LedgerMissing
from listener.ledger.opening import open_reader, path_of, translated
from listener.status import live
from listener.status.document import Accounts, document


def ledger(config: Config) -> Iterator[Finding]:
    """The ledger in the state directory; intake goes on without it, and nobody is told of series that are complete."""
    mount = mount_of(config.state)
    if mount and mount.is_network:
        text = f"the ledger lies on a network file system ({mount.kind}): readers and writer wait for each other"
        yield Finding(NOTE, "--state", text, "give a local disk, or let one machine alone use it")
    path = path_of(config.state)
    try:
        connection = open_reader(path)
        try:
            with translated():
                (number,) = connection.execute("SELECT sum(series) FROM series_counts").fetchone()
        finally:
            connection.close()
    except LedgerMissing:
        return
    except LedgerFault as fault:
        what, _, remedy = str(fault).partition("; ")
        yield Finding(PROBLEM, "--state", what, remedy)
        return
    if not os.access(path, os.W_OK):
        yield Finding(PROBLEM, "--state", "the ledger cannot be written", "see its owner and mode")
        return
    said = _what_the_service_says(config.state)
    if said:
        what, _, remedy = said.partition("; ")
        yield Finding(PROBLEM, "--state", f"the service that runs cannot write the ledger: {what}", remedy)
        return
    yield Finding(OK, "--state", f"the ledger can be read and written: {number} series")


def _what_the_service_says(state: str) -> str:
    """Why a running service cannot write the ledger; "" where it can, or none runs."""
    try:
        word = live.read(state)
    except OSError:
        return ""
    checks = document(word, None, Accounts(), time.time_ns())["service"]["checks"]
    check = checks.get("ledger", {"ok": True})
    return "" if check["ok"] else str(check["text"])

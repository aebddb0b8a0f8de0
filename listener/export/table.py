"""The table: a thread that puts what waits into parts, and writes them into the target."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from typing import Any, NamedTuple

import orjson

import listener
from listener.diagnostics import log
from listener.dicom.attributes import Limits
from listener.dicom.reader import read_elements
from listener.disk import files
from listener.disk.retry import delivery_pause
from listener.errors import LedgerFault
from listener.export import keys, parquet
from listener.export.columns import columns
from listener.export.faults import Stopped, TargetFault
from listener.export.instances import Instance
from listener.export.manifest import Manifest
from listener.export.members import Member, member_of
from listener.export.spool import Spool
from listener.export.target import Target, held
from listener.export.upload import Uploader
from listener.reasons import FileFault

#: Seconds between two looks whether a part is due.
_LOOK = 1.0

#: A header that is longer is left out of the table: some hold megabytes of private elements.
_LONGEST_HEADER = 200_000


class PartRules(NamedTuple):
    """When a part is closed: with so many rows, or so many seconds after its first; and its further columns."""

    rows: int = 100_000
    every: float = 900.0
    more: Sequence[str] = ()


class Table:
    """Writes parts; `told` is called in its thread for each, with what the event export-part tells."""

    def __init__(
        self,
        spool: Spool,
        target: Target,
        uploader: Uploader,
        rules: PartRules,
        told: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._spool, self._target, self._uploader = spool, target, uploader
        self._rules, self._told = rules, told
        self._columns = columns(rules.more)
        self._finishing, self._stopping = Event(), Event()
        self._thread = Thread(target=self._work, name="listener-table", daemon=True)
        self._failures = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """Close the last part, write what is due, and end."""
        self._finishing.set()

    @property
    def is_working(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> None:
        """End; what is not written is written by the next start."""
        self._stopping.set()
        self._finishing.set()
        if self._thread.ident:
            self._thread.join(timeout)

    def _work(self) -> None:
        while not self._stopping.is_set():
            is_last = self._finishing.is_set()
            pause = _LOOK
            try:
                self.write_due(is_last=is_last)
                self._failures = 0
            except (TargetFault, LedgerFault) as fault:
                if not self._failures:
                    log.warning("a part of the table cannot be written (%s); it is tried again", fault)
                self._failures += 1
                pause = min(60.0, delivery_pause(self._failures))
            except Stopped:
                return
            if is_last:
                return
            self._finishing.wait(pause)

    def write_due(self, *, is_last: bool) -> None:
        """Write all parts that are due; with `is_last` also what is in none yet."""
        while True:
            waiting = self._spool.waiting()
            age = (time.time_ns() - waiting.since_ns) / 1e9
            if waiting.instances and (is_last or waiting.instances >= self._rules.rows or age >= self._rules.every):
                self._spool.close_part(self._rules.rows)
            part = self._spool.part()
            if not part:
                return
            key = keys.of_table(part.day, part.content)
            size = 0
            # Its name tells what is in it: one that is there was written by an attempt before.
            if not self._target.look(key):
                data = parquet.written(self._columns, self._spool.rows(part), f"dicom-listener {listener.__version__}")
                size = len(data)
                self._uploader.put(held(key, data), looks=False)
            self._spool.written(part)
            self._told({"key": key, "rows": part.instances, "bytes": size})


def member(manifest: Manifest, new: Sequence[Instance], data_dir: str) -> Member | None:
    """Return the member of the table that a generation makes."""
    if not new:
        return None
    first = min(new, key=lambda one: one.row.path)
    values = {
        (one.row.SOPInstanceUID, one.sha256, one.row.size): {
            **one.values,
            "TransferSyntaxUID": one.TransferSyntaxUID,
        }
        for one in new
    }
    return member_of(manifest, values, header_of(f"{data_dir}/{first.row.path}"))


def header_of(path: str) -> str:
    """Return the header of an instance as JSON: texts by keyword; "" where it cannot be read any more."""
    try:
        with files.opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            found = read_elements(descriptor, size, Limits())
    except (OSError, FileFault):
        return ""
    text = orjson.dumps({keyword: one["value"] for keyword, one in found.items()}).decode()
    return text if len(text) <= _LONGEST_HEADER else ""

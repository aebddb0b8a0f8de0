"""Which unit is due when a delivery of a series comes: its batch, once all of that is there, else the series alone."""

from __future__ import annotations

import time
from contextlib import closing

from listener.deidentify.metric_rows import NAME
from listener.deidentify.units import Part, Task
from listener.ledger import batch_parts, batches, consumers
from listener.ledger.connection import open_reader, open_writer, path_of, transaction, translated
from listener.ledger.reader import Reader
from listener.ledger.rows import SeriesRow


def task_of(state_dir: str, series: SeriesRow, generation: int, *, is_incomplete: bool) -> Task:
    """Return the unit that is due with a generation of a series. Raises Postponed while files of its batch are being
    taken or series of it are open; LedgerFault.
    """
    with closing(open_reader(path_of(state_dir))) as connection:
        reader = Reader(connection)
        with translated():
            found = batch_parts.whole_batch(connection, series, generation)
        if found is None:
            return Task([Part(series, generation, is_incomplete, reader.instances_of(series))])
        batch, parts = found
        whole = [
            Part(part.series, part.generation, part.series.state == "incomplete", reader.instances_of(part.series))
            for part in parts
        ]
        return Task(whole, batch.id, batch.generation)


def withhold(state_dir: str, batch: int) -> None:
    """Record in the ledger that nothing of a batch passed. Raises LedgerFault."""
    with translated(), closing(open_writer(path_of(state_dir))) as connection, transaction(connection):
        batches.withhold(connection, batch, NAME)


def release(state_dir: str, series: set[str]) -> None:
    """Have these series, and those that came in a batch with them, cleaned again. Raises LedgerFault."""
    with translated(), closing(open_writer(path_of(state_dir))) as connection:
        consumer = consumers.id_of(connection, NAME)
        for uid in sorted({other for one in series for other in batch_parts.series_beside(connection, one)}):
            ids = consumers.deliveries_of_uid(connection, consumer, uid)
            consumers.redeliver_these(connection, consumer, ids, time.time_ns())

"""PURE. Questions about batches, for readers."""

from __future__ import annotations

from listener.ledger.rows import SERIES_COLUMNS

_BATCHES = """
SELECT b.id, b.name, b.root, b.state, b.generation, b.files, count(m.series_id), ifnull(sum(m.instances), 0),
    ifnull(sum(m.bytes), 0), b.errors, b.made_ns, b.queued_ns, b.started_ns, b.finished_ns, b.withheld_by
FROM batches b LEFT JOIN batch_series m ON m.batch_id = b.id AND m.generation = b.generation
"""
BATCHES = f"{_BATCHES} WHERE b.made_ns BETWEEN ? AND ? GROUP BY b.id ORDER BY b.id"
BATCHES_PAGE = f"""
{_BATCHES} WHERE b.id < ?1 AND (?2 = '' OR b.state = ?2) AND (?3 = 0 OR b.errors > 0)
GROUP BY b.id ORDER BY b.id DESC LIMIT ?4
"""
ONE_BATCH = f"{_BATCHES} WHERE b.id = ? GROUP BY b.id"
SERIES_OF_BATCH = f"""
SELECT {SERIES_COLUMNS} FROM batches b JOIN batch_series m ON m.batch_id = b.id AND m.generation = b.generation
JOIN series s ON s.id = m.series_id WHERE b.id = ? ORDER BY s.id
"""
ERRORS_OF_BATCH = """
SELECT e.path, e.reason, e.error, ifnull(s.SeriesInstanceUID, ''), e.at_ns
FROM batch_errors e LEFT JOIN series s ON s.id = e.series_id WHERE e.batch_id = ? ORDER BY e.id
"""

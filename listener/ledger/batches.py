"""Batches: what came together, as a folder or by one request, and how far all of it is.

A batch is `new` (seen, unfinished), `queue` (finished, waits), `processing`, and then `done`, or `empty` when nothing
of it passed: the words of Sendit. What comes for one that has ended begins its next generation. Every function works on
a writer's connection of the caller's thread, within a transaction of the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from listener.planning.names import printable

STATES = ("new", "queue", "processing", "done", "empty")

#: States that are announced by an event each, `batch-<state>` (batch-queued of `queue`).
ANNOUNCED = {"queue": "batch-queued", "done": "batch-done", "empty": "batch-empty"}


class BatchKey(NamedTuple):
    """What identifies a batch: the directory where its folder lies, and the folder's name in bytes. A batch that is no
    folder has the root "".
    """

    root: str
    folder: bytes

    @property
    def name(self) -> str:
        """Return the folder's name as people read it."""
        return printable(self.folder.decode("utf-8", "surrogateescape"))


class SeriesShare(NamedTuple):
    """What a batch has of one series: instances that passed (new, or there before) and their bytes."""

    series_id: int
    instances: int
    bytes: int


class FileError(NamedTuple):
    """A file of a batch that did not pass: its path in the folder as people read it, one of SET_ASIDE_REASONS or
    `vanished`, the same in words, and its series (0: not known).
    """

    path: str
    reason: str
    text: str
    series_id: int = 0


class Account(NamedTuple):
    """What became of all files of a batch's generation. `signature` and `inode`: of the folder, by which the same one
    is known again.
    """

    files: int
    series: Sequence[SeriesShare]
    errors: Sequence[FileError]
    signature: str = ""
    inode: int = 0


class BatchState(NamedTuple):
    """How a batch stands. `has_ended_files`: the account of its generation was recorded; `renamed`: its folder has the
    name of one with an error; `announced`: the state that was announced last.
    """

    id: int
    root: str
    folder: bytes
    state: str
    generation: int
    has_ended_files: bool
    errors: int
    signature: str
    inode: int
    renamed: bool
    announced: str

    @property
    def key(self) -> BatchKey:
        """Return what identifies the batch."""
        return BatchKey(self.root, self.folder)


_STATE = """
SELECT id, root, folder, state, generation, files_ended_ns > 0, errors, signature, inode, renamed, announced
FROM batches
"""
#: The series of a batch's generation that go on in the generation that its files came in.
_OPEN_SERIES = """
SELECT DISTINCT s.SeriesInstanceUID, s.StudyInstanceUID FROM batches b JOIN batch_series m ON m.batch_id = b.id
JOIN series s ON s.id = m.series_id
WHERE b.state = 'processing' AND b.files_ended_ns > 0 AND m.generation = b.generation
AND s.state = 'open' AND s.generation <= m.awaits
"""
_ENDED = """
SELECT b.id, (b.withheld_by = '' AND EXISTS (SELECT 1 FROM batch_series m
    WHERE m.batch_id = b.id AND m.generation = b.generation AND m.instances > 0)) FROM batches b
WHERE b.state = 'processing' AND b.files_ended_ns > 0 AND NOT EXISTS (
    SELECT 1 FROM batch_series m JOIN series s ON s.id = m.series_id WHERE m.batch_id = b.id
    AND m.generation = b.generation AND s.state = 'open' AND s.generation <= m.awaits
) AND NOT EXISTS (
    SELECT 1 FROM batch_series m JOIN deliveries d ON d.series_id = m.series_id AND d.generation = m.awaits
    JOIN consumers c ON c.id = d.consumer_id
    WHERE m.batch_id = b.id AND m.generation = b.generation AND d.state = 'pending' AND c.active = 1
)
"""
_BEGIN_AGAIN = """
UPDATE batches SET generation = generation + (state IN ('done', 'empty')), state = 'queue', queued_ns = ?,
    changed_ns = ?, started_ns = 0, files_ended_ns = 0, finished_ns = 0, files = 0, errors = 0, withheld_by = '',
    renamed = 0, announced = '' WHERE id = ?
"""
_ADD_SHARE = """
INSERT INTO batch_series (batch_id, series_id, generation, awaits, instances, bytes)
SELECT ?1, id, ?2, generation, ?4, ?5 FROM series WHERE id = ?3
ON CONFLICT (batch_id, series_id) DO UPDATE SET generation = excluded.generation, awaits = excluded.awaits,
    instances = CASE generation WHEN excluded.generation THEN max(instances, excluded.instances)
        ELSE excluded.instances END,
    bytes = CASE generation WHEN excluded.generation THEN max(bytes, excluded.bytes) ELSE excluded.bytes END
"""


def state_of(connection: sqlite3.Connection, key: BatchKey) -> BatchState | None:
    """Return how a batch stands; None if there is none."""
    row = connection.execute(f"{_STATE} WHERE root = ? AND folder = ?", key).fetchone()
    return BatchState(*row) if row else None


def by_id(connection: sqlite3.Connection, number: int) -> BatchState | None:
    """Return how the batch of this number stands; None if there is none."""
    row = connection.execute(f"{_STATE} WHERE id = ?", (number,)).fetchone()
    return BatchState(*row) if row else None


def states_of(connection: sqlite3.Connection, root: str) -> list[BatchState]:
    """Return how every batch of a root stands."""
    return [BatchState(*row) for row in connection.execute(f"{_STATE} WHERE root = ?", (root,))]


def see(connection: sqlite3.Connection, key: BatchKey, now_ns: int) -> None:
    """Record a batch that is unfinished, unless it is known."""
    connection.execute(
        "INSERT OR IGNORE INTO batches (root, folder, name, made_ns, changed_ns) VALUES (?, ?, ?, ?, ?)",
        (*key, key.name, now_ns, now_ns),
    )


def forget(connection: sqlite3.Connection, key: BatchKey) -> None:
    """Remove a batch that never was finished: its folder is gone, or has its final name now."""
    connection.execute("DELETE FROM batches WHERE root = ? AND folder = ? AND state = 'new'", key)


def queue(connection: sqlite3.Connection, key: BatchKey, now_ns: int) -> BatchState:
    """Record that a batch is finished and waits; one that had ended begins its next generation. What is under way goes
    on. Return how it stands.
    """
    see(connection, key, now_ns)
    known = state_of(connection, key)
    assert known
    if known.state in ("queue", "processing"):
        return known
    connection.execute(_BEGIN_AGAIN, (now_ns, now_ns, known.id))
    return known._replace(
        state="queue",
        generation=known.generation + (known.state != "new"),
        has_ended_files=False,
        errors=0,
        renamed=False,
        announced="",
    )


def start(connection: sqlite3.Connection, key: BatchKey, now_ns: int) -> BatchState:
    """Record that a batch is being processed; queue it before, if it is not. Return how it stands."""
    known = queue(connection, key, now_ns)
    connection.execute(
        "UPDATE batches SET state = 'processing', started_ns = ?, changed_ns = ? WHERE id = ? AND state = 'queue'",
        (now_ns, now_ns, known.id),
    )
    return known._replace(state="processing")


def end_files(connection: sqlite3.Connection, key: BatchKey, account: Account, now_ns: int) -> BatchState:
    """Record what became of all files of a batch. Done again for the same generation (after a kill, when some files may
    be gone) it makes no number smaller. Return how it stands.
    """
    known, errors = start(connection, key, now_ns), account.errors
    connection.execute(
        "UPDATE batches SET files_ended_ns = CASE files_ended_ns WHEN 0 THEN ? ELSE files_ended_ns END, "
        "files = max(files, ?), errors = ?, signature = ?, inode = ?, renamed = ?, changed_ns = ? WHERE id = ?",
        (now_ns, account.files, len(errors), account.signature, account.inode, bool(errors), now_ns, known.id),
    )
    for share in account.series:
        add_series(connection, known, share)
    connection.execute("DELETE FROM batch_errors WHERE batch_id = ?", (known.id,))
    connection.executemany(
        "INSERT INTO batch_errors (batch_id, series_id, at_ns, error, generation, path, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (known.id, error.series_id, now_ns, error.text, known.generation, error.path, error.reason)
            for error in errors
        ],
    )
    return by_id(connection, known.id) or known


def add_series(connection: sqlite3.Connection, batch: BatchState, share: SeriesShare) -> None:
    """Record what a batch has of a series; of one that it had in this generation the larger numbers stay."""
    connection.execute(_ADD_SHARE, (batch.id, batch.generation, *share))


def awaited(connection: sqlite3.Connection, batch: BatchState, series: int) -> int:
    """Return the generation of a series in which files of a batch came; 0 if it has nothing of that series."""
    row = connection.execute(
        "SELECT awaits FROM batch_series WHERE batch_id = ? AND series_id = ? AND generation = ?",
        (batch.id, series, batch.generation),
    ).fetchone()
    return int(row[0]) if row else 0


def keep_name(connection: sqlite3.Connection, key: BatchKey) -> None:
    """Record that a folder with an error has its name still: the system did not let it be renamed."""
    connection.execute("UPDATE batches SET renamed = 0 WHERE root = ? AND folder = ?", key)


def withhold(connection: sqlite3.Connection, number: int, consumer: str) -> None:
    """Record that a consumer let nothing of a batch pass: it ends `empty`."""
    connection.execute("UPDATE batches SET withheld_by = ? WHERE id = ?", (consumer, number))


def open_series(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the series (SeriesInstanceUID, StudyInstanceUID) that are open although all files of a batch of theirs
    have ended.
    """
    return [(uid, study) for uid, study in connection.execute(_OPEN_SERIES)]


def end_due(connection: sqlite3.Connection, now_ns: int) -> list[BatchState]:
    """End the batches of which every file has an end, every series has ended, and every active consumer has taken or
    given up each of them; return how these stand.
    """
    ended = connection.execute(_ENDED).fetchall()
    connection.executemany(
        "UPDATE batches SET state = ?, finished_ns = ?, changed_ns = ? WHERE id = ? AND state = 'processing'",
        [("done" if passed else "empty", now_ns, now_ns, number) for number, passed in ended],
    )
    return [state for number, _ in ended if (state := by_id(connection, number))]


def is_any_due(connection: sqlite3.Connection) -> bool:
    """Return whether end_due() would end one."""
    return connection.execute(f"{_ENDED} LIMIT 1").fetchone() is not None


def unannounced(connection: sqlite3.Connection) -> list[BatchState]:
    """Return the batches whose state was recorded and perhaps not announced: a crash came between."""
    marks = ", ".join("?" * len(ANNOUNCED))
    question = f"{_STATE} WHERE state IN ({marks}) AND announced <> state ORDER BY changed_ns, id"
    return [BatchState(*row) for row in connection.execute(question, tuple(ANNOUNCED))]


def sums_of(connection: sqlite3.Connection, batch: BatchState) -> tuple[int, int]:
    """Return how many series and instances a batch has in its generation."""
    series, instances = connection.execute(
        "SELECT count(*), ifnull(sum(instances), 0) FROM batch_series WHERE batch_id = ? AND generation = ?",
        (batch.id, batch.generation),
    ).fetchone()
    return series, instances


def mark_announced(connection: sqlite3.Connection, number: int, state: str) -> None:
    """Record that a batch's state was announced."""
    connection.execute("UPDATE batches SET announced = ? WHERE id = ? AND state = ?", (state, number, state))


COUNTS = "SELECT state, errors > 0, count(*) FROM batches GROUP BY state, errors > 0"


def counted(rows: Iterable[tuple[str, int, int]]) -> tuple[dict[str, int], int]:
    """Return the number of batches by state, and of those with an error, from rows of COUNTS."""
    found = dict.fromkeys(STATES, 0)
    with_error = 0
    for state, has_error, number in rows:
        found[state] += number
        with_error += number * has_error
    return found, with_error

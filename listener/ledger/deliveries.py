"""Consumers, and what they are to be told: one delivery for each generation of a series that ends, and for each file
that is set aside, made in the transaction that records it.

A consumer takes a delivery under a lease with an end, so that what a killed one held is given out again: at least once,
with a key by which the same one is known. Every function works on a writer's connection of the caller's own thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from listener.ledger.connection import transaction
from listener.ledger.rows import ASIDE_COLUMNS, SERIES_COLUMNS, AsideRow, Change, Delivery, SeriesRow

#: What a delivery tells of.
EVENTS = ("series-complete", "series-incomplete", "set-aside")

#: The error of a delivery that was given up with its consumer.
RETIRED = "the consumer was retired"

_NOTHING = "the ledger does not have what it tells of any more"

_ALWAYS = 2**63 - 1

_DUE = """
SELECT id, event, attempts, series_id, generation, set_aside_id FROM deliveries
WHERE consumer_id = ? AND state = 'pending' AND next_ns <= ? AND lease_until_ns <= ?
ORDER BY set_aside_id > 0, next_ns, id LIMIT ?
"""

_FIRST = "SELECT min(id) FROM series WHERE SeriesInstanceUID = ?"


def register(
    connection: sqlite3.Connection,
    name: str,
    now_ns: int,
    *,
    owner: str = "",
    is_start: bool = False,
    takes_over: bool = True,
) -> int:
    """Let `name` hear of what happens from now on, and return the consumer's number. One that is registered already
    begins anew: what it had taken and not settled is due at once, and so is what was to be tried later. One that was
    retired hears nothing of what happened meanwhile. `owner`: the listener that serves it from now on, unless another
    one does and it is not to be taken over. `is_start`: its receiver may be another one than the one that had it
    stopped.
    """
    with transaction(connection):
        make_known(connection, [name], now_ns, owner)
        if is_start:
            connection.execute("UPDATE consumers SET stopped = '' WHERE name = ?", (name,))
        if owner:
            connection.execute(
                "UPDATE consumers SET owner = ? WHERE name = ? AND owner <> ? AND (owner = '' OR active = 0 OR ?)",
                (owner, name, owner, takes_over),
            )
        found = connection.execute("SELECT id, active FROM consumers WHERE name = ?", (name,)).fetchone()
        if not found[1]:
            connection.execute("UPDATE consumers SET active = 1, since_ns = ? WHERE id = ?", (now_ns, found[0]))
        connection.execute(
            "UPDATE deliveries SET lease = '', lease_until_ns = 0, next_ns = min(next_ns, ?) "
            "WHERE consumer_id = ? AND state = 'pending' AND (lease_until_ns > 0 OR next_ns > ?)",
            (now_ns, found[0], now_ns),
        )
        return int(found[0])


def retire(connection: sqlite3.Connection, name: str, now_ns: int) -> None:
    """Let `name` hear nothing new; what it was not told yet fails."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET active = 0 WHERE name = ?", (name,))
        connection.execute(
            "UPDATE deliveries SET state = 'failed', error = ?, settled_ns = ? WHERE state = 'pending' "
            "AND consumer_id = (SELECT id FROM consumers WHERE name = ?)",
            (RETIRED, now_ns, name),
        )


def active(connection: sqlite3.Connection) -> set[str]:
    """The names of all consumers that are to be told."""
    return {name for (name,) in connection.execute("SELECT name FROM consumers WHERE active = 1")}


def make_known(connection: sqlite3.Connection, names: Iterable[str], now_ns: int, owner: str = "") -> None:
    """Within a transaction: consumers that the ledger, perhaps one that was made anew, does not have yet."""
    connection.executemany(
        "INSERT OR IGNORE INTO consumers (name, owner, since_ns) VALUES (?, ?, ?)",
        [(name, owner, now_ns) for name in sorted(names)],
    )


def owed(connection: sqlite3.Connection) -> tuple[set[str], set[str]]:
    """What consumers have not taken yet: series, and set-aside files by their path."""
    series = "SELECT DISTINCT s.SeriesInstanceUID FROM deliveries d JOIN series s ON s.id = d.series_id"
    aside = "SELECT DISTINCT a.path FROM deliveries d JOIN set_aside a ON a.id = d.set_aside_id"
    found = [{one for (one,) in connection.execute(f"{ask} WHERE d.state = 'pending'")} for ask in (series, aside)]
    return found[0], found[1]


def tell_consumers(
    connection: sqlite3.Connection,
    event: str,
    now_ns: int,
    *,
    series: tuple[int, int] = (0, 0),
    aside: int = 0,
    since: int | None = None,
) -> None:
    """Within a transaction: a delivery for every active consumer. `series`: number and generation. `since`: only for
    those that were registered at that moment, in nanoseconds since the epoch.
    """
    connection.execute(
        "INSERT OR IGNORE INTO deliveries (consumer_id, event, series_id, generation, set_aside_id, made_ns, next_ns) "
        "SELECT id, ?, ?, ?, ?, ?, ? FROM consumers WHERE active = 1 AND since_ns <= ? ORDER BY id",
        (event, *series, aside, now_ns, now_ns, _ALWAYS if since is None else since),
    )


def lease(connection: sqlite3.Connection, consumer: int, now_ns: int, until_ns: int, limit: int = 1) -> list[Delivery]:
    """Take what is due until `until_ns`; what is not settled by then is given out again. Series come first, so that a
    flood of bad files holds up none; of each kind the longest due.
    """
    # Asked without a lock first: mostly there is nothing.
    due = (consumer, now_ns, now_ns, limit)
    if not connection.execute(_DUE, due).fetchall():
        return []
    holder = f"{consumer}/{now_ns}"
    with transaction(connection):
        found = connection.execute(_DUE, due).fetchall()
        connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, lease = ?, lease_until_ns = ? WHERE id = ?",
            [(holder, until_ns, row[0]) for row in found],
        )
        taken = {row[0]: _delivery(connection, row, holder) for row in found}
        connection.executemany(
            "UPDATE deliveries SET state = 'failed', settled_ns = ?, error = ? WHERE id = ?",
            [(now_ns, _NOTHING, number) for number, delivery in taken.items() if delivery is None],
        )
        return [delivery for delivery in taken.values() if delivery]


def _delivery(connection: sqlite3.Connection, row: tuple[int, str, int, int, int, int], holder: str) -> Delivery | None:
    """A delivery with what it tells of; None where that is not there, because somebody removed it."""
    number, event, attempts, series_id, generation, aside_id = row
    about = (number, event, f"set-aside/{aside_id}", attempts + 1, holder)
    if aside_id:
        aside = connection.execute(f"SELECT {ASIDE_COLUMNS} FROM set_aside a WHERE id = ?", (aside_id,)).fetchone()
        return Delivery(*about, aside=AsideRow(*aside)) if aside else None
    found = connection.execute(f"SELECT {SERIES_COLUMNS} FROM series s WHERE id = ?", (series_id,)).fetchone()
    change = connection.execute(
        f"SELECT {', '.join(Change._fields)} FROM history WHERE series_id = ? AND generation = ? AND state <> 'open'",
        (series_id, generation),
    ).fetchone()
    if not found or not change:
        return None
    series = SeriesRow(*found)
    delivery = Delivery(*about, series=series, change=Change(*change))
    return delivery._replace(key=_key(connection, series, generation))


def _key(connection: sqlite3.Connection, series: SeriesRow, generation: int) -> str:
    """Series and generation; and the study, where another one had the series UID before. Rows stay, and so do keys."""
    (first,) = connection.execute(_FIRST, (series.SeriesInstanceUID,)).fetchone()
    key = f"{series.SeriesInstanceUID}/{generation}"
    return key if series.id == first else f"{key}/{series.StudyInstanceUID}"


def settle(
    connection: sqlite3.Connection, delivery: Delivery, state: str, now_ns: int, *, next_ns: int = 0, error: str = ""
) -> bool:
    """How an attempt went: `delivered`, `failed` for good, or `pending`, to be tried again at `next_ns`. False when the
    lease had run out and somebody else has it. What was delivered is that, also when its consumer was retired since.
    """
    settled = now_ns if state != "pending" else 0
    with transaction(connection):
        changed = connection.execute(
            "UPDATE deliveries SET state = ?, next_ns = ?, lease = '', lease_until_ns = 0, settled_ns = ?, error = ? "
            "WHERE id = ? AND lease = ? "
            "AND (state = 'pending' OR (state = 'failed' AND ? = 'delivered' AND error = ?))",
            (state, next_ns, settled, error, delivery.id, delivery.lease, state, RETIRED),
        )
        return changed.rowcount == 1


def taken(connection: sqlite3.Connection, series: SeriesRow) -> bool:
    """Whether every active consumer has taken a series' last generation, as far as it was to be told of it: what was
    only found by `verify --repair` is told to nobody.
    """
    (left,) = connection.execute(
        "SELECT count(*) FROM deliveries d JOIN consumers c ON c.id = d.consumer_id WHERE d.series_id = ? "
        "AND d.generation = ? AND d.state <> 'delivered' AND c.active = 1 AND c.since_ns <= ?",
        (series.id, series.generation, series.changed_ns),
    ).fetchone()
    return not left

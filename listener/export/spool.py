"""What is put down before a delivery is settled: rows that wait to be written into the table, gone when they are in the
target, and where generations went.

After a kill: a member is there or not, and a repeated delivery adds it once; a part that was put down is written by the
next start, with the same members under the same name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Lock
from typing import NamedTuple

from listener.export import members, places
from listener.export.members import Member
from listener.export.places import Place
from listener.export.schema import EXPORT
from listener.stages.database import open_writer, transaction, translated

_ADD = "INSERT OR IGNORE INTO members (name, instances, made_ns, rows) VALUES (?, ?, ?, ?)"
_WAITING = "SELECT id, name, instances FROM members WHERE part_id = 0 ORDER BY id"
_SUMS = "SELECT ifnull(sum(instances), 0), ifnull(min(made_ns), 0) FROM members WHERE part_id = 0"
_ROWS = "SELECT rows FROM members WHERE part_id = ? ORDER BY name"


class Part(NamedTuple):
    """A part of the table: its number, its day (UTC, YYYY-MM-DD), the hash of what is in it, and its rows."""

    id: int
    day: str
    content: str
    instances: int


class Waiting(NamedTuple):
    """What is in no part yet: instances, and when the first of them was added (ns since the epoch; 0: none)."""

    instances: int
    since_ns: int


class Spool:
    """The rows that wait, for any thread. Methods raise StageFault."""

    def __init__(self, state_dir: str) -> None:
        self._connection = open_writer(state_dir, EXPORT)
        with translated():
            # The ledger's word that a series is exported must not survive a power cut that these rows do not.
            self._connection.execute("PRAGMA synchronous = FULL")
        self._lock = Lock()

    def add(self, member: Member | None, place: Place | None = None) -> None:
        """Add a member, unless it was added before, and where its generation was exported."""
        with self._lock, transaction(self._connection):
            if member:
                values = (member.name, member.instances, time.time_ns(), member.rows)
                self._connection.execute(_ADD, values)
            if place:
                places.record(self._connection, place)

    def waiting(self) -> Waiting:
        """Return what is in no part yet."""
        with self._lock, translated():
            return Waiting(*self._connection.execute(_SUMS).fetchone())

    def close_part(self, most: int) -> None:
        """Put down a part of what waits: about `most` instances, at least one member."""
        with self._lock, transaction(self._connection):
            taken, names, count = list[int](), list[str](), 0
            for number, name, instances in self._connection.execute(_WAITING):
                if taken and count + instances > most:
                    break
                taken.append(number)
                names.append(name)
                count += instances
            if not taken:
                return
            day = datetime.now(UTC).date().isoformat()
            part = self._connection.execute(
                "INSERT INTO parts (day, content, instances) VALUES (?, ?, ?)",
                (day, members.content_of(sorted(names)), count),
            ).lastrowid
            self._connection.executemany("UPDATE members SET part_id = ? WHERE id = ?", [(part, one) for one in taken])

    def part(self) -> Part | None:
        """Return the oldest part that is not in the target."""
        question = "SELECT id, day, content, instances FROM parts WHERE written_ns = 0 ORDER BY id LIMIT 1"
        with self._lock, translated():
            row = self._connection.execute(question).fetchone()
            return Part(*row) if row else None

    def rows(self, part: Part) -> Iterator[dict[str, object]]:
        """Yield the rows of a part, always in the same order."""
        with self._lock, translated():
            packed = [row for (row,) in self._connection.execute(_ROWS, (part.id,))]
        for one in packed:
            yield from members.unpacked(one)

    def written(self, part: Part) -> None:
        """Record that a part is in the target; of its members the names are kept."""
        with self._lock, transaction(self._connection):
            self._connection.execute("UPDATE members SET rows = x'' WHERE part_id = ?", (part.id,))
            self._connection.execute("UPDATE parts SET written_ns = ? WHERE id = ?", (time.time_ns(), part.id))

    def forget_waiting(self) -> None:
        """Record that all that waits is in the target."""
        with self._lock, transaction(self._connection):
            self._connection.execute("UPDATE members SET rows = x'', part_id = -1 WHERE part_id = 0")
            self._connection.execute(
                "UPDATE members SET rows = x'' WHERE part_id IN (SELECT id FROM parts WHERE written_ns = 0)"
            )
            self._connection.execute("UPDATE parts SET written_ns = ? WHERE written_ns = 0", (time.time_ns(),))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

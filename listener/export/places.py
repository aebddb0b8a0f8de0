"""Where each generation of a series was exported, as the stage keeps it for `listener series UID`."""

from __future__ import annotations

import time
from contextlib import closing
from sqlite3 import Connection
from typing import NamedTuple

from listener.export.manifest import Manifest
from listener.export.schema import EXPORT
from listener.stages.database import StageMissing, open_reader, translated

_ADD = "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_OF_SERIES = "SELECT * FROM places WHERE SeriesInstanceUID = ? ORDER BY generation, at_ns"


class Place(NamedTuple):
    """A generation of a series in a target: the target as it is shown, the key of its manifest, how many instances and
    bytes that lists, how they were verified (read or head), and when it was recorded (ns since the epoch).
    """

    SeriesInstanceUID: str
    StudyInstanceUID: str
    generation: int
    target: str
    manifest: str
    instances: int
    bytes: int
    verified: str
    at_ns: int


def place_of(told: Manifest, key: str, target: str) -> Place:
    """Return where a generation is, now that its manifest was read back."""
    uids = (told.SeriesInstanceUID, told.StudyInstanceUID)
    return Place(*uids, told.generation, target, key, len(told.entries), told.bytes, told.verified, time.time_ns())


def record(connection: Connection, place: Place) -> None:
    """Record a place, within a transaction of the caller's."""
    connection.execute(_ADD, place)


def places_of(state_dir: str, uid: str) -> list[Place]:
    """Return where the generations of a Series Instance UID were exported; none where the stage never ran. Raises
    StageFault.
    """
    try:
        connection = open_reader(state_dir, EXPORT)
    except StageMissing:
        return []
    with closing(connection), translated():
        return [Place(*row) for row in connection.execute(_OF_SERIES, (uid,))]

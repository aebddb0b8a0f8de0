"""What the stage export keeps in `<state>/export/export.sqlite`: rows of the table that are in no part yet, and which
are, and where each generation went. All else that it knows is in the target and in the ledger; what is lost here
`export rebuild-parquet` makes again.
"""

from __future__ import annotations

from listener.stages.database import Schema

# members: instances that are new in a generation; `name` follows from them alone, so that a repeated delivery adds
# none. `rows` is what the table shows of them (packed), '' once they are in the target. part_id 0: in no part yet.
# parts: put down before they are written, so that a repetition writes the same object.
_FIRST = """
CREATE TABLE members (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    instances INTEGER NOT NULL,
    made_ns INTEGER NOT NULL,
    part_id INTEGER NOT NULL DEFAULT 0,
    rows BLOB NOT NULL
);
CREATE INDEX members_waiting ON members (id) WHERE part_id = 0;
CREATE INDEX members_of_part ON members (part_id) WHERE part_id > 0;
CREATE TABLE parts (
    id INTEGER PRIMARY KEY,
    day TEXT NOT NULL,
    content TEXT NOT NULL,
    instances INTEGER NOT NULL,
    written_ns INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX parts_waiting ON parts (id) WHERE written_ns = 0;
"""

# places: where the manifest of each generation is, for people; see listener.export.places.
_PLACES = """
CREATE TABLE places (
    SeriesInstanceUID TEXT NOT NULL,
    StudyInstanceUID TEXT NOT NULL,
    generation INTEGER NOT NULL,
    target TEXT NOT NULL,
    manifest TEXT NOT NULL,
    instances INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    verified TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (SeriesInstanceUID, StudyInstanceUID, generation, target)
) WITHOUT ROWID;
"""

EXPORT = Schema("export", 1145857129, (_FIRST, _PLACES))

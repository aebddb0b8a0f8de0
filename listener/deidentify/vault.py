"""The vault: who has which pseudonym, what was handed over, what is held and who released it. One SQLite file,
`<state>/deidentify/deidentify.sqlite` or in the directory of --vault, which never leaves the collection; the key is
never in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from listener.deidentify.metric_rows import NAME
from listener.deidentify.provider import Answer
from listener.errors import ConfigError
from listener.stages.database import Schema, open_in_memory, open_reader, open_writer, transaction, translated

_STEP = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE patients (PatientID TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE, days INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE studies (
    StudyInstanceUID TEXT PRIMARY KEY, replaced TEXT NOT NULL, PatientID TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE series (
    SeriesInstanceUID TEXT PRIMARY KEY, replaced TEXT NOT NULL, StudyInstanceUID TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE units (
    SeriesInstanceUID TEXT NOT NULL, generation INTEGER NOT NULL, release INTEGER NOT NULL, name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'handed')), passed INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (SeriesInstanceUID, generation, release)
) WITHOUT ROWID;
CREATE TABLE done (
    SeriesInstanceUID TEXT NOT NULL, generation INTEGER NOT NULL, release INTEGER NOT NULL,
    tag INTEGER NOT NULL, action TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (SeriesInstanceUID, generation, release, tag, action)
) WITHOUT ROWID;
CREATE TABLE held (
    SeriesInstanceUID TEXT NOT NULL, SOPInstanceUID TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    since_ns INTEGER NOT NULL, released_ns INTEGER NOT NULL DEFAULT 0, released_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (SeriesInstanceUID, SOPInstanceUID, reason)
) WITHOUT ROWID;
"""

#: Whose a study is, from the first instance of it on that was looked at, whether it passed or not.
_OWNERS = """
CREATE TABLE owners (StudyInstanceUID TEXT PRIMARY KEY, PatientID TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO owners SELECT StudyInstanceUID, PatientID FROM studies;
"""

#: What the provider said: for which accession numbers of whom it was asked, and the further values. And what filters of
#: recipes left out.
_PROVIDED = """
CREATE TABLE provided (
    PatientID TEXT NOT NULL, AccessionNumber TEXT NOT NULL, replaced TEXT NOT NULL,
    PRIMARY KEY (PatientID, AccessionNumber)
) WITHOUT ROWID;
CREATE TABLE provided_values (
    PatientID TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (PatientID, name)
) WITHOUT ROWID;
CREATE TABLE filtered (
    SeriesInstanceUID TEXT NOT NULL, SOPInstanceUID TEXT NOT NULL, label TEXT NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (SeriesInstanceUID, SOPInstanceUID)
) WITHOUT ROWID;
"""

SCHEMA = Schema(NAME, 0x4C444431, (_STEP, _OWNERS, _PROVIDED))


#: What was released in vain (there still is no identifier) is held again.
_HOLD = """
INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET detail = excluded.detail,
    released_ns = 0, released_by = '' WHERE released_ns > 0
"""


Connection = sqlite3.Connection | None


class Patient(NamedTuple):
    """A patient's pseudonym, and by how many days dates go back."""

    pseudonym: str
    days: int


class HeldRow(NamedTuple):
    """What waits for a person: an instance, or ("" for it) the whole of a series."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    reason: str
    detail: str
    since_ns: int
    released_ns: int = 0
    released_by: str = ""


class UnitKey(NamedTuple):
    """A unit: a generation of a series or a batch, and how often something of it was released before."""

    SeriesInstanceUID: str
    generation: int
    release: int


class Unit(NamedTuple):
    """What is handed over: the folder's name, how many instances; original and new UID of each study, with whose it is,
    and of each series, with its original study; what was done, by tag and action.
    """

    name: str
    passed: int
    studies: Sequence[tuple[str, str, str]]
    series: Sequence[tuple[str, str, str]]
    done: Mapping[tuple[int, str], int]


class Vault:
    """The vault of a collection, for one thread at a time. Every method that writes is one transaction; each raises
    StageFault.
    """

    def __init__(self, state_dir: str, *, writes: bool = True, folder: str = "", connection: Connection = None) -> None:
        schema = SCHEMA._replace(folder=folder)
        self._connection = connection or (open_writer if writes else open_reader)(state_dir, schema)

    @classmethod
    def in_memory(cls) -> Vault:
        """Return a vault that keeps nothing beyond this process."""
        return cls("", connection=open_in_memory(SCHEMA))

    def close(self) -> None:
        """Close."""
        self._connection.close()

    def claim(self, fingerprint: str) -> None:
        """Record by which key values are derived. Raises ConfigError for another one: it would split patients."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO about VALUES ('key', ?)", (fingerprint,))
            (known,) = self._connection.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
        if known != fingerprint:
            raise ConfigError(
                [f"--key-file: it is another key than the vault's ({known}): every patient would become a second one"]
            )

    @translated()
    def fingerprint(self) -> str:
        """Return what identifies the key, "" before the first start."""
        row = self._connection.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
        return str(row[0]) if row else ""

    def patient(self, patient_id: str, new: Patient) -> Patient:
        """Return what a patient has, `new` if it is not known yet."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO patients VALUES (?, ?, ?)", (patient_id, *new))
            row = self._connection.execute(
                "SELECT pseudonym, days FROM patients WHERE PatientID = ?", (patient_id,)
            ).fetchone()
        return Patient(*row)

    def claim_study(self, study: str, patient_id: str) -> str:
        """Return whose study it is: of the patient who came with it first, which is this one if none did."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (study, patient_id))
            row = self._connection.execute(
                "SELECT PatientID FROM owners WHERE StudyInstanceUID = ?", (study,)
            ).fetchone()
        return str(row[0])

    @translated()
    def provided(self, patient_id: str, accession: str) -> Answer | None:
        """Return what the provider said of a patient and an accession number, None if it was not asked yet."""
        row = self._connection.execute(
            "SELECT p.pseudonym, p.days, a.replaced FROM provided a JOIN patients p USING (PatientID) "
            "WHERE a.PatientID = ? AND a.AccessionNumber = ?",
            (patient_id, accession),
        ).fetchone()
        if not row:
            return None
        values = self._connection.execute(
            "SELECT name, value FROM provided_values WHERE PatientID = ? ORDER BY name", (patient_id,)
        )
        return Answer(row[0], row[1], row[2], tuple((name, value) for name, value in values))

    def provide(self, patient_id: str, accession: str, answer: Answer) -> str:
        """Record what the provider said; return "", or why it cannot be: it contradicts what is known."""
        ask = self._connection.execute
        with transaction(self._connection):
            known = ask("SELECT pseudonym, days FROM patients WHERE PatientID = ?", (patient_id,)).fetchone()
            if known and tuple(known) != (answer.pseudonym, answer.days):
                return "the provider gave a patient another pseudonym or shift than before"
            other = ask("SELECT 1 FROM patients WHERE pseudonym = ? AND PatientID <> ?", (answer.pseudonym, patient_id))
            if other.fetchone():
                return "the provider gave one pseudonym to two patients"
            named = ask("SELECT 1 FROM patients WHERE PatientID = ? COLLATE NOCASE", (answer.pseudonym,))
            if named.fetchone():
                return "the provider gave the PatientID of a patient as a pseudonym"
            taken = ask(
                "SELECT 1 FROM provided WHERE replaced = ? AND replaced <> '' AND AccessionNumber <> ?",
                (answer.accession, accession),
            )
            if taken.fetchone():
                return "the provider gave one number to two accession numbers"
            ask("INSERT OR IGNORE INTO patients VALUES (?, ?, ?)", (patient_id, answer.pseudonym, answer.days))
            ask("INSERT OR REPLACE INTO provided VALUES (?, ?, ?)", (patient_id, accession, answer.accession))
            self._connection.executemany(
                "INSERT OR REPLACE INTO provided_values VALUES (?, ?, ?)",
                [(patient_id, *pair) for pair in answer.values],
            )
        return ""

    @translated()
    def release_of(self, series: str) -> int:
        """Return how often something of a series was released."""
        return int(
            self._connection.execute(
                "SELECT count(DISTINCT released_ns) FROM held WHERE SeriesInstanceUID = ? AND released_ns", (series,)
            ).fetchone()[0]
        )

    @translated()
    def released(self, series: str) -> set[tuple[str, str]]:
        """Return what of a series was released: (SOP Instance UID or "", reason)."""
        rows = self._connection.execute(
            "SELECT SOPInstanceUID, reason FROM held WHERE SeriesInstanceUID = ? AND released_ns", (series,)
        )
        return set(rows)

    @translated()
    def state_of(self, key: UnitKey) -> tuple[str, str]:
        """Return state and name of a unit, "" twice if there is none yet."""
        row = self._connection.execute(
            "SELECT state, name FROM units WHERE SeriesInstanceUID = ? AND generation = ? AND release = ?", key
        ).fetchone()
        return row or ("", "")

    def hold(self, series: str, rows: Sequence[HeldRow]) -> None:
        """Record what of a series is held now; what is known stays as it was, what is held no more goes."""
        now = {row[:3] for row in rows}
        gone = [row[:3] for row in self.held() if row.SeriesInstanceUID == series and row[:3] not in now]
        with transaction(self._connection):
            self._connection.executemany(
                "DELETE FROM held WHERE SeriesInstanceUID = ? AND SOPInstanceUID = ? AND reason = ?", gone
            )
            self._connection.executemany(_HOLD, rows)

    def filter(self, rows: Iterable[tuple[str, str, str, str]], now_ns: int) -> None:
        """Record what filters of recipes left out: series, instance, label."""
        with transaction(self._connection):
            self._connection.executemany(
                "INSERT OR REPLACE INTO filtered VALUES (?, ?, ?, ?)", [(*row[:3], now_ns) for row in rows]
            )

    def make_ready(self, key: UnitKey, unit: Unit, now_ns: int) -> None:
        """Record a unit that is written and verified, before it gets its name."""
        with transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, 'ready', ?, ?)",
                (*key, unit.name, unit.passed, now_ns),
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?, ?)",
                [(*key, tag, action, count) for (tag, action), count in unit.done.items()],
            )
            self._connection.executemany("INSERT OR IGNORE INTO studies VALUES (?, ?, ?)", unit.studies)
            self._connection.executemany("INSERT OR IGNORE INTO series VALUES (?, ?, ?)", unit.series)

    def mark_handed(self, key: UnitKey) -> None:
        """Record that a unit has its name."""
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE units SET state = 'handed' WHERE SeriesInstanceUID = ? AND generation = ? AND release = ?", key
            )

    @translated()
    def held(self, *, released: bool = False) -> list[HeldRow]:
        """Return what waits for a person, or what was released."""
        rows = self._connection.execute(
            f"SELECT * FROM held WHERE released_ns {'>' if released else '='} 0 ORDER BY since_ns, SOPInstanceUID"  # noqa: S608
        )
        return [HeldRow(*row) for row in rows]

    def release(self, rows: Iterable[HeldRow], who: str, now_ns: int) -> None:
        """Record that a person let these go."""
        with transaction(self._connection):
            self._connection.executemany(
                "UPDATE held SET released_ns = ?, released_by = ? "
                "WHERE SeriesInstanceUID = ? AND SOPInstanceUID = ? AND reason = ?",
                [(now_ns, who, *row[:3]) for row in rows],
            )

    @translated()
    def rows(self, table: str) -> list[sqlite3.Row]:
        """Return the rows of a table, for evidence and the crosswalk."""
        return self._connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - names of ours

"""What headers say, in rows: patients, studies and series. Within a transaction of the caller's."""

from __future__ import annotations

import sqlite3

from listener.ledger.rows import SeriesRow
from listener.planning.names import folded
from listener.records import SeriesHeader

_PATIENT = """
SELECT id FROM patients WHERE PatientID = ? AND IssuerOfPatientID = ? AND PatientName = ? AND PatientBirthDate = ?
"""
_DESCRIBED = """
SELECT p.PatientID, p.IssuerOfPatientID, p.PatientName, p.PatientBirthDate, t.StudyDate, t.StudyTime,
    t.StudyDescription, s.AccessionNumber, s.SeriesNumber, s.SeriesDescription, s.StationName
FROM series s JOIN patients p ON p.id = s.patient_id JOIN studies t ON t.id = s.study_id WHERE s.id = ?
"""
#: Series whose header is not in the ledger: an older version recorded them, or an outcome was lost.
UNDESCRIBED = "SELECT id FROM series s WHERE patient_id = 0 AND study_id > 0 LIMIT ?"
HOW_MANY_UNDESCRIBED = "SELECT count(*) FROM series WHERE patient_id = 0 AND study_id > 0"
_A_FILE = """
SELECT f.path, i.name, i.folder_id FROM instances i JOIN folders f ON f.id = i.folder_id WHERE i.series_id = ? LIMIT 1
"""


def describe(connection: sqlite3.Connection, series: int, header: SeriesHeader, folder: int = 0) -> None:
    """Write what a header says into the rows of a series, its study and patient. `folder`: the id of the series' folder
    (0: as it is).
    """
    _describe_series(connection, series, header, folder)
    connection.execute(
        "UPDATE studies SET StudyDate = ?1, StudyTime = ?2, StudyDescription = ?3 "
        "WHERE id = (SELECT study_id FROM series WHERE id = ?4) "
        "AND (StudyDate, StudyTime, StudyDescription) <> (?1, ?2, ?3)",
        (header.StudyDate, header.StudyTime, header.StudyDescription, series),
    )


def describe_without_header(connection: sqlite3.Connection, row: SeriesRow, folder: int = 0) -> None:
    """Write what is known of a series without document and file. Its study stays as the other series describe it."""
    patient = "" if row.PatientID == "PatientID" else row.PatientID
    _describe_series(connection, row.id, SeriesHeader(PatientID=patient, AccessionNumber=row.AccessionNumber), folder)


def _describe_series(connection: sqlite3.Connection, series: int, header: SeriesHeader, folder: int) -> None:
    (former,) = connection.execute("SELECT patient_id FROM series WHERE id = ?", (series,)).fetchone()
    patient = _patient(connection, header)
    connection.execute(
        "UPDATE series SET patient_id = ?, folder_id = iif(? > 0, ?, folder_id), SeriesNumber = ?, "
        "SeriesDescription = ?, StationName = ? WHERE id = ?",
        (patient, folder, folder, header.SeriesNumber, header.SeriesDescription, header.StationName, series),
    )
    if former not in (0, patient):
        _forget_unused(connection, former)


def set_folder(connection: sqlite3.Connection, series: int, folder: int) -> None:
    """Set the folder of a series by its id."""
    connection.execute("UPDATE series SET folder_id = ? WHERE id = ?", (folder, series))


def _patient(connection: sqlite3.Connection, header: SeriesHeader) -> int:
    """Return the id of a patient; add the row if needed."""
    patient = (header.PatientID, header.IssuerOfPatientID, header.PatientName, header.PatientBirthDate)
    row = connection.execute(_PATIENT, patient).fetchone()
    if row:
        return int(row[0])
    made = connection.execute(
        "INSERT INTO patients (PatientID, IssuerOfPatientID, PatientName, PatientBirthDate) VALUES (?, ?, ?, ?)",
        patient,
    )
    number = made.lastrowid or 0
    connection.executemany(
        "INSERT INTO patient_names (patient_id, folded) VALUES (?, ?)",
        [(number, name) for name in spellings(header.PatientName)],
    )
    return number


def spellings(name: str) -> list[str]:
    """Return the folded component groups of a person's name: alphabetic, ideographic, phonetic (PS3.5 section 6.2.1).
    Delimiters at the end say nothing.
    """
    return sorted({folded(group).rstrip("^ ") for group in name.split("=")} - {""})


def _forget_unused(connection: sqlite3.Connection, patient: int) -> None:
    """Remove a patient without series: the name was wrong."""
    if not connection.execute("SELECT 1 FROM series WHERE patient_id = ? LIMIT 1", (patient,)).fetchone():
        connection.execute("DELETE FROM patients WHERE id = ?", (patient,))
        connection.execute("DELETE FROM patient_names WHERE patient_id = ?", (patient,))


def described(connection: sqlite3.Connection, series: int) -> SeriesHeader | None:
    """Return what the rows of a series, its study and patient say; None if they are not filled in."""
    row = connection.execute(_DESCRIBED, (series,)).fetchone()
    return SeriesHeader(*row) if row else None


def a_file(connection: sqlite3.Connection, series: int) -> tuple[str, str, int]:
    """Return folder, name and the folder's id of a file of a series; "", "" and 0 if it has none."""
    return connection.execute(_A_FILE, (series,)).fetchone() or ("", "", 0)

"""PURE. Rows of the ledger as readers get them. Times are nanoseconds since the epoch, 0: never."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from listener.planning.names import instant
from listener.records import SeriesHeader


class SeriesRow(NamedTuple):
    """One series. `PatientID` is the key of its documents, not always the data set's; `state` is open, complete
    or incomplete; `result` how its last generation ended ("" while the first is open); `expected` its expected number
    of instances (0: not known), given by `expected_by` ("retrieve" or "expect"); `errors` the number of its files that
    were set aside; `root` the incoming directory; `first_ns` and `last_ns` the first and last arrival, `changed_ns` the
    last change of state, `pruned_ns` the removal of its files; `folder` where they lie, below the data directory.
    """

    id: int
    SeriesInstanceUID: str
    StudyInstanceUID: str
    PatientID: str
    AccessionNumber: str
    Modality: str
    sender: str
    root: str
    state: str
    result: str
    generation: int
    instances: int
    bytes: int
    expected: int
    expected_by: str
    errors: int
    first_ns: int
    last_ns: int
    changed_ns: int
    pruned_ns: int
    SeriesNumber: str = ""
    SeriesDescription: str = ""
    StationName: str = ""
    folder: str = ""


class InstanceRow(NamedTuple):
    """A file of the tree: `path` below the data directory, `size` in bytes when it came."""

    SOPInstanceUID: str
    path: str
    size: int


class Change(NamedTuple):
    """One change of a series' state: a generation began ("open") or ended."""

    generation: int
    at_ns: int
    state: str
    result: str
    instances: int
    bytes: int
    expected: int


class StudyRow(NamedTuple):
    """A study: complete when all of its series are, open while one is. Patient, AccessionNumber and `folder` (of the
    study, below the data directory) are those of its newest series; ModalitiesInStudy and `senders` are separated by
    backslashes; `pruned_ns` is the removal of its files, 0 while a series has any; `acknowledged_ns` when a person,
    `acknowledged_by`, said that it is known to be incomplete.
    """

    id: int
    StudyInstanceUID: str
    PatientName: str
    PatientID: str
    IssuerOfPatientID: str
    PatientBirthDate: str
    StudyDate: str
    StudyTime: str
    StudyDescription: str
    AccessionNumber: str
    ModalitiesInStudy: str
    senders: str
    series: int
    complete: int
    state: str
    instances: int
    bytes: int
    first_ns: int
    last_ns: int
    folder: str
    pruned_ns: int
    acknowledged_ns: int = 0
    acknowledged_by: str = ""


class StudyChange(NamedTuple):
    """The end of a study's generation: its series, those that were complete, and what came altogether."""

    generation: int
    at_ns: int
    result: str
    series: int
    complete: int
    instances: int
    bytes: int


class SetAsideRow(NamedTuple):
    """A set-aside file. `path` is below <state>/set-aside, `name` as it arrived; UIDs, Modality and sender are "" if
    they were not read; `gone_ns` is when it was found gone.
    """

    id: int
    path: str
    reason: str
    name: str
    error: str
    size: int
    SOPInstanceUID: str
    SeriesInstanceUID: str
    StudyInstanceUID: str
    Modality: str
    sender: str
    root: str
    arrived_ns: int
    at_ns: int
    gone_ns: int


class SetAsideGroup(NamedTuple):
    """Set-aside files of one reason, sender and study (both "" where they were not read). `oldest_ns` and `newest_ns`
    are when the first and the last of them was set aside, `Modality` and `error` those of one of them.
    """

    reason: str
    sender: str
    StudyInstanceUID: str
    Modality: str
    files: int
    bytes: int
    oldest_ns: int
    newest_ns: int
    error: str


class DayRow(NamedTuple):
    """Totals of a day (UTC, YYYY-MM-DD), modality and sender; `series` counts those that began."""

    day: str
    Modality: str
    sender: str
    published: int
    bytes: int
    duplicates: int
    set_aside: int
    series: int
    complete: int
    incomplete: int


class BatchRow(NamedTuple):
    """A batch. Counts are those of its last generation: `files` of its folder, `series`, `instances` that passed and
    their bytes, files that did not (`errors`). `root` is the directory where its folder lies, `name` the folder's,
    `made_ns` when it was first seen, `queued_ns` when it was finished, `started_ns` and `finished_ns` when it was begun
    and had ended; `withheld_by` the consumer that let nothing of it pass.
    """

    id: int
    name: str
    root: str
    state: str
    generation: int
    files: int
    series: int
    instances: int
    bytes: int
    errors: int
    made_ns: int
    queued_ns: int
    started_ns: int
    finished_ns: int
    withheld_by: str


class BatchErrorRow(NamedTuple):
    """A file of a batch that did not pass: its path in the folder, why, the same in words, and its series ("": not
    known).
    """

    path: str
    reason: str
    error: str
    SeriesInstanceUID: str
    at_ns: int


class DeliveryRow(NamedTuple):
    """A delivery; `state` is pending, delivered or failed."""

    consumer: str
    event: str
    generation: int
    state: str
    attempts: int
    made_ns: int
    next_ns: int
    lease_until_ns: int
    settled_ns: int
    error: str


class ConsumerDelivery(NamedTuple):
    """A delivery to a consumer; `subject` is the UID of its series or study, or the path of its set-aside file."""

    event: str
    subject: str
    generation: int
    state: str
    attempts: int
    made_ns: int
    next_ns: int
    settled_ns: int
    error: str


class ConsumerRow(NamedTuple):
    """A consumer and its numbers of deliveries. `state` is active, stopped (its receiver wants no more: see `error`) or
    retired; `oldest_ns` is when the oldest pending delivery was made, `error` that of the last attempt that failed.
    """

    id: int
    name: str
    state: str
    delivered: int
    pending: int
    failed: int
    oldest_ns: int
    error: str


class Delivery(NamedTuple):
    """A leased delivery with its subject. `key` is the same in every attempt; `attempts` counts this one too; `lease`
    names the holder, without which it cannot be settled. `change` (of a study `end`) is the end of the generation in
    question: the series may have gone on since. `error` is why the attempt before did not settle it.
    """

    id: int
    event: str
    key: str
    attempts: int
    lease: str
    series: SeriesRow | None = None
    change: Change | None = None
    aside: SetAsideRow | None = None
    study: StudyRow | None = None
    end: StudyChange | None = None
    series_of_study: tuple[SeriesRow, ...] = ()
    error: str = ""


_VALUES = """(
    SELECT ifnull(group_concat({0}, '\\'), '') FROM
    (SELECT DISTINCT n.{0} FROM series n WHERE n.study_id = t.id AND n.{0} <> '' ORDER BY n.{0})
)"""
_FOLDER = "ifnull((SELECT f.path FROM folders f WHERE f.id = s.folder_id), '')"

SERIES_COLUMNS = ", ".join(_FOLDER if name == "folder" else f"s.{name}" for name in SeriesRow._fields)
#: The series of a study, by its id; one that a correction emptied is of it no more.
SERIES_OF_STUDY = f"SELECT {SERIES_COLUMNS} FROM series s WHERE study_id = ? AND (instances > 0 OR pruned_ns = 0)"
SET_ASIDE_COLUMNS = ", ".join(f"a.{name}" for name in SetAsideRow._fields)

#: The rows of studies (`t`), each with its newest series (`s`) and that one's patient (`p`). Conditions follow.
STUDIES = f"""
SELECT t.id, t.StudyInstanceUID, ifnull(p.PatientName, ''),
    ifnull(p.PatientID, CASE s.PatientID WHEN 'PatientID' THEN '' ELSE s.PatientID END),
    ifnull(p.IssuerOfPatientID, ''), ifnull(p.PatientBirthDate, ''), t.StudyDate, t.StudyTime, t.StudyDescription,
    s.AccessionNumber, {_VALUES.format("Modality")}, {_VALUES.format("sender")},
    t.series, t.complete, t.state, t.instances, t.bytes, t.first_ns, t.last_ns, {_FOLDER}, ifnull((
        SELECT iif(min(n.pruned_ns) > 0, max(n.pruned_ns), 0) FROM series n WHERE n.study_id = t.id AND n.instances > 0
    ), 0), t.acknowledged_ns, t.acknowledged_by
FROM studies t CROSS JOIN series s ON s.id = (
    SELECT n.id FROM series n WHERE n.study_id = t.id AND (n.instances > 0 OR n.pruned_ns = 0)
    ORDER BY n.last_ns DESC, n.id DESC LIMIT 1
) LEFT JOIN patients p ON p.id = s.patient_id
"""


def study_row(values: Sequence[Any]) -> StudyRow:
    """Return a row of STUDIES: its folder is that of its newest series, and a study's is the one above."""
    row = StudyRow(*values)
    return row._replace(folder=row.folder.rpartition("/")[0])


#: Fields that may hold patient data. Free texts do: people write names into them.
_PRIVATE = frozenset({*SeriesHeader._fields, "folder"} - {"SeriesNumber"})

#: Fields of several values.
_LISTS = ("ModalitiesInStudy", "senders")


def shown(row: NamedTuple, phi: bool, data: str = "") -> dict[str, Any]:
    """Return a row as a dict for output: times as RFC 3339 ("": never) under their names without `_ns` (`at_ns` as
    `time`), several values as a list; patient data only with `phi`, without which an incoming directory is only its
    last name. A folder is below the data directory, or with `data`, that directory, absolute.
    """
    values: dict[str, Any] = {}
    for field, name in _names(type(row), phi):
        value = getattr(row, field)
        if field.endswith("_ns"):
            values[name] = instant(value) if value else ""
        elif field in _LISTS:
            values[name] = value.split("\\") if value else []
        elif field == "folder" and value and data:
            values[name] = f"{data.rstrip('/')}/{value}"
        elif field == "root" and not phi:
            values[name] = value.rstrip("/").rpartition("/")[2]
        else:
            values[name] = value
    return values


def shown_names(kind: type[NamedTuple], phi: bool) -> list[str]:
    """Return the keys of shown() for this kind of row."""
    return [name for _, name in _names(kind, phi)]


def _names(kind: type[NamedTuple], phi: bool) -> Iterator[tuple[str, str]]:
    for field in kind._fields:
        if field != "id" and (phi or field not in _PRIVATE):
            yield field, "time" if field == "at_ns" else field.removesuffix("_ns")

"""A ledger and a catalogue of many series, of which no file is there: what searches read of a large collection."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from listener.benchmark.repackers import finish, listener
from listener.benchmark.workdir import RunDirs
from listener.ledger.connection import path_of
from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from listener.moments import LAST
from listener.serve.attributes import BY_NAME
from listener.serve.catalogue import Catalogue

#: Series, two a study, and nanoseconds between their arrivals, from a moment on.
SERIES = 100_000
_APART, _BEGIN_NS = 20 * 10**9, 1_700_000_000 * 10**9

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnrst" for vowel in "aeo"]


def make(place: RunDirs, index: Path) -> None:
    """Make the ledger of a place, and the catalogue in a directory of the index. Raises Unfinished."""
    place.incoming.mkdir(parents=True)
    finish(listener("once", *place.flags(), "--min-free=0"))
    with closing(sqlite3.connect(path_of(str(place.state)))) as ledger:
        ledger.executemany(
            "INSERT INTO series (SeriesInstanceUID, StudyInstanceUID, PatientID, Modality, state, result, instances, "
            "first_ns, last_ns, changed_ns) VALUES (?, ?, ?, 'MR', 'complete', 'complete', 1, ?4, ?4, ?4)",
            ((f"1.2.{number}.1", f"1.2.{number // 2}", f"P{number // 2}", _BEGIN_NS + number * _APART)
             for number in range(SERIES)),
        )  # fmt: skip
        ledger.execute("INSERT OR IGNORE INTO studies (StudyInstanceUID) SELECT DISTINCT StudyInstanceUID FROM series")
        ledger.execute(
            "UPDATE series SET study_id = (SELECT id FROM studies t WHERE t.StudyInstanceUID = series.StudyInstanceUID)"
        )
        ledger.commit()
    index.mkdir(parents=True)
    catalogue = Catalogue(str(index / "catalogue.sqlite"), str(place.state), only_complete=False)
    catalogue.make()
    order = random.Random(17)  # noqa: S311 - names, no secrets
    catalogue.put((row, _attributes(row, order)) for row in _rows(str(place.state)))


def _rows(state: str) -> Iterator[SeriesRow]:
    after = (LAST, LAST)
    with reading(state) as reader:
        while page := reader.listed("", after):
            yield from page
            after = (page[-1].last_ns, page[-1].id)


def _attributes(row: SeriesRow, order: random.Random) -> dict[str, Any]:
    """Return what a catalogue keeps of a series, as DICOM JSON."""
    family, given = ("".join(order.choices(_SYLLABLES, k=4)).capitalize() for _ in range(2))
    day = f"20{order.randint(10, 25)}{order.randint(1, 12):02}{order.randint(1, 28):02}"
    values: dict[str, Any] = {
        "StudyDate": day, "StudyTime": "101112", "AccessionNumber": f"A{row.id}", "StudyDescription": "Brain",
        "PatientName": {"Alphabetic": f"{family}^{given}"}, "PatientID": row.PatientID, "PatientBirthDate": "19510101",
        "PatientSex": "O", "StudyInstanceUID": row.StudyInstanceUID, "StudyID": "1", "Modality": row.Modality,
        "SeriesDescription": "t1 mprage sag", "SeriesInstanceUID": row.SeriesInstanceUID, "SeriesNumber": 3,
    }  # fmt: skip
    found = {BY_NAME[keyword.lower()]: value for keyword, value in values.items()}
    return {attribute.tag: {"vr": attribute.vr, "Value": [value]} for attribute, value in found.items()}

"""Find studies by patient, date, accession number, modality, sender or state; the newest arrival first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from listener.commands._studies import add_limit, warn_of_undescribed, write_studies
from listener.commands._table import add_shape, shape_of
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger.finding import Search
from listener.ledger.reader import reading
from listener.ledger.schema import STATES
from listener.moments import LAST, PERIODS, dates_of, period_of
from listener.status.formatting import plain

_Result = TypeVar("_Result")

EPILOG = (
    "wildcards * and ? as in DICOM; a NAME without one is the beginning of a name, and a description is looked for "
    "anywhere; case and accents do not matter. It shows patients, for whoever may read the ledger. Exit status: 0; 1 "
    "nothing was found, or the ledger cannot be read"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="PatientName: doe, 'doe^j*', '*müller*'")
    parser.add_argument("--mrn", default="", metavar="ID", help="PatientID")
    parser.add_argument("--accession", default="", metavar="NUMBER", help="AccessionNumber")
    parser.add_argument("--study-date", default="", metavar="PERIOD", help=f"StudyDate: {PERIODS}")
    parser.add_argument("--modality", default="", metavar="M", help="one of its series has this modality")
    parser.add_argument("--sender", default="", metavar="AET", help="one of its series came from this calling AE title")
    parser.add_argument("--arrived", default="", metavar="PERIOD", help="its last instance came then: as --study-date")
    parser.add_argument("--only", choices=STATES, default="", help="those in this state")
    parser.add_argument(
        "--description", default="", metavar="TEXT", help="it is in StudyDescription or SeriesDescription"
    )
    add_limit(parser, 100)
    add_shape(parser, "one JSON object a study, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the studies that the command line asks for. Return 0, or 1 if there are none; raise a LedgerFault."""
    search = search_of(given, datetime.now(UTC))
    with reading(config.state) as reader:
        found = reader.find(search._replace(limit=search.limit and search.limit + 1))
        data_dir = reader.data_dir()
        warn_of_undescribed(reader)
    if not found:
        sys.stderr.write(f"nothing was found{_hint(search.name)}\n")
        return 1
    write_studies(found[: search.limit or None], data_dir, shape_of(given))
    sys.stdout.flush()
    if 0 < search.limit < len(found):
        sys.stderr.write(f"the newest {search.limit}; --limit 0 finds all\n")
    return 0


def _hint(name: str) -> str:
    """Return how a name is written, where it is given as people say it."""
    said = "^" not in name and len(name.replace(",", " ").split()) > 1
    return "; in DICOM family and given name are parted by ^: 'doe^jane'" if said else ""


def search_of(given: argparse.Namespace, now: datetime) -> Search:
    """Return what the command line asks for. Raise ConfigError."""
    problems: list[str] = []

    def read(option: str, text: str, reads: Callable[[str, datetime], _Result], otherwise: _Result) -> _Result:
        try:
            return reads(text, now) if text else otherwise
        except (ValueError, OverflowError):
            problems.append(f"{option}: '{plain(text)}' is no period; give {PERIODS}")
            return otherwise

    dates = read("--study-date", given.study_date, dates_of, ("", ""))
    since_ns, until_ns = read("--arrived", given.arrived, period_of, (0, LAST))
    if problems:
        raise ConfigError(problems)
    return Search(
        given.name,
        given.mrn,
        given.accession,
        dates,
        given.modality,
        given.sender,
        given.description,
        given.only,
        since_ns,
        until_ns,
        given.limit,
    )

"""List the newest studies in the ledger, or show one with its series, history, deliveries and folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from listener.commands._studies import (
    add_limit,
    series_table,
    terminal_width,
    warn_of_undescribed,
    write_studies,
)
from listener.commands._table import add_shape, shape_of, table, write_json
from listener.config import Config
from listener.errors import ConfigError, UnknownStudy
from listener.ledger.reader import Reader, reading
from listener.status import ledger_view
from listener.status.formatting import count, day, moment, size

_HISTORY = ("time (UTC)", "generation", "result", "instances", "series")
_DELIVERIES = ("consumer", "event", "generation", "state", "attempts", "made (UTC)", "error")

EPILOG = (
    "it shows patients, for whoever may read the ledger; 'listener find' looks for some. Exit status: 0; 1 the ledger "
    "cannot be read, or knows no such study"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("uid", nargs="?", default="", metavar="UID", help="one study, by its StudyInstanceUID")
    add_limit(parser, 50)
    add_shape(parser, "one JSON object a study, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Show what the command line asks for. Return 0; raise a LedgerFault, UnknownStudy or ConfigError."""
    shape = shape_of(given)
    if given.uid and shape in ("csv", "tsv"):
        raise ConfigError([f"--{shape}: one study is no table; give --json, or leave UID out"])
    with reading(config.state) as reader:
        warn_of_undescribed(reader)
        if not given.uid:
            write_studies(reader.studies(limit=given.limit or -1), reader.data_dir(), shape)
        elif shape:
            write_json([study_of(reader, given.uid)])
        else:
            sys.stdout.write(rendered(study_of(reader, given.uid), terminal_width()))
    sys.stdout.flush()
    return 0


def study_of(reader: Reader, uid: str) -> dict[str, Any]:
    """Return a study with its series, each with its history and deliveries. Raise UnknownStudy."""
    found = ledger_view.study_details(reader, uid, True, reader.data_dir())
    if found is None:
        raise UnknownStudy
    return found


def rendered(one: dict[str, Any], width: int = 0) -> str:
    """Return a study as people read it, on a terminal so many columns wide (0: none)."""
    parts = ("history", "deliveries", "all_series", "StudyInstanceUID", "series", "complete")
    shapes: dict[str, Callable[[Any], str]] = {"bytes": size, "instances": count}
    shapes |= dict.fromkeys(("StudyDate", "PatientBirthDate"), day) | dict.fromkeys(
        ("first", "last", "pruned", "acknowledged"), moment
    )
    shapes |= dict.fromkeys(("ModalitiesInStudy", "senders"), ", ".join)
    plain = [(name, shapes.get(name, str)(value)) for name, value in one.items() if name not in parts and value]
    plain.append(("series", f"{one['complete']} of {one['series']} complete"))
    text = table(("study", one["StudyInstanceUID"]), plain) + "\n" + series_table(one["all_series"], width)
    ends = [_change(end, "all") for end in one["history"]]
    ends += [_change(change, series["SeriesNumber"]) for series in one["all_series"] for change in series["history"]]
    told = [*one["deliveries"], *(delivery for series in one["all_series"] for delivery in series["deliveries"])]
    text += "\nhistory\n" + table(_HISTORY, sorted(ends)) if ends else ""
    return text + ("\ndeliveries\n" + table(_DELIVERIES, map(_delivery, told)) if told else "")


def _change(change: dict[str, Any], number: str) -> list[str]:
    result = change["result"] or change.get("state", "")
    return [moment(change["time"]), str(change["generation"]), result, count(change["instances"]), number]


def _delivery(one: dict[str, Any]) -> list[str]:
    texts = [str(one[name]) for name in ("consumer", "event", "generation", "state", "attempts")]
    return [*texts, moment(one["made"]), one["error"]]

"""What is in a tree and in its documents; a patient whose directory is refused."""

from __future__ import annotations

import os
from typing import Any

from listener.planning import documents
from tests.workbench import Bench, contents


def other_pixels(number: int = 9) -> dict[str, Any]:
    """The same instance with another data set."""
    return {"pixels": bytes([number]) * 32}


def files_of(bench: Bench) -> list[str]:
    return sorted(contents(bench.data))


def images(bench: Bench) -> list[str]:
    """Names of the instance documents, which readers count."""
    return sorted(name for name in contents(bench.log) if "-img/" in name)


def located(bench: Bench) -> list[str]:
    """Where the instance documents say that files lie."""
    return sorted(documents.location(bench.document(name)) for name in images(bench))


def consistent(bench: Bench) -> None:
    """Documents and instances are one to one, and nothing else is left anywhere."""
    assert located(bench) == [f"{bench.data}/{name}" for name in files_of(bench)]
    assert bench.claims() == []
    assert contents(bench.incoming) == {}
    for staging in (bench.directories.data_staging, bench.directories.log_staging):
        assert os.listdir(staging) == []


#: The patient whose place is refused, and the other one.
BAD, GOOD = 1, 2


#: Its directory below data.
DIRECTORY = "P0001-Patient_1-19700102"

"""Energy of a run: the processors' own counters (RAPL) where they are readable, otherwise an estimate marked as such.

RAPL counts the whole package, whoever used it: measure on a machine that does nothing else.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from listener.benchmark.cost import JOULES_A_KWH, Cost
from listener.benchmark.figures import Figure

#: Directory of the counters, in microjoules; they wrap at max_energy_range_uj.
RAPL = Path("/sys/class/powercap")

#: Columns of CodeCarbon's emissions.csv that are written here (kWh, kg CO2e, seconds), and what they belong to.
COLUMNS = ("timestamp", "project_name", "experiment_id", "duration", "emissions", "energy_consumed", "files", "method")


class Meter:
    """Reads the counters of all packages before and after."""

    def __init__(self, root: Path = RAPL) -> None:
        self._packages = [zone for zone in sorted(root.glob("*-rapl:*")) if _is_package(zone)]
        self._before = self._read()

    def joules(self) -> float | None:
        """Return the joules since the meter was made; None where the counters are not readable."""
        after = self._read()
        if not after or len(after) != len(self._before):
            return None
        turned = (
            (new - old) % _number(zone / "max_energy_range_uj") if new < old else new - old
            for zone, new, old in zip(self._packages, after, self._before, strict=True)
        )
        return sum(turned) / 1e6

    def _read(self) -> list[int]:
        try:
            return [_number(zone / "energy_uj") for zone in self._packages]
        except OSError:  # Only root may, on most machines.
            return []


def append(path: str, now: datetime, rows: Iterable[tuple[Figure, Cost]]) -> None:
    """Append a row for each program to an emissions.csv, and the header to a new one."""
    new = not os.path.exists(path) or not os.path.getsize(path)
    with open(path, "a", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        if new:
            lines.writerow(COLUMNS)
        for figure, spent in rows:
            lines.writerow(_row(now, figure, spent))


def _row(now: datetime, figure: Figure, spent: Cost) -> tuple[object, ...]:
    method = "RAPL" if spent.measured else "estimate from processor seconds"
    kwh = spent.joules / JOULES_A_KWH
    duration = figure.files / figure.files_a_second
    moment = now.isoformat(timespec="seconds")
    return (moment, "listener bench", figure.program, f"{duration:.3f}", f"{spent.grams / 1e3:.9g}", f"{kwh:.9g}",
            figure.files, method)  # fmt: skip


def _is_package(zone: Path) -> bool:
    """Return whether a zone is a package: cores and memory controllers below it are counted in it."""
    try:
        return (zone / "name").read_text().startswith("package")
    except OSError:
        return False


def _number(path: Path) -> int:
    return int(path.read_text())

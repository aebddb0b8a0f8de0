"""`listener bench`: what intake costs on this machine, side by side with the programs it takes over from.

Programs take turns, and figures are medians of rounds: read the ratios, for a machine's speed drifts. A run that did
not produce every instance and every document is a failure, never a figure.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

import listener
from listener.benchmark import energy, family, picture, table
from listener.benchmark.cost import Cost, cost
from listener.benchmark.figures import Figure
from listener.benchmark.proof import Unfinished
from listener.benchmark.repackers import PREDECESSORS
from listener.benchmark.request import Request
from listener.benchmark.rounds import Measured, Rounds
from listener.benchmark.workshop import Workshop
from listener.config import Config

#: What energy and carbon are told for.
_MILLION = 1_000_000


def run(config: Config, request: Request) -> int:
    """Print the figures; 0, or 1 when a run did not produce everything."""
    family.adopt()
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=request.directory or None) as home:
        try:
            measured = Rounds(request, config.workers, Workshop(Path(home), request.shape)).measure()
        except Unfinished as error:
            print(f"listener: {error}", file=sys.stderr)
            return 1
    groups = [_priced(each, request) for each in measured]
    facts = _facts(config, request)
    _print(groups, facts, request)
    if request.plot:
        Path(request.plot).write_text(picture.svg(groups, "What intake costs", _note(facts)), encoding="utf-8")
    if request.emissions:
        rows = [(row.figure, row.cost) for group in groups for row in group.rows]
        energy.append(request.emissions, datetime.now(UTC), _for_files(rows, request))
    return 0


def _priced(measured: Measured, request: Request) -> table.Group:
    costs = [cost(one, _MILLION, request.watts_per_core, request.grid_intensity) for one in measured.figures]
    return table.Group(measured.title, list(map(table.Priced, measured.figures, costs)))


def _for_files(rows: Sequence[tuple[Figure, Cost]], request: Request) -> list[tuple[Figure, Cost]]:
    """What the files of one run took, not a million."""
    return [(one, cost(one, one.files, request.watts_per_core, request.grid_intensity)) for one, _ in rows]


def _print(groups: Sequence[table.Group], facts: dict[str, Any], request: Request) -> None:
    if request.as_json:
        whole = table.value(groups, facts)
        sys.stdout.write(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return
    print((table.markdown if request.markdown else table.text)(groups))
    print(_note(facts))
    if any(not row.cost.measured for group in groups for row in group.rows):
        watts = f"{request.watts_per_core:g} W a busy processor"
        print(f"* energy is an estimate from processor time ({watts}); --watts-per-core sets another")
    print(f"carbon: {request.grid_intensity:g} g CO2e a kWh (--grid-intensity); both for a million files")
    if missing := [name for name in PREDECESSORS if not shutil.which(name)]:
        print(f"not on PATH, so not measured: {', '.join(missing)}")


def _facts(config: Config, request: Request) -> dict[str, Any]:
    shape = request.shape
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "listener": listener.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "workers": config.workers,
        "files": shape.files,
        "corpus": "copies of given files" if shape.source else f"synthetic, {shape.size} bytes each",
        "rounds": request.repeat,
        "watts_per_core": request.watts_per_core,
        "grid_intensity": request.grid_intensity,
    }


def _note(facts: dict[str, Any]) -> str:
    machine = (
        f"{facts['processors']} processors ({facts['processor']}), Linux {facts['kernel']}, Python {facts['python']}"
    )
    return f"{machine}; {facts['workers']} workers; {facts['corpus']}; medians of {facts['rounds']}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()

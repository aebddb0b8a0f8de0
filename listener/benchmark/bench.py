"""Measure what was asked for, and write the figures."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

import listener
from listener.benchmark import energy, picture, processes, table
from listener.benchmark.cost import cost
from listener.benchmark.repackers import PREDECESSORS
from listener.benchmark.request import Request
from listener.benchmark.schedule import Measured, Rounds
from listener.benchmark.workdir import WorkDir
from listener.config import Config
from listener.errors import ConfigError

#: What energy and carbon are told for.
_MILLION = 1_000_000


def run(config: Config, request: Request) -> int:
    """Print the figures. Return 0, or 1 when a run did not produce everything."""
    if request.directory and not os.path.isdir(request.directory):
        raise ConfigError([f"--dir is no directory (given: {request.directory!r})"])
    # A SIGTERM is a Ctrl-C: what was started is ended, and nothing is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.adopt()
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=request.directory or None) as home:
        rounds = Rounds(request, config.workers, WorkDir(Path(home), request.shape))
        measured = rounds.measure()
    groups = [_priced(each, request) for each in measured]
    facts = _facts(config, request)
    _print(groups, facts, request)
    _write(groups, facts, request)
    for failure in rounds.failures:
        print(f"listener: {failure}", file=sys.stderr)
    return 1 if rounds.failures else 0


def _write(groups: Sequence[table.Group], facts: dict[str, Any], request: Request) -> None:
    """The files that were asked for."""
    if request.plot:
        Path(request.plot).write_text(picture.svg(groups, "What intake costs", _machine(facts)), encoding="utf-8")
    if request.emissions:
        figures = [row.figure for group in groups for row in group.rows]
        # What the files of one run took, not a million.
        priced = [(one, cost(one, one.files, request.watts_per_core, request.grid_intensity)) for one in figures]
        energy.append(request.emissions, datetime.now(UTC), priced)


def _priced(measured: Measured, request: Request) -> table.Group:
    costs = [cost(one, _MILLION, request.watts_per_core, request.grid_intensity) for one in measured.figures]
    return table.Group(measured.title, list(map(table.Row, measured.figures, costs)))


def _print(groups: Sequence[table.Group], facts: dict[str, Any], request: Request) -> None:
    if request.json:
        whole = table.value(groups, facts)
        sys.stdout.write(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
    else:
        sys.stdout.write(f"{table.text(groups)}\n{_notes(groups, facts)}")


def _notes(groups: Sequence[table.Group], facts: dict[str, Any]) -> str:
    """What must be known to read the tables."""
    notes = [_machine(facts), f"listener {facts['listener']}, {_programs(facts)}".removesuffix(", ")]
    if any(not row.cost.measured for group in groups for row in group.rows):
        watts = f"{facts['watts_per_core']:g} W a busy processor"
        notes.append(f"*: energy is an estimate from processor time ({watts}); --watts-per-core sets another")
    notes.append(f"carbon: {facts['grid_intensity']:g} g CO2e a kWh (--grid-intensity); both for a million files")
    if missing := [name for name in PREDECESSORS if not shutil.which(name)]:
        notes.append(f"not on PATH, so not measured: {', '.join(missing)}")
    return "".join(f"- {note}\n" for note in notes)


def _facts(config: Config, request: Request) -> dict[str, Any]:
    shape = request.shape
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "listener": listener.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "file_system": _file_system(request.directory or tempfile.gettempdir()),
        "versions": {name: _version(name) for name in ("storescp", *PREDECESSORS) if shutil.which(name)},
        "load": os.getloadavg()[0],
        "workers": config.workers,
        "files": shape.files,
        "corpus": "copies of given files" if shape.source else f"synthetic, {shape.size} bytes each",
        "rounds": request.repeat,
        "watts_per_core": request.watts_per_core,
        "grid_intensity": request.grid_intensity,
    }


def _file_system(directory: str) -> str:
    """The type of the one that the directory lies on."""
    lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    mounts = {fields[1]: fields[2] for line in lines if (fields := line.split())}
    path = os.path.realpath(directory)
    while path not in mounts and path != "/":
        path = os.path.dirname(path)
    return mounts.get(path, "unknown")


def _version(program: str) -> str:
    """What it says its version is, "" when it says nothing like one."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+(?:\.\d+)*", done.stdout.decode(errors="replace"))
    return found[0] if found else ""


def _machine(facts: dict[str, Any]) -> str:
    processor = (
        f"{facts['processors']} processors ({facts['processor']}), Linux {facts['kernel']}, {facts['file_system']}"
    )
    run = f"{facts['workers']} workers; {facts['corpus']}; medians of {facts['rounds']}; load {facts['load']:.1f}"
    return f"{processor}, Python {facts['python']}; {run}"


def _programs(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in facts["versions"].items())


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()

"""Show where files would go and which documents would be written; touches nothing."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from typing import Any

import orjson

from listener.config import Config
from listener.dicom.attributes import Header
from listener.dicom.reader import check_uids, read_header
from listener.disk import files
from listener.disk.directories import Directories
from listener.planning import documents
from listener.planning.names import printable
from listener.planning.plan import make_plan
from listener.reasons import FileFault, NotRegular
from listener.repacking.context import WorkerContext

EPILOG = "exit status: 0 every file can be repacked; 1 some cannot"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("paths", nargs="+", metavar="FILE", help="a DICOM file")
    parser.add_argument("--json", action="store_true", help="one JSON object a file, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print the plans. Return 0 when every file can be repacked, else 1."""
    # Directories that are only named: a plan makes none.
    context = WorkerContext(config, Directories(data=config.data, log=config.log, state=config.state))
    plans = [_plan(path, context) for path in given.paths]
    for plan in plans:
        if given.json:
            sys.stdout.buffer.write(orjson.dumps(plan, option=orjson.OPT_APPEND_NEWLINE))
        else:
            sys.stdout.write(_text(plan))
    sys.stdout.flush()
    return 1 if any("reason" in plan for plan in plans) else 0


def _plan(path: str, context: WorkerContext) -> dict[str, Any]:
    try:
        header = _read(path, context)
    except FileFault as fault:
        return {"file": printable(path), "reason": fault.reason, "error": str(fault)}
    except OSError as error:
        return {"file": printable(path), "reason": "unreadable", "error": error.strerror or type(error).__name__}
    plan = make_plan(header, context.layout)
    study, series = header.get("StudyInstanceUID"), header.get("SeriesInstanceUID")
    shared = documents.shared_paths(documents.patient_id(header), study, series)
    names = (*shared, documents.instance_path(series, plan.name))
    directories = context.directories
    return {
        "file": printable(path),
        "target": printable(f"{directories.data}/{plan.relative}"),
        "documents": [printable(f"{directories.log}/{name}") for name in names],
        "SOPInstanceUID": header.get("SOPInstanceUID"),
        "SeriesInstanceUID": series,
        "StudyInstanceUID": study,
        **({"warning": header.warning} if header.warning else {}),
    }


def _read(path: str, context: WorkerContext) -> Header:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular
    descriptor = files.open_regular(path)
    try:
        header = read_header(descriptor, status.st_size, context.wanted, context.limits)
    finally:
        os.close(descriptor)
    check_uids(header)
    return header


def _text(plan: dict[str, Any]) -> str:
    if "reason" in plan:
        return f"{plan['file']}\n  set aside as {plan['reason']}: {plan['error']}\n"
    lines = [plan["file"], f"  -> {plan['target']}", *(f"   + {path}" for path in plan["documents"])]
    if "warning" in plan:
        lines.append(f"   ! {plan['warning']}")
    return "\n".join(lines) + "\n"

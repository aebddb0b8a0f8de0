"""Tell what would become of each element of a file, and by which rule. Touches nothing."""

from __future__ import annotations

import os
from typing import Any

from listener.deidentify import profile
from listener.deidentify.jobs import Job
from listener.deidentify.nested import Step
from listener.deidentify.rewriting import rewrite
from listener.disk.files import opened
from listener.planning.names import printable

_LONGEST = 64


def explain(path: str, job: Job, *, phi: bool) -> list[dict[str, Any]]:
    """Return a row for each element: tag, with those of the sequences around it, VR, action, rule; with `phi` the value
    that the file has. Raises NotUnderstood and OSError.
    """
    with opened(path) as descriptor:
        made = rewrite(descriptor, os.fstat(descriptor).st_size, job._replace(explains=True))
    return [_row(step, phi=phi) for step in made.steps]


def _row(step: Step, *, phi: bool) -> dict[str, Any]:
    path = ".".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in step.path)
    action = step.decision.action
    if action in (profile.CLEAN, profile.SHIFT, profile.TIME, profile.AGE) and step.vr != "SQ":
        action = f"{action}, else {step.decision.otherwise}"
    row: dict[str, Any] = {"tag": path, "vr": step.vr, "action": action, "rule": step.decision.rule}
    if phi:
        text = step.raw[:_LONGEST].decode("latin-1").rstrip("\0 ")
        row["value"] = printable(text) if text.isprintable() else f"{len(step.raw)} bytes"
    return row

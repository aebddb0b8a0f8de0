"""What a privacy board asks: how it was cleaned, how much passed or is held, what was done with which attribute, what
verification looked for, and what is not done. No patient data, and no link from old to new.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from importlib import resources
from typing import Any

import listener
from listener.deidentify.inputs import read_text
from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.vault import Vault
from listener.dicom.decoding import keyword_of
from listener.planning.names import instant

_LOOKS_FOR = (
    "UIDs, identifiers, parts of names from 3 letters on, accession numbers, dates of birth, institutions, addresses, "
    "serial numbers: in all bytes but native pixels; short or common ones as words of text elements"
)

_PROFILE = "DICOM PS3.15 2026c, Basic Application Level Confidentiality Profile"

#: What no option of this program does.
NOT_DONE = (
    "pixels are not cleaned: burned-in text is suspected by attributes alone",
    "faces are not removed",
    "curves and overlays are removed, not cleaned",
)


def evidence(vault: Vault, options: DeidentifyOptions, since_ns: int, now_ns: int) -> dict[str, Any]:
    """Return the evidence of what was handed over from `since_ns` on; `options` are those of the configuration.
    Raises ConfigError.
    """
    table = resources.files(__package__).joinpath("table.tsv").read_bytes()
    units = [row for row in vault.rows("units") if row[6] >= since_ns]
    keys = {tuple(row[:3]) for row in units}
    done: Counter[tuple[int, str]] = Counter()
    for *key, tag, action, count in vault.rows("done"):
        if tuple(key) in keys:
            done[tag, action] += count
    held = Counter(row.reason for row in vault.held() if row.since_ns >= since_ns)
    filtered = Counter(row[2] for row in vault.rows("filtered") if row[3] >= since_ns)
    released = Counter(row.reason for row in vault.held(released=True) if row.released_ns >= since_ns)
    return {
        "time": instant(now_ns),
        "since": instant(since_ns) if since_ns else "",
        "version": listener.__version__,
        "profile": _PROFILE if options.profile == "basic" else "none: what recipes say, and nothing else",
        "table_sha256": hashlib.sha256(table).hexdigest(),
        "options": sorted(options.option),
        "recipes": [
            {"name": os.path.basename(path), "sha256": hashlib.sha256(read_text(path).encode()).hexdigest()}
            for path in options.recipe
        ],
        "key": vault.fingerprint(),
        "units": len(units),
        "passed": sum(row[5] for row in units),
        "filtered": dict(sorted(filtered.items())),
        "held": dict(sorted(held.items())),
        "released": dict(sorted(released.items())),
        "attributes": _attributes(done),
        "verification": {"looks_for": _LOOKS_FOR, "found": held["residual"]},
        "not_done": list(NOT_DONE),
    }


def _attributes(done: Counter[tuple[int, str]]) -> list[dict[str, Any]]:
    """Return what was done, by attribute."""
    return [
        {"tag": f"({tag >> 16:04X},{tag & 0xFFFF:04X})", "keyword": keyword_of(tag), "action": action, "count": count}
        for (tag, action), count in sorted(done.items())
    ]

"""Rows of series, plain and hostile, as the status document shows them."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\0\"'&"


def series(uid: str = "1.2.3", **more: Any) -> dict[str, Any]:
    """A row as the ledger's `shown` makes it."""
    row = {
        "SeriesInstanceUID": uid,
        "StudyInstanceUID": "1.2",
        "Modality": "MR",
        "sender": "SCANNER",
        "root": "incoming",
        "state": "open",
        "result": "",
        "generation": 1,
        "instances": 48,
        "bytes": 11_000_000,
        "expected": 192,
        "expected_by": "retrieve",
        "errors": 0,
        "first": "2026-11-21T07:00:00.000000Z",
        "last": "2026-11-21T07:00:10.000000Z",
        "changed": "2026-11-21T07:00:10.000000Z",
        "pruned": "",
    }
    return row | more

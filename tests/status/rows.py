"""Rows, plain and hostile, as the status document and the pages show them."""

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


def study(uid: str = "1.2", **more: Any) -> dict[str, Any]:
    """A study as `shown` makes it with patients."""
    row = {
        "StudyInstanceUID": uid,
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "IssuerOfPatientID": "",
        "PatientBirthDate": "19700101",
        "StudyDate": "20261121",
        "StudyTime": "",
        "StudyDescription": "Brain",
        "AccessionNumber": "A1",
        "ModalitiesInStudy": ["MR"],
        "senders": ["SCANNER"],
        "series": 3,
        "complete": 2,
        "state": "open",
        "instances": 96,
        "bytes": 11_000_000,
        "first": "2026-11-21T07:00:00.000000Z",
        "last": "2026-11-21T07:00:10.000000Z",
        "folder": "P1/x",
        "pruned": "",
        "acknowledged": "2026-11-22T07:00:00.000000Z",
        "acknowledged_by": "ada",
    }
    return row | more


def detail(uid: str = "1.2.3", **more: Any) -> dict[str, Any]:
    """A series with its history and deliveries, as ledger_view makes it with patients."""
    change = {
        "generation": 1, "time": "2026-11-21T07:00:10.000000Z", "state": "complete", "result": "quiet",
        "instances": 48, "bytes": 11_000_000, "expected": 0,
    }  # fmt: skip
    delivery = {
        "consumer": "webhook", "event": "series-complete", "generation": 1, "state": "failed", "attempts": 3,
        "made": "2026-11-21T07:00:10.000000Z", "next": "", "lease_until": "", "settled": "", "error": "refused",
    }  # fmt: skip
    private = {"SeriesNumber": "3", "SeriesDescription": "t1", "StationName": "S", "folder": "P1/x/y"}
    named = series(uid) | private
    return named | {"study": study(), "history": [change], "deliveries": [delivery]} | more


def group(**more: Any) -> dict[str, Any]:
    """A group of set-aside files, as ledger_view makes it."""
    row = {
        "reason": "incomplete",
        "sender": "SCANNER",
        "StudyInstanceUID": "1.2",
        "Modality": "MR",
        "files": 12,
        "bytes": 12_000,
        "oldest": "2026-11-21T07:00:00.000000Z",
        "newest": "2026-11-21T07:00:10.000000Z",
        "error": "The data set is not whole",
        "remedy": "have it sent again",
    }
    return row | more


def hook(name: str = "webhook", **more: Any) -> dict[str, Any]:
    """A hook, as ledger_view makes it."""
    row = {"name": name, "state": "active", "pending": 1, "delivered": 0, "failed": 0, "oldest": "", "error": ""}
    return row | more

"""PURE. The payload of a delivery and its signature (https://www.standardwebhooks.com)."""

from __future__ import annotations

import posixpath
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from hmac import digest
from typing import Any, NamedTuple

import orjson

from listener.ledger.rows import Change, Delivery, SeriesRow, SetAsideRow, Study, StudyChange, shown
from listener.planning.names import instant

#: Fields of a series' row beside those of its end.
_OF_SERIES = ("Modality", "sender", "first", "last", "errors")
_PRIVATE = ("PatientID", "AccessionNumber")
_OF_ASIDE = (
    *("reason", "name", "path", "error", "size", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"),
    "sender",
)


class Payload(NamedTuple):
    """What is sent. `key` is the same in every attempt, `event` one of interests.EVENTS, `body` JSON."""

    key: str
    event: str
    body: bytes


def payload_of(delivery: Delivery, phi: bool, data_dir: str = "") -> Payload:
    """Return the payload of a delivery; with patient keys only if `phi`, and with the folder only if `data_dir` is
    given, below which it lies.
    """
    body: dict[str, Any] = {"event": delivery.event, "key": delivery.key}
    if delivery.aside is not None:
        body |= _aside(delivery.aside)
    if delivery.series is not None and delivery.change is not None:
        body |= _series(delivery.series, delivery.change, phi)
        if data_dir and delivery.folders:
            body["folder"] = posixpath.join(data_dir, posixpath.commonpath(delivery.folders))
    if delivery.study is not None and delivery.end is not None:
        body |= _study(delivery.study, delivery.end, phi)
        if data_dir and delivery.folders:
            above = [posixpath.dirname(folder) for folder in delivery.folders]
            body["folder"] = posixpath.join(data_dir, posixpath.commonpath(above)).rstrip("/")
    return Payload(delivery.key, delivery.event, orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))


def _aside(row: SetAsideRow) -> dict[str, Any]:
    values = shown(row, phi=False)
    return {"time": instant(row.at_ns), **{name: values[name] for name in _OF_ASIDE}}


def _series(row: SeriesRow, change: Change, phi: bool) -> dict[str, Any]:
    values = shown(row, phi)
    names = (*(_PRIVATE if phi else ()), *_OF_SERIES)
    return {
        "time": instant(change.at_ns),
        "SeriesInstanceUID": row.SeriesInstanceUID,
        "StudyInstanceUID": row.StudyInstanceUID,
        "generation": change.generation,
        "result": change.result,
        "instances": change.instances,
        "expected": change.expected,
        "bytes": change.bytes,
        **{name: values[name] for name in names},
    }


def _study(study: Study, end: StudyChange, phi: bool) -> dict[str, Any]:
    series = study.series
    private = {name: sorted({getattr(one, name) for one in series} - {""}) for name in _PRIVATE} if phi else {}
    return {
        "time": instant(end.at_ns),
        "StudyInstanceUID": study.StudyInstanceUID,
        "generation": end.generation,
        "result": end.result,
        "series": end.series,
        "complete": end.complete,
        "instances": end.instances,
        "bytes": end.bytes,
        **{name: ", ".join(values) for name, values in private.items()},
        "Modality": sorted({one.Modality for one in series} - {""}),
        "sender": sorted({one.sender for one in series} - {""}),
        "first": instant(min(one.first_ns for one in series)) if series else "",
        "last": instant(max(one.last_ns for one in series)) if series else "",
        "errors": sum(one.errors for one in series),
        "SeriesInstanceUID": [one.SeriesInstanceUID for one in series],
    }


def key_of(secret: bytes) -> bytes:
    """Return the HMAC key of a secret file: its bytes without the line end, base64 after `whsec_`; empty if invalid."""
    text = secret.strip()
    if text.startswith(b"whsec_"):
        try:
            return b64decode(text.removeprefix(b"whsec_"), validate=True)
        except NotBase64:
            return b""
    return text


def header_fields(payload: Payload, key: bytes, seconds: int) -> dict[str, str]:
    """Return the header fields of an attempt at `seconds` since the epoch, signed if there is a key."""
    head = {
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{payload.key}"',
        "Webhook-Id": payload.key,
        "Webhook-Timestamp": str(seconds),
    }
    if key:
        signed = f"{payload.key}.{seconds}.".encode() + payload.body
        head["Webhook-Signature"] = f"v1,{b64encode(digest(key, signed, sha256)).decode()}"
    return head

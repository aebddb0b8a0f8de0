"""PURE. The payload of a delivery and its signature (https://www.standardwebhooks.com)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from hmac import digest
from typing import Any, NamedTuple

import orjson

from listener.ledger.rows import Change, Delivery, SeriesRow, SetAsideRow, shown
from listener.planning.names import instant

#: Fields of a series' row beside those of its end.
_OF_SERIES = ("Modality", "sender", "first", "last", "errors")
_PRIVATE = ("PatientID", "AccessionNumber")
_OF_ASIDE = (
    *("reason", "name", "path", "error", "size", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"),
    "sender",
)


class Payload(NamedTuple):
    """What is sent. `key` is the same in every attempt, `event` one of deliveries.EVENTS, `body` JSON."""

    key: str
    event: str
    body: bytes


def payload_of(delivery: Delivery, phi: bool) -> Payload:
    """Return the payload of a delivery; with patient keys only if `phi`."""
    body: dict[str, Any] = {"event": delivery.event, "key": delivery.key}
    if delivery.aside is not None:
        body |= _aside(delivery.aside)
    if delivery.series is not None and delivery.change is not None:
        body |= _series(delivery.series, delivery.change, phi)
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

"""PURE. What a hook is told, and the signature by which it knows us (https://www.standardwebhooks.com)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from hmac import digest
from typing import Any, NamedTuple

import orjson

from listener.ledger.rows import AsideRow, Change, Delivery, SeriesRow, shown
from listener.planning.names import instant

#: What a series' row has beside what its end says.
_OF_SERIES = ("Modality", "sender", "first", "last", "errors")
_PRIVATE = ("PatientID", "AccessionNumber")
_OF_ASIDE = (
    *("reason", "name", "path", "error", "size", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"),
    "sender",
)


class Payload(NamedTuple):
    """`key` is the same in every attempt, `event` one of deliveries.EVENTS, `body` JSON."""

    key: str
    event: str
    body: bytes


def message(delivery: Delivery, phi: bool) -> Payload:
    """What a delivery says. Patient keys only with `phi`."""
    told: dict[str, Any] = {"event": delivery.event, "key": delivery.key}
    if delivery.aside is not None:
        told |= _aside(delivery.aside)
    if delivery.series is not None and delivery.change is not None:
        told |= _series(delivery.series, delivery.change, phi)
    return Payload(delivery.key, delivery.event, orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))


def _aside(row: AsideRow) -> dict[str, Any]:
    told = shown(row, phi=False)
    return {"time": instant(row.at_ns), **{name: told[name] for name in _OF_ASIDE}}


def _series(row: SeriesRow, change: Change, phi: bool) -> dict[str, Any]:
    told = shown(row, phi)
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
        **{name: told[name] for name in names},
    }


def key_of(secret: bytes) -> bytes:
    """The HMAC key that a secret file holds: its bytes without the end of line; what follows `whsec_` is base64."""
    text = secret.strip()
    if text.startswith(b"whsec_"):
        try:
            return b64decode(text.removeprefix(b"whsec_"), validate=True)
        except NotBase64:
            return b""
    return text


def fields(told: Payload, key: bytes, seconds: int) -> dict[str, str]:
    """The header fields of one attempt at `seconds` since the epoch; signed where there is a key."""
    head = {
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{told.key}"',
        "Webhook-Id": told.key,
        "Webhook-Timestamp": str(seconds),
    }
    if key:
        signed = f"{told.key}.{seconds}.".encode() + told.body
        head["Webhook-Signature"] = f"v1,{b64encode(digest(key, signed, sha256)).decode()}"
    return head

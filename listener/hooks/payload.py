"""PURE. The payload of a delivery, its signature (https://www.standardwebhooks.com), and the header fields that make it
a CloudEvent in binary mode (CloudEvents 1.0.2, HTTP protocol binding, section 3.1).
"""

from __future__ import annotations

import posixpath
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from hmac import digest
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from listener.ledger.interests import STUDY_EVENTS
from listener.ledger.rows import Change, Delivery, SeriesRow, SetAsideRow, StudyChange, StudyRow, shown
from listener.planning.names import instant

#: Fields of a series' row beside those of its end.
_OF_SERIES = ("Modality", "sender", "first", "last", "errors")
_OF_STUDY = ("ModalitiesInStudy", "senders", "first", "last")
_PRIVATE = ("PatientID", "AccessionNumber")
_OF_ASIDE = (
    *("reason", "name", "path", "error", "size", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"),
    "sender",
)


class Payload(NamedTuple):
    """What is sent. `key` is the same in every attempt, `event` one of interests.EVENTS, `body` JSON, `subject` the UID
    that it is about ("": none is known), `time` when it happened (RFC 3339).
    """

    key: str
    event: str
    body: bytes
    subject: str = ""
    time: str = ""


def payload_of(delivery: Delivery, phi: bool, data_dir: str = "") -> Payload:
    """Return the payload of a delivery. Patient keys are in it only if `phi`; the folder, and descriptions, which are
    free texts, only if `data_dir` is given, below which the folder lies.
    """
    body: dict[str, Any] = {"event": delivery.event, "key": delivery.key}
    if delivery.aside is not None:
        body |= _aside(delivery.aside)
    if delivery.series is not None and delivery.change is not None:
        body |= _series(delivery.series, delivery.change, _allowed(phi, data_dir, "SeriesDescription"))
    if delivery.study is not None and delivery.end is not None:
        body |= _study(delivery, delivery.study, delivery.end, _allowed(phi, data_dir, "StudyDescription"))
    if "folder" in body:
        body["folder"] = posixpath.join(data_dir, body["folder"]) if body["folder"] else ""
    told = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    return Payload(delivery.key, delivery.event, told, _subject(delivery), body.get("time", ""))


def _subject(delivery: Delivery) -> str:
    """Return the UID of the series, study or set-aside instance that a delivery is about, "" if none is known."""
    if delivery.aside is not None:
        return delivery.aside.SOPInstanceUID
    if delivery.study is not None:
        return delivery.study.StudyInstanceUID
    return delivery.series.SeriesInstanceUID if delivery.series is not None else ""


def _allowed(phi: bool, data_dir: str, description: str) -> tuple[str, ...]:
    """Return the private fields that may be told."""
    return (*(_PRIVATE if phi else ()), *((description, "folder") if data_dir else ()))


def _aside(row: SetAsideRow) -> dict[str, Any]:
    values = shown(row, phi=False)
    return {"time": instant(row.at_ns), **{name: values[name] for name in _OF_ASIDE}}


def _series(row: SeriesRow, change: Change, private: tuple[str, ...]) -> dict[str, Any]:
    values = shown(row, phi=True)
    return {
        "time": instant(change.at_ns),
        "SeriesInstanceUID": row.SeriesInstanceUID,
        "StudyInstanceUID": row.StudyInstanceUID,
        "generation": change.generation,
        "result": change.result,
        "instances": change.instances,
        "expected": change.expected,
        "bytes": change.bytes,
        **{name: values[name] for name in (*private, *_OF_SERIES)},
    }


def _study(delivery: Delivery, row: StudyRow, end: StudyChange, private: tuple[str, ...]) -> dict[str, Any]:
    values, series = shown(row, phi=True), delivery.series_of_study
    return {
        "time": instant(end.at_ns),
        "StudyInstanceUID": row.StudyInstanceUID,
        "generation": end.generation,
        "result": end.result,
        "series": end.series,
        "complete": end.complete,
        "instances": end.instances,
        "bytes": end.bytes,
        **{name: values[name] for name in (*private, *_OF_STUDY)},
        "errors": sum(one.errors for one in series),
        "SeriesInstanceUID": [one.SeriesInstanceUID for one in series],
    }


#: UIDs of what does not exist, below the root of this program's tests.
_EXAMPLE = "1.2.826.0.1.3680043.10.1470.0"


def example_of(event: str, key: str, now_ns: int) -> Payload:
    """Return a payload as one of `event` is, but marked as a test: its own event is `test`."""
    row = SeriesRow(0, f"{_EXAMPLE}.1", _EXAMPLE, "", "", "OT", "EXAMPLE", "", "complete", "quiet", 1, 2, 1024,
                    0, "", 0, now_ns, now_ns, now_ns, 0)  # fmt: skip
    study = StudyRow(0, _EXAMPLE, "", "", "", "", "", "", "", "", "OT", "EXAMPLE", 1, 1, "complete", 2, 1024,
                     now_ns, now_ns, "", 0)  # fmt: skip
    aside = SetAsideRow(0, "empty/example", "empty", "example", "The file is empty.", 0, "", "", "", "", "EXAMPLE", "",
                        now_ns, now_ns, 0)  # fmt: skip
    word = event.rpartition("-")[2]
    delivery = Delivery(0, "test", key, 1, "")
    if event in STUDY_EVENTS:
        end = StudyChange(1, now_ns, word, 1, int(word == "complete"), 2, 1024)
        delivery = delivery._replace(study=study, end=end, series_of_study=(row,))
    elif event == "set-aside":
        delivery = delivery._replace(aside=aside)
    else:
        result = "quiet" if word == "complete" else word
        delivery = delivery._replace(series=row, change=Change(1, now_ns, word, result, 2, 1024, 0))
    payload = payload_of(delivery, phi=False)
    body = {**orjson.loads(payload.body), "example_of": event}
    return payload._replace(body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))


def key_of(secret: bytes) -> bytes:
    """Return the HMAC key of a secret file: its bytes without the line end, base64 after `whsec_`; empty if invalid."""
    text = secret.strip()
    if text.startswith(b"whsec_"):
        try:
            return b64decode(text.removeprefix(b"whsec_"), validate=True)
        except NotBase64:
            return b""
    return text


#: What may stand in a header field of a CloudEvent as it is (section 3.1.3.2): printable ASCII but for three.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def cloud_event_fields(payload: Payload, source: str) -> dict[str, str]:
    """Return the attributes of a CloudEvent; `source` is the collection, as a URI reference."""
    attributes = {
        "specversion": "1.0",
        "id": payload.key,
        "source": source,
        "type": f"listener.{payload.event}",
        "subject": payload.subject,
        "time": payload.time,
    }
    # An attribute must not be empty; a UID of a file that was set aside may hold anything.
    return {f"ce-{name}": quote(value, safe=_PLAIN, errors="replace") for name, value in attributes.items() if value}


def header_fields(payload: Payload, key: bytes, seconds: int) -> dict[str, str]:
    """Return the header fields of an attempt at `seconds` since the epoch, signed if there is a key."""
    head = {
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{payload.key}"',
        "Webhook-Id": payload.key,
        "Webhook-Timestamp": str(seconds),
    }
    if key:
        head["Webhook-Signature"] = signature(key, payload.key, str(seconds), payload.body).decode()
    return head


def signature(key: bytes, message: str, seconds: str, body: bytes) -> bytes:
    """Return the signature of a message (its id, its time in seconds since the epoch, its body) with an HMAC key."""
    signed = f"{message}.{seconds}.".encode("utf-8", "replace") + body
    return b"v1," + b64encode(digest(key, signed, sha256))

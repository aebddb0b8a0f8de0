"""Answers: status, fields, and a body of pieces whose length is known before the first is read."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import orjson

from listener.serve.accept import JSON, Form
from listener.serve.faults import Refused

Fields = list[tuple[str, str]]

#: What reads a part of a body, piece by piece.
Read = Callable[[], AsyncIterator[bytes]]


class Part(NamedTuple):
    """A part of a body: its length in bytes, and what reads it, None where `data` are there already."""

    length: int
    read: Read | None
    data: bytes = b""


class Answer(NamedTuple):
    """An answer; `parts` are sent one behind the other. `frames` counts those in it."""

    status: int
    fields: Fields
    parts: Sequence[Part] = ()
    frames: int = 0

    @property
    def length(self) -> int:
        """The bytes of the body."""
        return sum(part.length for part in self.parts)


def fixed(data: bytes) -> Part:
    """Return a part that is there."""
    return Part(len(data), None, data)


def refusal(fault: Refused) -> Answer:
    """Return the answer to a request that cannot be answered otherwise."""
    body = orjson.dumps({"status": fault.status, "error": fault.detail})
    fields: Fields = [("content-type", "application/json"), *fault.fields]
    if fault.status in (429, 503):
        fields.append(("retry-after", "1"))
    return Answer(fault.status, fields, [fixed(body)])


def json(value: object, fields: Fields) -> Answer:
    """Return an answer in DICOM JSON."""
    return Answer(200, [("content-type", JSON), *fields], [fixed(orjson.dumps(value))])


def multipart(media: str, parts: Sequence[tuple[Form, Part]], fields: Fields, frames: int = 0) -> Answer:
    """Return a multipart message (RFC 2387), of which each part names its form; the boundary is random, so that no
    content can hold it.
    """
    boundary = secrets.token_hex(16)
    pieces: list[Part] = []
    for number, (form, part) in enumerate(parts):
        begin = "\r\n--" if number else "--"
        head = f"{begin}{boundary}\r\nContent-Type: {content_type(form)}\r\n\r\n"
        pieces += [fixed(head.encode("ascii")), part]
    pieces.append(fixed(f"\r\n--{boundary}--\r\n".encode("ascii")))
    kind = f'multipart/related; type="{media}"; boundary={boundary}'
    return Answer(200, [("content-type", kind), *fields], pieces, frames)


def content_type(form: Form) -> str:
    """Return a form as a Content-Type field has it."""
    return f"{form.media}; transfer-syntax={form.syntax}" if form.syntax else form.media

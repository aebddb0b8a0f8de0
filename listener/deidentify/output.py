"""Write a rewritten instance: spans of the source are copied by the kernel; deflated where its form says so."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

from listener.deidentify.faults import NotUnderstood
from listener.deidentify.jobs import Part, Rewritten

#: Bytes that are in memory at once of a large value that must be deflated, or that the kernel cannot copy.
_PIECE = 256 * 1024

#: Bytes up to which a span is read and written with its neighbours: a call of its own costs more.
_SMALL = 32 * 1024


def write(made: Rewritten, source: int, target: int) -> None:
    """Write an instance to the descriptor `target`, with `source` as the descriptor of its file. OSError passes; raises
    NotUnderstood where the file is shorter than it was.
    """
    if made.deflated:
        _write_all(target, made.prefix)
        _deflate(made, target)
        return
    held = [made.prefix]
    for part in made.parts:
        if isinstance(part, Part):
            if part.end - part.start <= _SMALL:
                held.append(_read(source, part.start, part.end))
            else:
                _write_all(target, b"".join(held))
                held = []
                _copy(source, target, part)
        else:
            held.append(part)
    _write_all(target, b"".join(held))


def pieces(made: Rewritten) -> Iterator[bytes]:
    """Yield the bytes of the data set, not deflated."""
    for part in made.parts:
        if not isinstance(part, Part):
            yield part
            continue
        for start in range(part.start, part.end, _PIECE):
            yield made.source.read(start, min(_PIECE, part.end - start))


def _deflate(made: Rewritten, target: int) -> None:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    count = 0
    for piece in pieces(made):
        data = engine.compress(piece)
        count += len(data)
        _write_all(target, data)
    data = engine.flush()
    # The stream is padded to even length (PS3.5 section A.5).
    _write_all(target, data + b"\0" * ((count + len(data)) & 1))


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _read(source: int, start: int, end: int) -> bytes:
    data = os.pread(source, end - start, start)
    if len(data) != end - start:
        raise NotUnderstood("the file was cut while it was read")
    return data


def _copy(source: int, target: int, part: Part) -> None:
    """Copy a span within the kernel, by sendfile: it works on every file system, and from one to another."""
    start = part.start
    while start < part.end:
        count = os.sendfile(target, source, start, part.end - start)
        if not count:
            raise NotUnderstood("the file was cut while it was read")
        start += count

"""An instance's pixel data in an open file: look for its frames once, then read any of them."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import NamedTuple, Protocol, Self

from listener.dicom import attributes
from listener.dicom.attributes import Limits
from listener.dicom.encoding import ITEM, PIXEL_DATA, PIXEL_TAGS, SEQUENCE_END, UNDEFINED, Head
from listener.dicom.file_meta import read_file_meta
from listener.dicom.source import FileSource, InflatedSource, Source
from listener.dicom.syntaxes import ALL_DEFLATED, NATIVE
from listener.dicom.walk import Structure
from listener.disk.files import open_regular
from listener.frames.errors import Deflated, FrameChanged, FramesUnclear, NoFrames
from listener.frames.layout import (
    ITEM_HEAD,
    Encapsulated,
    Facts,
    Fragments,
    Frame,
    Layout,
    Native,
    Run,
    Spans,
    encapsulated,
    needs_edges,
)
from listener.reasons import Incomplete

#: Bytes to which a deflated data set may inflate, unless --max-inflated says otherwise.
MAX_INFLATED = 2**30

#: The extended offset table, and its lengths (PS3.3 section C.7.6.3.1.8).
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002

#: Most bytes of a table: eight million frames.
_MAX_TABLE = 64 * 1024 * 1024

_WANTED = frozenset({*attributes.TAGS, _OFFSETS, _LENGTHS})

#: An item's head: tag, its halves exchanged, and length.
_item = Struct("<LL")
_ITEM, _END = (tag >> 16 | (tag & 0xFFFF) << 16 for tag in (ITEM, SEQUENCE_END))

#: Bytes looked at, at both ends of a fragment.
_EDGE = 4

#: Bytes inflated at a time.
_PIECE = 1024 * 1024


class PeekSource(Source, Protocol):
    """A source of `size` bytes that can be looked at elsewhere."""

    size: int

    def peek(self, offset: int, count: int) -> bytes:
        """Return bytes as read() does, without reading more than these."""


class Tables(NamedTuple):
    """What may tell where frames lie, beside the fragments: facts, and the extended offset table's two values."""

    facts: Facts
    offsets: bytes
    lengths: bytes


class Image(NamedTuple):
    """Where the frames of an instance lie: header facts and layout, of which the offsets count from the file's begin
    or, where `inflated` is set, from that of the inflated data set.
    """

    facts: Facts
    layout: Layout
    inflated: bool


def look(descriptor: int, size: int, limits: Limits) -> Image:
    """Return where the frames lie in an open file of `size` bytes.

    Raises NoFrames, FramesUnclear, NoSingleFrames; FileFault where the file is none of DICOM or not whole; OSError from
    the system. A deflated file: see inflate().
    """
    return look_at(FileSource(descriptor, size), limits, find_fragments)


def look_at(source: PeekSource, limits: Limits, find: Callable[[PeekSource, int, Tables], Fragments | Layout]) -> Image:
    """Return where the frames lie in a source; see look(). `find` looks for the fragments of encapsulated pixel data
    from an offset on, or returns their layout.
    """
    meta = read_file_meta(source)
    if meta.TransferSyntaxUID in ALL_DEFLATED:
        raise Deflated
    return _look(source, meta.dataset_offset, limits, meta.TransferSyntaxUID, find, little=meta.little)


def is_deflated(descriptor: int, size: int) -> bool:
    """Return whether the data set of a file is deflated as a whole (PS3.5 section A.5). Raises FileFault, OSError."""
    return read_file_meta(FileSource(descriptor, size)).TransferSyntaxUID in ALL_DEFLATED


def inflate(descriptor: int, size: int, cap: int, folder: str | None = None) -> int:
    """Inflate a deflated data set into a file of `folder` without a name; return its descriptor.

    Raises TooLarge beyond `cap` bytes, other FileFaults for a stream that is cut or none, OSError from the system.
    """
    meta = read_file_meta(FileSource(descriptor, size))
    source = InflatedSource(descriptor, size, meta.dataset_offset, cap)
    handle = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - its descriptor is handed on
    with handle:
        offset = 0
        while piece := source.read(offset, _PIECE):
            handle.write(piece)
            offset += len(piece)
        return os.dup(handle.fileno())


def _look(
    source: PeekSource,
    begin: int,
    limits: Limits,
    syntax: str,
    find: Callable[[PeekSource, int, Tables], Fragments | Layout],
    *,
    little: bool,
) -> Image:
    structure = Structure(source, begin, limits, little=little)
    values, pixel = _values(structure)
    facts = _facts(values, structure, pixel, syntax)
    layout: Layout
    if pixel.length == UNDEFINED:
        offsets, lengths = values.get(_OFFSETS, b""), values.get(_LENGTHS, b"")
        found = find(source, pixel.start, Tables(facts, offsets, lengths))
        if isinstance(found, Fragments):
            if needs_edges(facts, found):
                found = found._replace(edges=_edges(source, found))
            found = encapsulated(facts, found, offsets, lengths)
        layout = found
    elif syntax not in NATIVE:
        raise FramesUnclear("encapsulated pixel data of a known length")
    elif not source.reaches(pixel.start + pixel.length):
        raise Incomplete("an element is longer than the file")
    else:
        layout = Native(facts, pixel.start, pixel.length)
    return Image(facts, layout, inflated=False)


def _values(structure: Structure) -> tuple[dict[int, bytes], Head]:
    """Return the raw values that matter, and the head of the pixel data. Raises NoFrames without them."""
    values: dict[int, bytes] = {}
    source = structure.source
    while source.reaches(structure.pos + ITEM_HEAD):
        head = structure.encoding.head(structure.pos, implicit=structure.implicit)
        if head.tag in PIXEL_TAGS:
            return values, head
        element = structure.step()
        if element is None:
            break
        if element.tag in _WANTED and element.length <= _MAX_TABLE:
            values[element.tag] = source.read(element.start, element.length)
    raise NoFrames


def _facts(values: dict[int, bytes], structure: Structure, pixel: Head, syntax: str) -> Facts:
    little = structure.encoding.little

    def number(tag: int) -> int:
        return int.from_bytes(values.get(tag, b"")[:2], "little" if little else "big")

    frames = values.get(attributes.FRAMES, b"").strip(b" \0+")
    return Facts(
        Rows=number(attributes.ROWS),
        Columns=number(attributes.COLUMNS),
        BitsAllocated=number(attributes.BITS),
        SamplesPerPixel=number(attributes.SAMPLES) or 1,
        NumberOfFrames=int(frames) if frames.isdigit() and len(frames) <= 12 else 1,
        PhotometricInterpretation=values.get(attributes.PHOTOMETRIC, b"").strip(b" \0").decode("latin-1"),
        TransferSyntaxUID=syntax,
        little=little,
        # Float and Double Float Pixel Data are words of a sample.
        vr=pixel.vr if pixel.tag == PIXEL_DATA else b"OF",
    )


def find_fragments(source: PeekSource, start: int, _tables: Tables | None = None) -> Fragments:
    """Return the items of encapsulated pixel data from their heads. Raises Incomplete where one cannot be followed."""
    starts, lengths = array("Q"), array("Q")
    basic, base, pos = b"", 0, start
    read, reaches, unpack = source.read, source.reaches, _item.unpack
    while True:
        raw = read(pos, ITEM_HEAD)
        if len(raw) < ITEM_HEAD:
            raise Incomplete("it ends within an item's head")
        tag, length = unpack(raw)
        pos += ITEM_HEAD
        if tag == _END:
            return Fragments(basic, base, starts, lengths)
        if tag != _ITEM or length == UNDEFINED or not reaches(pos + length):
            raise Incomplete("encapsulated pixel data that are not made of fragments")
        if base:
            starts.append(pos)
            lengths.append(length)
        else:
            basic = read(pos, length) if length <= _MAX_TABLE else b""
            base = pos + length
        pos += length


def _edges(source: PeekSource, fragments: Fragments) -> Sequence[tuple[bytes, bytes]]:
    return [
        (source.peek(start, min(_EDGE, length)), source.peek(start + max(0, length - _EDGE), min(_EDGE, length)))
        for start, length in zip(fragments.starts, fragments.lengths, strict=True)
    ]


def read_frame(descriptor: int, layout: Layout, index: int, *, waits: bool = True) -> bytes:
    """Return the bytes of a frame, counted from 0: of native pixel data little endian, single bits from a byte's begin;
    of encapsulated ones as they are stored.

    Raises IndexError beyond the last frame, FrameChanged where the file is not what the layout says, OSError; where it
    shall not wait for a disk, and would have to, BlockingIOError (or OSError where the kernel cannot tell).
    """
    return taken(layout, index, partial(_read if waits else _read_warm, descriptor))


def taken(layout: Layout, index: int, read: Callable[[int, int], bytes]) -> bytes:
    """Return the bytes of a frame; `read` returns those at an offset, and is called for each of stored()."""
    frame = layout.frame(index)
    if isinstance(layout, Spans):
        (run,) = frame.runs
        return layout.value(index, read(run.offset, run.length))
    if isinstance(layout, Encapsulated):
        return b"".join([_item_value(read, run, frame.padded) for run in frame.runs])
    (run,) = frame.runs
    data = read(run.offset, run.length)
    return data if frame.word == 1 and not frame.bits else _native(data, frame)


def stored(layout: Layout, index: int) -> list[Run]:
    """Return the bytes that have to be read for a frame."""
    runs = layout.frame(index).runs
    if isinstance(layout, Encapsulated):
        return [Run(run.offset - ITEM_HEAD, run.length + ITEM_HEAD) for run in runs]
    return list(runs)


def _item_value(read: Callable[[int, int], bytes], run: Run, padded: int) -> bytes:
    """Return the value of an item, of which the head must be before it."""
    data = read(run.offset - ITEM_HEAD, run.length + ITEM_HEAD)
    if _item.unpack_from(data) != (_ITEM, run.length + padded):
        raise FrameChanged
    return data[ITEM_HEAD:]


def _read(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            raise FrameChanged
        data += more
    return data


def _read_warm(descriptor: int, offset: int, length: int) -> bytes:
    """Return bytes that are in memory already. Raises BlockingIOError where some are not."""
    buffer = bytearray(length)
    if os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT) < length:
        raise BlockingIOError
    return bytes(buffer)


def _native(data: bytes, frame: Frame) -> bytes:
    if frame.word > 1:
        swapped = array({2: "H", 4: "I", 8: "Q"}[frame.word], data)
        swapped.byteswap()
        data = swapped.tobytes()
    if not frame.bits:
        return data
    if frame.skip % 8 == 0 and frame.bits % 8 == 0:
        begin = frame.skip // 8
        return data[begin : begin + frame.bits // 8]
    number = int.from_bytes(data, "little") >> frame.skip & ((1 << frame.bits) - 1)
    return number.to_bytes((frame.bits + 7) // 8, "little")


class ImageFile:
    """An open instance, for its frames; a context manager, which closes it. `folder` is where a deflated data set is
    inflated to, and `cap` its largest size in bytes.

    Raises as look(), and TooLarge.
    """

    def __init__(
        self, path: str, limits: Limits | None = None, folder: str | None = None, cap: int = MAX_INFLATED
    ) -> None:
        self._descriptor = open_regular(path)
        #: The file's status when it was opened.
        self.status = os.fstat(self._descriptor)
        try:
            self._look(limits or Limits(), folder, cap)
        except BaseException:
            self.close()
            raise

    def _look(self, limits: Limits, folder: str | None, cap: int) -> None:
        size = self.status.st_size
        if not is_deflated(self._descriptor, size):
            self.image = look(self._descriptor, size, limits)
            return
        compressed = self._descriptor
        self._descriptor = inflate(compressed, size, cap, folder)
        os.close(compressed)
        source = FileSource(self._descriptor, os.fstat(self._descriptor).st_size)
        self.image = _look(source, 0, limits, "", find_fragments, little=True)._replace(inflated=True)

    @property
    def count(self) -> int:
        """The number of frames that are there."""
        return self.image.layout.count

    def read(self, index: int) -> bytes:
        """Return the bytes of a frame, counted from 0; see read_frame()."""
        return read_frame(self._descriptor, self.image.layout, index)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

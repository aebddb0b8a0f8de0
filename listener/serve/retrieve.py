"""Retrieve data sets, frames, bulk data and metadata (PS3.18 section 10.4)."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from listener.dicom.syntaxes import EXPLICIT_LITTLE, NATIVE
from listener.frames.errors import FramesFault
from listener.frames.image import ImageFile, read_frame
from listener.frames.layout import Encapsulated, Layout
from listener.reasons import FileFault
from listener.serve import accept
from listener.serve.accept import DICOM, JSON, OCTETS, Chosen, Form
from listener.serve.answers import Answer, Fields, Part, fixed, multipart
from listener.serve.answers import content_type as named
from listener.serve.faults import NotAcceptable, NotFound
from listener.serve.files import Files
from listener.serve.index import Index
from listener.serve.picture import picture
from listener.serve.ranges import is_known, part
from listener.serve.resources import BULK, FRAMES, METADATA, RENDERED, THUMBNAIL, Resource
from listener.serve.tables import Entry, stamp_of

#: Bytes of a file that are read at a time.
_PIECE = 256 * 1024


class Wanted(NamedTuple):
    """What a request says of the form: fields Accept (or the query's), Range, If-None-Match, Accept-Encoding and
    If-Range, and the query.
    """

    accept: str = ""
    range: str = ""
    known: str = ""
    encoding: str = ""
    if_range: str = ""
    query: tuple[tuple[str, str], ...] = ()


class Retriever:
    """Answers requests for resources. `max_inflated` is the largest size of a deflated data set."""

    def __init__(self, index: Index, max_inflated: int) -> None:
        self._index = index
        self._max_inflated = max_inflated
        self._decodes = all(importlib.util.find_spec(name) for name in ("numpy", "PIL"))
        self.files = Files(index.places.data)

    async def answer(self, resource: Resource, wanted: Wanted) -> Answer:
        """Return the answer. Raises Refused, LedgerFault."""
        if resource.kind == METADATA:
            return await self._metadata(resource, wanted)
        found = await self._entries(resource)
        if resource.kind == FRAMES:
            return await self._frames(found[0], resource.frames, wanted)
        if resource.kind in (RENDERED, THUMBNAIL):
            return await self._pictures(_representative(found), resource, wanted)
        if resource.kind == BULK:
            return await self._bulk(found[0], resource.bulk, wanted)
        return await self._instances(found, wanted, single=resource.level == "instances")

    async def _uids(self, resource: Resource) -> Sequence[str]:
        """Return the UIDs of a resource's series. Raises NotFound, LedgerFault."""
        return resource.uids[1:2] or await self._index.series_of(resource.uids[0])

    async def _entries(self, resource: Resource) -> list[Entry]:
        """Return the instances of a resource. Raises NotFound."""
        opened = [await self._index.series(resource.uids[0], uid) for uid in await self._uids(resource)]
        if resource.level == "instances":
            entry = opened[0].table.entries.get(resource.uids[2])
            if entry is None:
                raise NotFound
            return [entry]
        return [entry for one in opened for entry in one.table.entries.values()]

    # -- data sets -----------------------------------------------------------------------------------------------------

    async def _instances(self, entries: Sequence[Entry], wanted: Wanted, *, single: bool) -> Answer:
        ranges = accept.ranges(wanted.accept)
        chosen = [
            accept.choose(ranges, accept.instance_forms(entry.syntax, alone=single), single=single) for entry in entries
        ]
        etag = _etag("instances", *(entry.stamp for entry in entries), chosen[0])
        fields: Fields = [("etag", etag)]
        if len(entries) == 1:
            fields.append(_modified(entries[0]))
        if is_known(wanted.known, etag):
            return Answer(304, fields)
        if single and chosen[0].form.syntax != entries[0].syntax:
            data = await self._index.explicit(entries[0])
            return _whole(data, chosen[0].form, multiple=chosen[0].multipart, fields=fields)
        if chosen[0].multipart:
            parts = [
                (one.form, self._file(entry, 0, entry.stamp[2])) for entry, one in zip(entries, chosen, strict=True)
            ]
            return multipart(DICOM, parts, fields)
        (entry,), size = entries, entries[0].stamp[2]
        fields += [("content-type", named(chosen[0].form)), ("accept-ranges", "bytes")]
        # The rest of what was another file is of no use: then the whole is sent (RFC 9110 section 13.1.5).
        asked = part(wanted.range, size) if wanted.if_range in ("", etag) else None
        if asked is None:
            return Answer(200, fields, [self._file(entry, 0, size)])
        offset, length = asked
        fields.append(("content-range", f"bytes {offset}-{offset + length - 1}/{size}"))
        return Answer(206, fields, [self._file(entry, offset, length)])

    def _file(self, entry: Entry, offset: int, length: int) -> Part:
        async def read() -> AsyncIterator[bytes]:
            with self.files.opened(entry) as descriptor:
                for at in range(offset, offset + length, _PIECE):
                    size = min(_PIECE, offset + length - at)
                    piece = await asyncio.to_thread(os.pread, descriptor, size, at)
                    if len(piece) != size:
                        raise NotFound("the file became shorter")
                    yield piece

        return Part(length, read)

    # -- frames --------------------------------------------------------------------------------------------------------

    async def _frames(self, entry: Entry, numbers: Sequence[int], wanted: Wanted) -> Answer:
        layout, is_native = _layout_of(entry)
        if layout is None:
            return await self._inflated(entry, numbers, wanted)
        stored = entry.syntax, is_native, self._decodes
        chosen, is_stored = _frames_chosen(wanted.accept, *stored, single=len(numbers) == 1)
        if max(numbers) > layout.count:
            raise NotFound(f"the instance has {layout.count} frames")
        etag = _frames_etag(entry.stamp, numbers, chosen)
        fields: Fields = [("etag", etag), _modified(entry)]
        if is_known(wanted.known, etag):
            return Answer(304, fields)
        if not is_stored:
            return await self._decoded(entry, layout, numbers, chosen, fields)
        if not chosen.multipart:
            data = await self._frame(entry, layout, numbers[0])
            return Answer(200, [("content-type", named(chosen.form)), *fields], [fixed(data)], 1)
        if len(numbers) == 1:
            data = await self._frame(entry, layout, numbers[0])
            return multipart(chosen.form.media, [(chosen.form, fixed(data))], fields, 1)
        parts = [(chosen.form, self._frame_part(entry, layout, number)) for number in numbers]
        return multipart(chosen.form.media, parts, fields, len(numbers))

    def _frame_part(self, entry: Entry, layout: Layout, number: int) -> Part:
        async def read() -> AsyncIterator[bytes]:
            yield await self._frame(entry, layout, number)

        return Part(layout.frame(number - 1).size, read)

    async def _frame(self, entry: Entry, layout: Layout, number: int) -> bytes:
        with self.files.opened(entry) as descriptor:
            try:
                return read_frame(descriptor, layout, number - 1, waits=False)
            except OSError:  # It is not in memory, or this file system cannot tell.
                return await asyncio.to_thread(read_frame, descriptor, layout, number - 1)

    # -- decoded, and pictures ---------------------------------------------------------------------------------------

    async def _decoded(
        self, entry: Entry, layout: Layout, numbers: Sequence[int], chosen: Chosen, fields: Fields
    ) -> Answer:
        """Return frames in Explicit VR Little Endian. The first is decoded before the answer begins: it may fail."""
        first = await self._shown(entry, layout, numbers[0], "decode")
        if not chosen.multipart:
            return Answer(200, [("content-type", named(chosen.form)), *fields], [fixed(first)], 1)

        def part_of(number: int) -> Part:
            async def read() -> AsyncIterator[bytes]:
                data = await self._shown(entry, layout, number, "decode")
                if len(data) != len(first):
                    raise NotAcceptable("a frame has another size than the first")
                yield data

            return Part(len(first), read)

        parts = [(chosen.form, fixed(first)), *((chosen.form, part_of(number)) for number in numbers[1:])]
        return multipart(chosen.form.media, parts, fields, len(numbers))

    async def _pictures(self, entry: Entry, resource: Resource, wanted: Wanted) -> Answer:
        """Return pictures of frames: of an instance without a frame list the first one's, and the middle one's as a
        thumbnail.
        """
        if not self._decodes:
            raise NotAcceptable("pictures are not made here: pip install 'dicom-listener[render]', or retrieve frames")
        layout, _ = _layout_of(entry)
        ranges = accept.ranges(wanted.accept)
        chosen = accept.choose(ranges, accept.picture_forms(), single=True)
        asked = picture(wanted.query, chosen.form.media, thumbnail=resource.kind == THUMBNAIL)
        count = layout.count if layout else 1
        numbers = resource.frames or ((count + 1) // 2 if resource.kind == THUMBNAIL else 1,)
        if layout and max(numbers) > count:
            raise NotFound(f"the instance has {count} frames")
        etag = _etag(resource.kind, entry.stamp, *numbers, asked)
        fields: Fields = [("etag", etag), _modified(entry)]
        if is_known(wanted.known, etag):
            return Answer(304, fields)
        made = [await self._shown(entry, layout, number, "render", picture=asked) for number in numbers]
        if len(made) == 1 and not any(one.multipart for one in ranges):
            return Answer(200, [("content-type", chosen.form.media), *fields], [fixed(made[0])], 1)
        return multipart(chosen.form.media, [(chosen.form, fixed(one)) for one in made], fields, len(made))

    async def _shown(self, entry: Entry, layout: Layout | None, number: int, kind: str, **more: Any) -> bytes:
        """Return a frame as a worker makes something of it."""
        if layout is None:
            (data,) = await asyncio.to_thread(self._read_inflated, entry, (number,))
        else:
            data = await self._frame(entry, layout, number)
        syntax = entry.syntax if isinstance(layout, Encapsulated) else EXPLICIT_LITTLE
        frame = b64encode(data).decode("ascii")
        return await self._index.picture(entry, kind, number=number, syntax=syntax, frame=frame, **more)

    # -- deflated ----------------------------------------------------------------------------------------------------

    async def _inflated(self, entry: Entry, numbers: Sequence[int], wanted: Wanted) -> Answer:
        forms = accept.frame_forms("", native=True)
        chosen = accept.choose(accept.ranges(wanted.accept), forms, single=len(numbers) == 1)
        etag = _frames_etag(entry.stamp, numbers, chosen)
        if is_known(wanted.known, etag):
            return Answer(304, [("etag", etag)])
        frames = await asyncio.to_thread(self._read_inflated, entry, numbers)
        if not chosen.multipart:
            return Answer(200, [("content-type", named(chosen.form)), ("etag", etag)], [fixed(frames[0])], 1)
        return multipart(
            chosen.form.media, [(chosen.form, fixed(one)) for one in frames], [("etag", etag)], len(frames)
        )

    def _read_inflated(self, entry: Entry, numbers: Sequence[int]) -> list[bytes]:
        """Return frames of a deflated instance. Raises NotFound."""
        path = os.path.join(self._index.places.data, entry.path)
        try:
            with ImageFile(path, folder=self._index.places.folder, cap=self._max_inflated) as image:
                if stamp_of(image.status) != entry.stamp:
                    raise NotFound("the instance has just been replaced or removed; ask again")
                if max(numbers) > image.count:
                    raise NotFound(f"the instance has {image.count} frames")
                return [image.read(number - 1) for number in numbers]
        except (FramesFault, FileFault) as fault:
            raise NotFound(str(fault)) from None
        except OSError:  # Its text has the path.
            raise NotFound("the instance has just been replaced or removed; ask again") from None

    # -- bulk data -----------------------------------------------------------------------------------------------------

    async def _bulk(self, entry: Entry, bulk: str, wanted: Wanted) -> Answer:
        if entry.pixels and bulk == f"{entry.pixels:08X}":
            layout, is_native = _layout_of(entry)
            if layout and not is_native:
                return await self._frames(entry, range(1, layout.count + 1), wanted)
            if layout:
                return self._native_pixels(entry, layout, wanted)
        chosen = accept.choose(accept.ranges(wanted.accept), [Form(OCTETS)], single=True)
        return _whole(await self._index.bulk(entry, bulk), Form(OCTETS), multiple=chosen.multipart)

    def _native_pixels(self, entry: Entry, layout: Layout, wanted: Wanted) -> Answer:
        form = Form(OCTETS, EXPLICIT_LITTLE)
        chosen = accept.choose(accept.ranges(wanted.accept), [form], single=True)
        numbers = range(1, layout.count + 1)

        async def read() -> AsyncIterator[bytes]:
            for number in numbers:
                yield await self._frame(entry, layout, number)

        whole = Part(layout.count * layout.frame(0).size, read)  # Native frames are all as long.
        fields: Fields = [("etag", _etag("bulk", entry.stamp, chosen))]
        if chosen.multipart:
            return multipart(OCTETS, [(form, whole)], fields, layout.count)
        return Answer(200, [("content-type", named(form)), *fields], [whole], layout.count)

    # -- metadata ------------------------------------------------------------------------------------------------------

    async def _metadata(self, resource: Resource, wanted: Wanted) -> Answer:
        accept.choose(accept.ranges(wanted.accept.replace("application/json", JSON)), [Form(JSON)], single=True)
        study = resource.uids[0]
        found = [await self._index.described(study, uid) for uid in await self._uids(resource)]
        opened, documents = [one for one, _ in found], [document for _, document in found]
        etag = _etag("metadata", *(one.key for one in opened), *resource.uids, "gzip" in wanted.encoding)
        fields: Fields = [("content-type", JSON), ("etag", etag), ("vary", "accept-encoding")]
        if is_known(wanted.known, etag):
            return Answer(304, fields)
        if resource.level == "instances":
            entry = opened[0].table.entries.get(resource.uids[2])
            if entry is None:
                raise NotFound
            offset, length = entry.document
            whole = await asyncio.to_thread(gzip.decompress, documents[0])
            return Answer(200, fields, [fixed(b"[" + whole[offset : offset + length] + b"]")])
        if len(documents) == 1 and "gzip" in wanted.encoding:
            return Answer(200, [*fields, ("content-encoding", "gzip")], [fixed(documents[0])])
        whole = await asyncio.to_thread(_joined, documents)
        return Answer(200, fields, [fixed(whole)])


def _representative(entries: Sequence[Entry]) -> Entry:
    """Return the instance that stands for several: the middle one of those with frames, if there are any."""
    shown = [entry for entry in entries if entry.layout or entry.reason == "deflated"] or entries
    return shown[len(shown) // 2]


def _layout_of(entry: Entry) -> tuple[Layout | None, bool]:
    """Return the layout of an instance's frames and whether they are native; None of a deflated one. Raises NotFound,
    or NotAcceptable where the instance has no single frames.
    """
    if entry.reason == "deflated":
        return None, True
    if entry.layout is None:
        if entry.reason == "no-frames":
            raise NotFound("the instance has no pixel data")
        raise NotAcceptable(f"{entry.reason}: the instance has no single frames; retrieve it as a whole")
    return entry.layout, not isinstance(entry.layout, Encapsulated) and entry.syntax in NATIVE


def _whole(data: bytes, form: Form, *, multiple: bool, fields: Fields | None = None) -> Answer:
    if multiple:
        return multipart(form.media, [(form, fixed(data))], fields or [])
    return Answer(200, [("content-type", named(form)), *(fields or [])], [fixed(data)])


def _joined(documents: Sequence[bytes]) -> bytes:
    inner = [gzip.decompress(document)[1:-1] for document in documents]
    return b"[" + b",".join(filter(None, inner)) + b"]"


def _modified(entry: Entry) -> tuple[str, str]:
    """Return the field that tells versions of an instance apart, whatever is asked for of it."""
    return "last-modified", _date(entry.stamp[3] // 10**9)


@lru_cache(maxsize=1024)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=256)
def _frames_chosen(accepted: str, syntax: str, is_native: bool, decodes: bool, *, single: bool) -> tuple[Chosen, bool]:
    """Return the form of frames to send, and whether that is the stored one; see accept.frame_forms(). Raises
    NotAcceptable.
    """
    forms = accept.frame_forms(syntax, native=is_native, decodes=decodes)
    chosen = accept.choose(accept.ranges(accepted), forms, single=single)
    return chosen, chosen.form.syntax == forms[0].syntax


def _frames_etag(stamp: tuple[int, ...], numbers: Sequence[int], chosen: Chosen) -> str:
    return f'"{_digest_of_frames(stamp, chosen)}-{numbers[0] if len(numbers) == 1 else _digest(numbers)}"'


@lru_cache(maxsize=1024)
def _digest_of_frames(stamp: tuple[int, ...], chosen: Chosen) -> str:
    return _digest("frames", stamp, chosen)


def _etag(*of: object) -> str:
    return f'"{_digest(*of)}"'


def _digest(*of: object) -> str:
    """Return what is another where any of these is."""
    return blake2b(repr(of).encode(), digest_size=12).hexdigest()

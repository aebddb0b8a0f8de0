"""Describe instances, in a process of its own: DICOM JSON of their metadata, and where their frames lie.

What is written lies in the index: for a series its document and its table, each beside and renamed, so that a kill
leaves the old ones or the new ones.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from listener.dicom.attributes import Limits
from listener.dicom.decoding import quiet
from listener.dicom.file_meta import read_file_meta
from listener.dicom.source import FileSource
from listener.dicom.syntaxes import ALL_DEFLATED
from listener.disk.files import opened
from listener.frames.errors import FramesFault
from listener.frames.image import look
from listener.frames.layout import Encapsulated
from listener.serve.attributes import KEPT
from listener.serve.tables import Entry, stamp_of, write_table

#: Bytes of a binary value from which on it is told by its address (PS3.18 section F.2.2).
BULK = 1024

_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
#: Elements that were converted, by all that they depend on; and how many are kept: some 20 MB at most.
_fragments: dict[tuple[Any, ...], dict[str, Any]] = {}
_MOST_FRAGMENTS = 10_000

_RETRIEVE_URL, _AVAILABLE = "00081190", "00083002"


class SeriesJob(NamedTuple):
    """A series to be described: directory of data, UIDs and paths of its instances, address of the service, and the
    paths of the document and the table to be written.
    """

    data: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    instances: tuple[tuple[str, str], ...]
    base: str
    document: str
    table: str
    limits: Limits


class Described(NamedTuple):
    """A series that was described: the instances that could be, and the bytes of document and table."""

    instances: int
    bytes: int


def describe_series(job: SeriesJob) -> Described:
    """Write document and table of a series. Raises OSError where they cannot be written."""
    entries: list[Entry] = []
    parts: list[bytes] = []
    offset = 1
    with quiet():
        for uid, path in job.instances:
            try:
                data, entry = _describe(job, uid, path)
            except Exception:  # noqa: BLE001, S112 - whatever pydicom raises, the other instances are still to be had
                continue
            entries.append(entry._replace(document=(offset, len(data))))
            parts.append(data)
            offset += len(data) + 1
    os.makedirs(os.path.dirname(job.document), mode=0o700, exist_ok=True)
    document, table = gzip.compress(b"[" + b",".join(parts) + b"]", 4, mtime=0), write_table(entries)
    write_beside(job.table, table)
    write_beside(job.document, document)
    return Described(len(entries), len(document) + len(table))


def write_beside(path: str, data: bytes) -> None:
    """Write a file beside and rename it; what a kill leaves is removed by whoever describes the series next."""
    beside = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(beside, "wb") as file:
            file.write(data)
        os.rename(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _describe(job: SeriesJob, uid: str, path: str) -> tuple[bytes, Entry]:
    url = f"{job.base}/studies/{job.StudyInstanceUID}/series/{job.SeriesInstanceUID}/instances/{uid}"
    with opened(os.path.join(job.data, path)) as descriptor:
        status = os.fstat(descriptor)
        syntax = read_file_meta(FileSource(descriptor, status.st_size)).TransferSyntaxUID
        entry = Entry(
            uid, path, stamp_of(status), syntax, (0, 0), *_frames(descriptor, status.st_size, syntax, job.limits)
        )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    found = attributes(dataset, f"{url}/bulkdata")
    if entry.pixels:
        found[f"{entry.pixels:08X}"] = {
            "vr": entry.pixel_vr or "OW",
            "BulkDataURI": f"{url}/bulkdata/{entry.pixels:08X}",
        }
    found[_RETRIEVE_URL] = {"vr": "UR", "Value": [url]}
    if syntax:
        found[_AVAILABLE] = {"vr": "UI", "Value": [syntax]}
    return orjson.dumps(dict(sorted(found.items()))), entry


def _frames(descriptor: int, size: int, syntax: str, limits: Limits) -> tuple[Any, ...]:
    """Return what an Entry has of the frames: reason why there are none, layout, facts; tag and VR of pixel data."""
    if syntax in ALL_DEFLATED:
        return "deflated", None, None, _PIXELS[2], "OW"
    try:
        image = look(descriptor, size, limits)
    except FramesFault as fault:
        return fault.reason, None, None, 0 if fault.reason == "no-frames" else _PIXELS[2], "OB"
    is_float = image.facts.vr == b"OF"
    tag = (_PIXELS[0] if image.facts.BitsAllocated == 32 else _PIXELS[1]) if is_float else _PIXELS[2]
    vr = "OB" if isinstance(image.layout, Encapsulated) else (image.facts.vr.decode("ascii") or "OW")
    return "", image.layout, image.facts, tag, vr


def attributes(dataset: Dataset, bulk: str) -> dict[str, Any]:
    """Return the DICOM JSON model of a data set (PS3.18 annex F), as pydicom makes it, but for values that it cannot
    convert, which are left out; `bulk` is the address of its bulk data.
    """
    found: dict[str, Any] = {}
    for key in sorted(dataset.keys()):
        if key.element == 0 or key in _PIXELS:
            continue
        tag = f"{key:08X}"
        try:
            found[tag] = _converted(dataset, key, f"{bulk}/{tag}")
        except Exception:  # noqa: BLE001, S112 - whatever pydicom raises about a value, the others are to be had
            continue
    if "00080005" in found:  # JSON is UTF-8, whatever the file is.
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return found


def _converted(dataset: Dataset, tag: BaseTag, bulk: str) -> dict[str, Any]:
    """Return what the model has of an element. Most elements of a series are the same in all of its instances, and
    converting one costs several times what finding it again does.
    """
    raw: Any = dataset.get_item(tag)
    if not isinstance(raw, RawDataElement) or not _is_plain(raw):
        return _element(dataset[tag], bulk)
    encoding = dataset.original_character_set
    key = (tag, raw.VR, raw.value, raw.is_little_endian, encoding if isinstance(encoding, str) else tuple(encoding))
    found = _fragments.get(key)
    if found is None:
        found = _element(dataset[tag], bulk)
        if len(_fragments) >= _MOST_FRAGMENTS:
            _fragments.clear()
        _fragments[key] = found
    return found


def _is_plain(raw: RawDataElement) -> bool:
    """Return whether an element is converted by tag, VR, bytes and character set alone: its VR is written, or that of
    the dictionary, and one only; it is no sequence, and short enough to be kept.
    """
    vr = str(raw.VR or "") or (dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else "")
    return len(vr) == 2 and vr not in ("SQ", "UN") and raw.value is not None and len(raw.value) <= BULK


def _element(element: DataElement, bulk: str) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [attributes(item, f"{bulk}/{number}") for number, item in enumerate(element.value, 1)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if element.VR in _BINARY and isinstance(element.value, bytes) and len(element.value) > BULK:
        return {"vr": str(element.VR), "BulkDataURI": bulk}
    made: dict[str, Any] = element.to_json_dict(None, 2**62)
    return made


class FirstJob(NamedTuple):
    """The first instance of a series, for the catalogue."""

    data: str
    paths: tuple[str, ...]


def describe_first(job: FirstJob) -> dict[str, Any] | None:
    """Return the attributes that searches need, as DICOM JSON, of the first of some files that can be read."""
    tags = [int(one.tag, 16) for one in KEPT]
    with quiet():
        for path in job.paths:
            try:
                with opened(os.path.join(job.data, path)) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
                    dataset = pydicom.dcmread(
                        file, stop_before_pixels=True, force=True, specific_tags=[0x00080005, *tags]
                    )
                found = attributes(dataset, "")
            except Exception:  # noqa: BLE001, S112 - as above: the next one may be readable
                continue
            found.pop("00080005", None)
            return found
    return None


@lru_cache(maxsize=8)
def header_of(path: str, stamp: tuple[int, ...]) -> Dataset | None:
    """Return the data set before the pixels of a file; None where the file has another stamp, or cannot be read."""
    try:
        with quiet(), opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            if stamp_of(os.fstat(descriptor)) != stamp:
                return None
            return pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except Exception:  # noqa: BLE001 - whatever pydicom or the system raises, there is no header
        return None


def bulk_value(path: str, stamp: tuple[int, ...], bulk: str, target: str) -> bool:
    """Write the value that tags and item numbers (TAG/NUMBER/TAG) lead to; return whether there is one, in the file
    that has this stamp. Raises OSError where it cannot be written.
    """
    try:
        found = _bulk_value(path, stamp, bulk)
    except Exception:  # noqa: BLE001 - whatever pydicom or the system raises, there is no such value
        return False
    if not isinstance(found, bytes):
        return False
    write_beside(target, found)
    return True


def _bulk_value(path: str, stamp: tuple[int, ...], bulk: str) -> Any:
    with quiet(), opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        if stamp_of(os.fstat(descriptor)) != stamp:
            return None
        found: Any = pydicom.dcmread(file, force=True)
        for number, step in enumerate(bulk.split("/")):
            found = found[int(step, 16)].value if number % 2 == 0 else found[int(step) - 1]
        return found

"""Read the instances of a series in the tree: their headers, and what identifies their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import FileIO
from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk import files
from listener.errors import FileFault
from listener.export.faults import Changed, Gone, Identified, NotReadable
from listener.export.target import CHUNK, Content
from listener.ledger.rows import InstanceRow, SeriesRow

#: What every export reads of a header.
ALWAYS = frozenset({"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientIdentityRemoved"})

#: Device, inode, size and modification time of a file: one that changed has others.
Stamp = tuple[int, int, int, int]


class Instance(NamedTuple):
    """An instance as it lies in the tree: its row, SHA-256, stamp, the texts of its header that were wanted, and its
    transfer syntax.
    """

    row: InstanceRow
    sha256: str
    stamp: Stamp
    values: Mapping[str, str]
    TransferSyntaxUID: str


class Survey(NamedTuple):
    """How instances are read: below which data directory, which keywords, whether identified ones are allowed, and a
    function to be called now and then, which may raise Stopped.
    """

    data_dir: str
    keywords: frozenset[str] = ALWAYS
    allow_identified: bool = False
    tick: Callable[[], None] = lambda: None


def survey(plan: Survey, series: SeriesRow, row: InstanceRow) -> Instance:
    """Read an instance whole. Raises a SeriesFault."""
    plan.tick()
    with _opened(os.path.join(plan.data_dir, row.path), row) as file:
        descriptor = file.fileno()
        stamp = _stamp(descriptor)
        if stamp[2] != row.size:
            raise Changed(f"{row.SOPInstanceUID} has {stamp[2]} bytes, and had {row.size}")
        try:
            header = read_header(descriptor, row.size, Wanted.of(plan.keywords | ALWAYS), Limits())
        except FileFault as fault:
            raise NotReadable(f"{row.SOPInstanceUID}: {fault}") from None
        values = header.values
        uids = (values.get("SOPInstanceUID"), values.get("SeriesInstanceUID"), values.get("StudyInstanceUID"))
        if uids != (row.SOPInstanceUID, series.SeriesInstanceUID, series.StudyInstanceUID):
            raise Changed(f"{row.SOPInstanceUID} has other UIDs now")
        if not plan.allow_identified and values.get("PatientIdentityRemoved", "").strip() != "YES":
            raise Identified(row.SOPInstanceUID)
        file.seek(0)
        digest = hashlib.sha256()
        while data := file.read(CHUNK):
            plan.tick()
            digest.update(data)
        if _stamp(descriptor) != stamp:
            raise Changed(f"{row.SOPInstanceUID} is being written")
        return Instance(row, digest.hexdigest(), stamp, values, header.TransferSyntaxUID)


def content_of(data_dir: str, instance: Instance, key: str) -> Content:
    """Return an instance as an object is written of it."""
    return Content(key, instance.row.size, instance.sha256, partial(chunks_of, data_dir, instance))


def chunks_of(data_dir: str, instance: Instance) -> Iterator[bytes]:
    """Yield the bytes of an instance. Raises Gone, and Changed where they are not what was surveyed: of a small file
    before anything, of a large one before its last bytes.
    """
    row = instance.row
    digest = hashlib.sha256()
    with _opened(os.path.join(data_dir, row.path), row) as file:
        if _stamp(file.fileno()) != instance.stamp:
            raise Changed(f"{row.SOPInstanceUID} was replaced")
        left = row.size
        while left:
            data = file.read(min(left, CHUNK))
            left -= len(data)
            digest.update(data)
            if not data or (not left and digest.hexdigest() != instance.sha256):
                raise Changed(f"{row.SOPInstanceUID} was changed")
            yield data


def _opened(path: str, row: InstanceRow) -> FileIO:
    try:
        return open(files.open_regular(path), "rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        raise Gone(row.SOPInstanceUID) from None
    except OSError as error:
        raise NotReadable(f"{row.SOPInstanceUID}: {error.strerror}") from None


def _stamp(descriptor: int) -> Stamp:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

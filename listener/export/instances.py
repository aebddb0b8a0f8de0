"""Read the instances of a series in the tree: first all headers, then the bytes, once or twice."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from io import FileIO
from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk import files
from listener.export.faults import Changed, Gone, Identified, NotReadable
from listener.export.target import CHUNK, Content, held
from listener.ledger.rows import InstanceRow, SeriesRow
from listener.reasons import FileFault

#: What every export reads of a header.
ALWAYS = frozenset({"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientIdentityRemoved"})

_LIMITS = Limits()

#: Bytes of an instance that is held whole while it is on its way, in each thread.
SMALL = 2**20

#: Device, inode, size and modification time of a file: one that changed has others.
Stamp = tuple[int, int, int, int]


class Instance(NamedTuple):
    """An instance as it lies in the tree: its row, stamp, the texts of its header that were wanted, its transfer
    syntax, and its SHA-256 ("": not read yet).
    """

    row: InstanceRow
    stamp: Stamp
    values: Mapping[str, str]
    TransferSyntaxUID: str
    sha256: str = ""


class Survey(NamedTuple):
    """How instances are read: below which data directory, what of each header, whether identified ones are allowed, a
    function to be called now and then, which may raise Stopped, whether each is read back from the target, and what is
    held while a header or a small file is read (see Turns).
    """

    data_dir: str
    wanted: Wanted
    allow_identified: bool = False
    tick: Callable[[], None] = lambda: None
    reads: bool = False
    turn: Callable[[], AbstractContextManager[None]] = nullcontext


def survey(plan: Survey, series: SeriesRow, row: InstanceRow) -> Instance:
    """Read the header of an instance. Raises a SeriesFault."""
    plan.tick()
    with plan.turn(), _opened(os.path.join(plan.data_dir, row.path), row) as file:
        descriptor = file.fileno()
        stamp = _stamp(descriptor)
        if stamp[2] != row.size:
            raise Changed(f"{row.SOPInstanceUID} has {stamp[2]} bytes, and had {row.size}")
        try:
            header = read_header(descriptor, row.size, plan.wanted, _LIMITS)
        except FileFault as fault:
            raise NotReadable(f"{row.SOPInstanceUID}: {fault}") from None
        values = header.values
        uids = (values.get("SOPInstanceUID"), values.get("SeriesInstanceUID"), values.get("StudyInstanceUID"))
        if uids != (row.SOPInstanceUID, series.SeriesInstanceUID, series.StudyInstanceUID):
            raise Changed(f"{row.SOPInstanceUID} has other UIDs now")
        if not plan.allow_identified and values.get("PatientIdentityRemoved", "").strip() != "YES":
            raise Identified(row.SOPInstanceUID)
        # Most texts are those of the whole series, and all of them are held until it is exported.
        shared = {keyword: sys.intern(text) for keyword, text in values.items()}
        return Instance(row, stamp, shared, header.TransferSyntaxUID)


def digested(plan: Survey, instance: Instance) -> Instance:
    """Return an instance with its SHA-256. Raises Gone and Changed."""
    digest = hashlib.sha256()
    for data in pieces(plan, instance):
        plan.tick()
        digest.update(data)
    return instance._replace(sha256=digest.hexdigest())


def content_of(plan: Survey, instance: Instance, key: str) -> tuple[Instance, Content]:
    """Return an instance with its SHA-256, and as an object is written of it. A small one is read once, a larger one
    twice: its digest is told before its bytes. Raises Gone and Changed.
    """
    if instance.row.size > SMALL:
        made = instance if instance.sha256 else digested(plan, instance)
        return made, Content(key, made.row.size, made.sha256, partial(chunks_of, plan, made))
    data = b"".join(pieces(plan, instance))
    content = held(key, data)
    if instance.sha256 not in ("", content.sha256):
        raise Changed(f"{instance.row.SOPInstanceUID} was changed")
    return instance._replace(sha256=content.sha256), content


def chunks_of(plan: Survey, instance: Instance) -> Iterator[bytes]:
    """Yield the bytes of an instance whose SHA-256 is known. Raises Gone, and Changed before the last bytes of one that
    has another; that is left to the reading back where there is one.
    """
    if plan.reads:
        yield from pieces(plan, instance)
        return
    left = instance.row.size
    digest = hashlib.sha256()
    for data in pieces(plan, instance):
        left -= len(data)
        digest.update(data)
        if not left and digest.hexdigest() != instance.sha256:
            raise Changed(f"{instance.row.SOPInstanceUID} was changed")
        yield data


def pieces(plan: Survey, instance: Instance) -> Iterator[bytes]:
    """Yield the bytes of an instance, a small one's at once. Raises Gone, and Changed, at the latest before its last
    bytes, where the file is not the one whose header was read.
    """
    if instance.row.size > SMALL:
        yield from _pieces(plan.data_dir, instance)
        return
    with plan.turn():
        data = b"".join(_pieces(plan.data_dir, instance))
    yield data


def _pieces(data_dir: str, instance: Instance) -> Iterator[bytes]:
    row = instance.row
    with _opened(os.path.join(data_dir, row.path), row) as file:
        if _stamp(file.fileno()) != instance.stamp:
            raise Changed(f"{row.SOPInstanceUID} was replaced")
        left = row.size
        while left:
            data = file.read(min(left, CHUNK))
            left -= len(data)
            if not data or (not left and _stamp(file.fileno()) != instance.stamp):
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

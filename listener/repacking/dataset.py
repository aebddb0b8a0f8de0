"""Compare the data sets of two files: equal, different ones of one instance, or other instances."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b

from listener.dicom.reader import Wanted, read_header
from listener.disk import files
from listener.reasons import FileFault
from listener.repacking.context import WorkerContext
from listener.repacking.job import Instance

_IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID")
_CHUNK = 2**20


def compare(instance: Instance, present: str, context: WorkerContext) -> str:
    """Compare an instance's data set with that of the file `present`: return "equal", "different" (same instance) or
    "other-instance".
    """
    header = instance.header
    try:
        if not stat.S_ISREG(os.lstat(present).st_mode):
            return "other-instance"
        descriptor = files.open_regular(present)
    except FileNotFoundError:
        return "different"
    try:
        size = os.fstat(descriptor).st_size
        there = read_header(descriptor, size, Wanted.of(_IDENTITY), context.limits)
        lengths = size - there.dataset_offset, header.size - header.dataset_offset
        if lengths[0] == lengths[1] and digest(Instance(there, descriptor)) == digest(instance):
            return "equal"
    except FileFault:
        return "different"
    finally:
        os.close(descriptor)
    same = all(there.get(keyword) == header.get(keyword) for keyword in _IDENTITY)
    return "different" if same else "other-instance"


def digest_of(path: str, context: WorkerContext) -> str:
    """Return a digest of the data set in a file, "" if the file cannot be read."""
    try:
        descriptor = files.open_regular(path)
        try:
            header = read_header(descriptor, os.fstat(descriptor).st_size, Wanted.of(_IDENTITY), context.limits)
            return f"blake2b-128:{digest(Instance(header, descriptor))}"
        finally:
            os.close(descriptor)
    except (FileFault, OSError):
        return ""


def digest(instance: Instance) -> str:
    """Return the hexadecimal digest of the data set: transfer syntax and all bytes behind the file meta information,
    which storescp changes (it writes the sender's AE title there).
    """
    header, descriptor = instance
    state = blake2b(header.TransferSyntaxUID.encode(), digest_size=16)
    offset = header.dataset_offset
    while chunk := os.pread(descriptor, _CHUNK, offset):
        state.update(chunk)
        offset += len(chunk)
    return state.hexdigest()

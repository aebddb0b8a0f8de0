"""Small synthetic DICOM instances for every test: related patient, study and series identifiers, deterministic UIDs."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from listener.dicom.encoding import LONG_VRS

#: Root of every UID made here.
UID_ROOT = "1.2.826.0.1.3680043.10.1470."

#: Given as an override: leave the element out.
ABSENT = object()

MR_STORAGE = UID("1.2.840.10008.5.1.4.1.1.4")

_ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")


def uid(*parts: object) -> UID:
    """A UID below UID_ROOT that follows from `parts` alone (the same in every run and process)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return UID(UID_ROOT + str(int.from_bytes(digest[:12], "big")))


def instance(patient: int = 0, study: int = 0, series: int = 0, number: int = 1, **overrides: Any) -> Dataset:
    """One MR instance, complete and valid, of 4 by 4 pixels of 16 bits.

    Instances with the same `patient`, `study` and `series` share those identifiers. `overrides` are DICOM keywords:
    a value replaces, "" leaves the element empty, ABSENT leaves it out. Also: `transfer_syntax` (a UID; an
    encapsulated one gets one made-up fragment), `pixels` (bytes of PixelData; None: no pixel data; an int: that many
    rows and columns) and `sender` (the calling AE title of (0002,0016), as storescp writes it).
    """
    syntax = str(overrides.pop("transfer_syntax", ExplicitVRLittleEndian))
    pixels = overrides.pop("pixels", 4)
    sender = overrides.pop("sender", "SENDER")
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = MR_STORAGE
    ds.SOPInstanceUID = uid("instance", patient, study, series, number)
    ds.StudyDate = f"202401{1 + study % 28:02d}"
    ds.SeriesDate = ds.StudyDate
    ds.StudyTime = "101112"
    ds.AccessionNumber = f"A{patient}{study}"
    ds.Modality = "MR"
    ds.StudyDescription = f"Study {study}"
    ds.SeriesDescription = f"Series {series}"
    ds.PatientName = f"Patient^{patient}"
    ds.PatientID = f"P{patient:04d}"
    ds.PatientBirthDate = "19700102"
    ds.PatientSex = "O"
    ds.PatientAge = "054Y"
    ds.StudyInstanceUID = uid("study", patient, study)
    ds.SeriesInstanceUID = uid("series", patient, study, series)
    ds.SeriesNumber = series + 1
    ds.InstanceNumber = number
    if pixels is not None:
        _add_pixels(ds, pixels, number, encapsulated=syntax.startswith(_ENCAPSULATED))
    for keyword, value in overrides.items():
        if value is not ABSENT:
            tag = tag_for_keyword(keyword)
            assert tag is not None, keyword
            # a test may want what pydicom would warn of
            ds[keyword] = DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)
        elif keyword in ds:
            delattr(ds, keyword)
    ds.file_meta = _meta(ds, syntax, sender)
    return ds


def _add_pixels(ds: Dataset, pixels: int | bytes, number: int, *, encapsulated: bool) -> None:
    side = pixels if isinstance(pixels, int) else 4
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    body = pixels if isinstance(pixels, bytes) else number.to_bytes(2, "little") * side * side
    if encapsulated and isinstance(pixels, int):
        # an empty offset table and one fragment (PS3.5 section A.4); nobody decodes it here
        table = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
        body = table + b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body
    ds.add_new(0x7FE00010, "OB" if encapsulated else "OW", body)
    ds["PixelData"].is_undefined_length = encapsulated


def _meta(ds: Dataset, syntax: str, sender: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(str(ds.get("SOPClassUID") or MR_STORAGE))
    meta.MediaStorageSOPInstanceUID = UID(str(ds.get("SOPInstanceUID") or ""))
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(UID_ROOT + "1")
    if sender:
        meta.SourceApplicationEntityTitle = sender
    return meta


def save(ds: Dataset, path: Path | str) -> Path:
    """Write `ds` as a DICOM file with preamble and file meta information; its transfer syntax decides the encoding."""
    path = Path(path)
    syntax = ds.file_meta.TransferSyntaxUID
    # enforce_file_format would refuse the broken instances that tests want
    ds.preamble = b"\0" * 128
    meta = FileMetaDataset(ds.file_meta)
    meta.FileMetaInformationVersion = b"\0\1"
    meta.FileMetaInformationGroupLength = 0
    ds.file_meta = meta
    ds.save_as(
        path,
        enforce_file_format=False,
        implicit_vr=syntax.is_implicit_VR if syntax.is_transfer_syntax else False,
        little_endian=syntax.is_little_endian if syntax.is_transfer_syntax else True,
    )
    return path


def write_instance(path: Path | str, **arguments: Any) -> Path:
    """`save(instance(**arguments), path)`."""
    return save(instance(**arguments), path)


# ---- bytes laid by hand, for what no honest library writes ----


def element(tag: int, vr: str, value: bytes, *, length: int | None = None, little: bool = True) -> bytes:
    """One element in explicit VR, in implicit VR when `vr` is ""; `length` lies about the value's length (bytes)."""
    order = "<" if little else ">"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    size = len(value) if length is None else length
    if not vr:
        return head + struct.pack(order + "L", size) + value
    if vr.encode() in LONG_VRS:
        return head + vr.encode() + b"\0\0" + struct.pack(order + "L", size) + value
    return head + vr.encode() + struct.pack(order + "H", size) + value


def part10(dataset: bytes, syntax: str = ExplicitVRLittleEndian, *, group_length: int | None = 0) -> bytes:
    """A file of preamble, file meta information and `dataset`; `group_length`: None leaves it out, 0 is right."""
    meta = element(0x00020003, "UI", b"1.2.3\0") + element(
        0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2)
    )
    if group_length is not None:
        meta = element(0x00020000, "UL", (group_length or len(meta)).to_bytes(4, "little")) + meta
    return b"\0" * 128 + b"DICM" + meta + dataset


@contextmanager
def descriptor(data: bytes) -> Iterator[tuple[int, int]]:
    """A file descriptor on `data`, and its size in bytes; no disk is touched."""
    fd = os.memfd_create("instance")
    try:
        os.write(fd, data)
        yield fd, len(data)
    finally:
        os.close(fd)

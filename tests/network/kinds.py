"""Instances of every kind that is sent: transfer syntaxes, and objects that are no images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from listener.dicom.syntaxes import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from tests.instances import instance, save

JPEG_LOSSLESS, RLE, MPEG4 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.102"


def nested(**more: Any) -> Dataset:
    """What SR, SEG and RT have: sequences in sequences, a private element, texts outside of ASCII."""
    leaf = Dataset()
    leaf.ReferencedSOPInstanceUID, leaf.ReferencedSOPClassUID = "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2"
    middle = Dataset()
    middle.ReferencedSOPSequence = Sequence([leaf, leaf])
    middle.StudyInstanceUID = "1.2.3"
    return instance(
        PatientName="Müller^Jürgen",
        CurrentRequestedProcedureEvidenceSequence=Sequence([middle]),
        ReferencedSeriesSequence=Sequence(),
        **more,
    )


def kinds() -> dict[str, Dataset]:
    """One of each, by a word for it."""
    sop = "1.2.840.10008.5.1.4.1.1."
    pdf = instance(SOPClassUID=sop + "104.1", EncapsulatedDocument=b"%PDF-1.4 " * 100, pixels=None)
    return {
        "implicit": instance(transfer_syntax=IMPLICIT_LITTLE, pixels=300),
        "explicit": instance(pixels=300),
        "big endian": instance(transfer_syntax=EXPLICIT_BIG, pixels=30),
        "deflated": instance(transfer_syntax=DEFLATED, pixels=31),
        "deflated, odd": instance(transfer_syntax=DEFLATED, pixels=32, PatientComments="odd"),
        "JPEG lossless": instance(transfer_syntax=JPEG_LOSSLESS),
        "JPEG baseline": instance(transfer_syntax="1.2.840.10008.1.2.4.50"),
        "JPEG-LS": instance(transfer_syntax="1.2.840.10008.1.2.4.80"),
        "JPEG 2000": instance(transfer_syntax="1.2.840.10008.1.2.4.91"),
        "RLE": instance(transfer_syntax=RLE),
        "video": instance(transfer_syntax=MPEG4, SOPClassUID=sop + "77.1.4.1"),
        "SR": nested(SOPClassUID=sop + "88.33", pixels=None),
        "SEG": nested(SOPClassUID=sop + "66.4"),
        "RTSTRUCT": nested(SOPClassUID=sop + "481.3", pixels=None, transfer_syntax=IMPLICIT_LITTLE),
        "encapsulated PDF": pdf,
    }


def written(path: Path, number: int, dataset: Dataset) -> Path:
    """A file of it, with a UID that follows from a number."""
    dataset.SOPInstanceUID = f"1.2.826.0.1.{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return save(dataset, path)

"""Plant a synthetic patient into data sets: each attribute of Table E.1-1 by its VR, at every depth, and what else may
hold a name. Each planted text holds PLANT, each planted UID its root, so that one search of the bytes finds them all.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import UID

from listener.deidentify.profile import read_table
from listener.dicom.attributes import dictionary_vr

PLANT = "Plantagenet"
ROOT = "1.3.9999.77"
DATE = "19471103"

IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
SYNTAXES = (IMPLICIT, EXPLICIT, BIG, DEFLATED)

#: Sequences that are kept, one within the other.
PATH = (0x52009229, 0x00209116, 0x00189477, 0x00081115, 0x00540016)

#: What the planted bytes must not be found as.
NEEDLES = (PLANT.encode(), PLANT.upper().encode(), ROOT.encode(), DATE.encode())

_TEXTS = {"AE", "SH", "LO", "LT", "ST", "UT", "UC"}


def planted_value(tag: int, vr: str) -> object:
    """A value of this VR that tells on its patient, "" where the VR can tell of nobody."""
    if vr in _TEXTS:
        return PLANT
    if vr == "CS":
        return PLANT.upper()
    return {
        "PN": f"{PLANT}^Geoffrey",
        "UI": f"{ROOT}.{tag}",
        "DA": DATE,
        "DT": f"{DATE}101010",
        "TM": "101010.4711",
        "UR": f"http://{PLANT}",
        "UN": PLANT.encode() + b" ",
        "OB": PLANT.encode() + b" ",
        "AS": "047Y",
        "IS": "471103",
        "DS": "4711.03",
        "US": 4711,
    }.get(vr, "")


def identity(depth: int = 0) -> Dataset:
    """Each attribute of the table that can hold an identity; sequences hold a name in an item."""
    made = Dataset()
    for tag in sorted(read_table()):
        vr = dictionary_vr(tag) or "LO"
        if tag >> 16 < 8 or tag in (0xFFFAFFFA, 0x00080018) or (depth and tag == 0x0020000D):
            continue
        if vr == "SQ":
            item = Dataset()
            item.PatientName = f"{PLANT}^Item"
            item.CodeMeaning = PLANT if tag not in (0x00081140, 0x00082112) else "none"
            made.add(DataElement(tag, "SQ", Sequence([item])))
        elif (value := planted_value(tag, vr)) != "":
            made.add(DataElement(tag, vr, value))
    private(made)
    return made


def private(made: Dataset) -> None:
    """Private elements, and a private sequence."""
    item = Dataset()
    item.PatientName = f"{PLANT}^Private"
    made.add(DataElement(0x00091001, "LO", PLANT))
    made.add(DataElement(0x00090010, "LO", f"{PLANT} 1.0"))
    made.add(DataElement(0x00091002, "SQ", Sequence([item])))


def instance(depth: int = 0, *, undefined: bool = False) -> Dataset:
    """An image whose identity is planted at the top and, within PATH, in each of `depth` sequences."""
    made = identity()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    made.SOPInstanceUID = f"{ROOT}.1"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{ROOT}.2", f"{ROOT}.3"
    made.Modality, made.Manufacturer = "MR", "ACME"
    made.Rows = made.Columns = 4
    made.BitsAllocated, made.SamplesPerPixel, made.PixelRepresentation = 16, 1, 0
    made.add(DataElement(0x60003000, "OW", PLANT.encode() + b" "))
    made.add(DataElement(0x60000022, "LO", PLANT))
    made.add(DataElement(0x50000022, "LO", PLANT))
    made.add(DataElement(0x7FE00010, "OW", bytes(range(32))))
    made.add(DataElement(0xFFFCFFFC, "OB", PLANT.encode() + b" "))
    here = made
    for level in range(depth):
        item = identity(level + 1)
        item.Rows = level + 1
        sequence = DataElement(PATH[level], "SQ", Sequence([item]), is_undefined_length=undefined)
        item.is_undefined_length_sequence_item = undefined
        here.add(sequence)
        here = item
    return made


def file_of(dataset: Dataset, syntax: str) -> bytes:
    """The bytes of a file, with a patient in preamble and file meta information too."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = UID(syntax), UID(f"{ROOT}.9")
    meta.SourceApplicationEntityTitle = PLANT
    meta.PrivateInformationCreatorUID, meta.PrivateInformation = UID(f"{ROOT}.8"), PLANT.encode() + b" "
    head = DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    write_file_meta_info(head, meta, enforce_standard=True)
    preamble = (PLANT.encode() * 20)[:128]
    body = encoded(dataset, syntax)
    if syntax == DEFLATED:
        engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = engine.compress(body) + engine.flush()
        body += b"\0" * (len(body) & 1)
    return preamble + b"DICM" + head.getvalue() + body


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """The bytes of a data set, not deflated."""
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(target, dataset)
    return bytes(target.getvalue())


def dataset_bytes(file: bytes, syntax: str) -> bytes:
    """The bytes of a file's data set, inflated if need be; the file meta information is as this program writes it."""
    length = int.from_bytes(file[140:144], "little")
    body = file[144 + length :]
    return zlib.decompress(body, wbits=-zlib.MAX_WBITS) if syntax == DEFLATED else body


def found_in(data: bytes, needles: Iterable[bytes] = NEEDLES) -> list[bytes]:
    """Which needles stand in the bytes."""
    return [needle for needle in needles if needle in data]


def buffer(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)

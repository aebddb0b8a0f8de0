"""What workers send back, as pydicom makes it: a segmentation, a report, a secondary capture of a new study."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.instances import instance, uid


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def sop(image: Dataset) -> Dataset:
    """A reference to an instance."""
    return item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)


def of_study(image: Dataset, kind: str, maker: str) -> Dataset:
    """A result of the study of an image; `maker` makes its UIDs differ from another worker's."""
    return instance(
        SOPInstanceUID=uid(kind, maker, image.SOPInstanceUID),
        SeriesInstanceUID=uid(kind, maker, image.SeriesInstanceUID),
        StudyInstanceUID=image.StudyInstanceUID,
        PatientID=image.PatientID,
        PatientName=str(image.PatientName),
        Modality=kind,
    )


def segmentation(image: Dataset, maker: str) -> Dataset:
    """A segmentation: the series and the instances that it is of (PS3.3 section C.8.20.2)."""
    made = of_study(image, "SEG", maker)
    made.ReferencedSeriesSequence = Sequence(
        [item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedInstanceSequence=Sequence([sop(image)]))]
    )
    return made


def report(image: Dataset, maker: str) -> Dataset:
    """A report, in a study of its own, with evidence (PS3.3 section C.17.2)."""
    made = of_study(image, "SR", maker)
    made.StudyInstanceUID = uid("reports", maker, image.StudyInstanceUID)
    series = item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedSOPSequence=Sequence([sop(image)]))
    study = item(StudyInstanceUID=image.StudyInstanceUID, ReferencedSeriesSequence=Sequence([series]))
    made.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    return made


def capture(image: Dataset, maker: str) -> Dataset:
    """A secondary capture in a new study, that says only which image it was made of."""
    made = of_study(image, "OT", maker)
    made.StudyInstanceUID = uid("captures", maker, image.StudyInstanceUID)
    made.SourceImageSequence = Sequence([sop(image)])
    return made


def note(maker: str, image: Dataset) -> Dataset:
    """A report that refers to nothing."""
    made = of_study(image, "SR", maker)
    made.StudyInstanceUID, made.SOPInstanceUID = uid("notes", maker), uid("note", maker)
    return made

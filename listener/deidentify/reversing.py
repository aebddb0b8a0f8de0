"""The way back: objects that somebody derived from what was handed over (segmentations, reports, structure sets) get
the identifiers, UIDs, references and dates of the originals.

What stood in place of an original is found by making it again: from the ledger's instances, and from one instance of
each series of the study, with the key. Nothing is guessed: an object that names something unknown is held.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue

from listener.deidentify import dates
from listener.deidentify.keys import Keys, is_standard
from listener.deidentify.marks import MARKS
from listener.deidentify.vault import Vault
from listener.disk import sync
from listener.ledger.reader import Reader
from listener.uids import is_uid

#: Attributes of patient and study that are the original's again, where the object has them.
_OF_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
)
_OURS = "2.25."
_TEXTS = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC"})


class Held(Exception):
    """The object cannot be given back; the message names no patient."""


class Found(NamedTuple):
    """What is known of a study: the pseudonym of its patient, what stands for what (UIDs and dates), and the attributes
    of one of its instances.
    """

    pseudonym: str
    values: Mapping[str, str]
    head: Dataset


@dataclass
class Reversing:
    """Gives objects back to the collection with this data directory. `keys` must be those of the vault."""

    reader: Reader
    data_dir: str
    keys: Keys
    vault: Vault
    known: dict[str, Found] = field(default_factory=dict)

    def reverse(self, path: str, into: str) -> str:
        """Write an object with its originals into a directory; return its path. Raises Held and OSError."""
        try:
            dataset = dcmread(path)
            study = str(dataset.StudyInstanceUID)
            patient, instance = str(dataset.get("PatientID", "")), str(dataset.SOPInstanceUID)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - pydicom raises whatever a file leads to
            raise Held(f"it cannot be read: {type(error).__name__}") from None
        # It becomes the name of a file.
        if not is_uid(instance):
            raise Held("its SOP Instance UID is no UID")
        found = self._study(study, patient)
        if instance in found.values:
            raise Held("it is an instance that was handed over, not one derived from it")
        own = {instance, str(dataset.get("SeriesInstanceUID", ""))}
        _set_originals(dataset, found, own)
        return _write(dataset, os.path.join(into, f"{instance}.dcm"))

    def _study(self, replaced: str, pseudonym: str) -> Found:
        """Return what is known of the study that a UID stands for. Raises Held and OSError."""
        if replaced not in self.known:
            self.known[replaced] = self._read(*self._owner(replaced))
        if self.known[replaced].pseudonym != pseudonym:
            raise Held("its PatientID is not the one of its study")
        return self.known[replaced]

    def _owner(self, replaced: str) -> tuple[str, str, str, int]:
        """Return the original of a study, whose it is, the pseudonym, and the days of the shift. Raises Held."""
        for study, new, patient_id in self.vault.rows("studies"):
            if new == replaced:
                for known, pseudonym, days in self.vault.rows("patients"):
                    if known == patient_id:
                        return study, patient_id, pseudonym, days
        raise Held("its study is not known here")

    def _read(self, study: str, patient_id: str, pseudonym: str, days: int) -> Found:
        row = self.reader.study(study)
        values = {self.keys.uid(study): study}
        head: Dataset | None = None
        for series in self.reader.series_of(row) if row else []:
            values[self.keys.uid(series.SeriesInstanceUID)] = series.SeriesInstanceUID
            instances = self.reader.instances_of(series)
            values.update({self.keys.uid(one.SOPInstanceUID): one.SOPInstanceUID for one in instances})
            if instances:
                one = dcmread(os.path.join(self.data_dir, instances[0].path), stop_before_pixels=True)
                values.update(_made_again(one, self.keys, days))
                head = head or one
        if head is None:
            raise Held("the original study is not here any more")
        head.PatientID = "" if patient_id.startswith("\0") else patient_id
        return Found(pseudonym, values, head)


def _made_again(dataset: Dataset, keys: Keys, days: int) -> Iterator[tuple[str, str]]:
    """Yield what stands in place of UIDs and dates of an instance, with the originals."""
    for element in dataset.iterall():
        for text in _texts(element):
            if element.VR == "UI" and text and not is_standard(text):
                yield keys.uid(text), text
            elif element.VR in ("DA", "DT") and (moved := dates.shift(element.VR, text.encode(), days)):
                yield moved.decode(), text


def _texts(element: DataElement) -> list[str]:
    value: Any = element.value
    several = list(value) if isinstance(value, MultiValue) else [value]
    return [str(one) for one in several if one is not None]


def _set_originals(dataset: FileDataset, found: Found, own: set[str]) -> None:
    """Put the originals in place of what stands for them. Raises Held for a reference that nobody knows."""
    for element in list(dataset.iterall()):
        if element.VR not in ("UI", "DA", "DT") or not element.value:
            continue
        texts = _texts(element)
        for text in texts:
            if element.VR == "UI" and text not in found.values and text not in own and _is_ours(text):
                raise Held("it refers to something that is not known here")
        if any(text in found.values for text in texts):
            originals = [found.values.get(text, text) for text in texts]
            element.value = originals if len(originals) > 1 else originals[0]
    _check_texts(dataset, found.head)
    for keyword in _OF_STUDY:
        if keyword in dataset and keyword in found.head:
            dataset[keyword].value = found.head[keyword].value
    for tag in MARKS:
        if tag in dataset:
            del dataset[tag]
    dataset.PatientIdentityRemoved = "NO"


def _check_texts(dataset: Dataset, head: Dataset) -> None:
    """See that the original's texts can be written: in the object's own character set, or in one that it can have."""
    texts = [str(head[keyword].value) for keyword in _OF_STUDY if keyword in dataset and keyword in head]
    if all(text.isascii() for text in texts):
        return
    own, original = dataset.get("SpecificCharacterSet"), head.get("SpecificCharacterSet")
    if own in (original, "ISO_IR 192"):
        return
    values = (element.value for element in dataset.iterall() if element.VR in _TEXTS)
    if any(not value.isascii() for value in map(str, values)):
        raise Held("the patient's name cannot be written in its character set")
    dataset.SpecificCharacterSet = original


def _is_ours(uid: str) -> bool:
    """Return whether a UID is of the form that keys derive: 2.25 and a UUID of version 8."""
    number = uid.removeprefix(_OURS)
    if number == uid or not number.isdecimal() or int(number) >> 128:
        return False
    return UUID(int=int(number)).version == 8


def _write(dataset: FileDataset, path: str) -> str:
    """Write an object beside, sync it, and give it its name. Raises Held and OSError."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            try:
                dataset.save_as(file, enforce_file_format=True)
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - pydicom raises whatever a value leads to
                raise Held(f"it cannot be written: {type(error).__name__}") from None
            file.flush()
            sync.descriptors([file.fileno()])
        os.rename(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    sync.directories([os.path.dirname(path)])
    return path

"""PURE. What names an instance: a text, a reference of ours, or any object with a `complete_url`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, Protocol

_UID = "([0-9.]{1,64})"
_path_in = re.compile(f"(?:^|/)studies/{_UID}/series/{_UID}/instances/{_UID}(?:[/?#]|$)").search


class HasURL(Protocol):
    """An object that names an instance, such as EZ-WSI's dicom_path.Path."""

    @property
    def complete_url(self) -> str:
        """The instance's address in a DICOMweb service."""


class InstanceReference(NamedTuple):
    """An instance by its three UIDs."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str

    @property
    def complete_url(self) -> str:
        """The resource of DICOMweb (PS3.18 section 10.4.1), below whatever service."""
        return f"studies/{self.StudyInstanceUID}/series/{self.SeriesInstanceUID}/instances/{self.SOPInstanceUID}"


#: What names an instance.
Instance = str | InstanceReference | HasURL


@lru_cache(maxsize=4096)
def reference_of(text: str) -> InstanceReference:
    """Return the instance in a DICOMweb address: the part from `studies/` on counts, and a frame in it is passed over.

    Raises ValueError where it names none.
    """
    found = _path_in(text)
    if not found:
        raise ValueError("this names no instance; wanted is .../studies/UID/series/UID/instances/UID")
    return InstanceReference(*found.groups())


def reference(instance: Instance) -> InstanceReference:
    """Return the reference of what names an instance. Raises ValueError for a text that names none, TypeError for what
    cannot.
    """
    if isinstance(instance, InstanceReference):
        return instance
    text = instance if isinstance(instance, str) else getattr(instance, "complete_url", None)
    if not isinstance(text, str):
        raise TypeError(f"{type(instance).__name__} names no instance")
    return reference_of(text)

"""PURE. What is known of one instance's header: the input of every decision about where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Under this keyword `values` holds the SOP Instance UID of the file meta information.
META_UID = "MediaStorageSOPInstanceUID"

#: The keyword of the calling AE title, as storescp writes it (0002,0016).
SENDER = "SourceApplicationEntityTitle"

_NONE: frozenset[str] = frozenset()


class Header(NamedTuple):
    """The attributes of one instance that a layout or a document asked for.

    `values` maps a DICOM keyword to its text (what `str()` of pydicom's value prints) for each wanted element that is
    present and not empty; `empty` names the wanted ones that are present without a value. `size` is the file's length
    in bytes, `dataset_offset` that of the first byte behind the file meta information (PS3.10 section 7.1),
    `warning` a text free of patient data ("" when all is well), `fast` whether our own reader sufficed.
    """

    values: Mapping[str, str]
    size: int
    dataset_offset: int
    TransferSyntaxUID: str = ""
    SourceApplicationEntityTitle: str = ""
    empty: frozenset[str] = _NONE
    warning: str = ""
    fast: bool = True

    def get(self, keyword: str) -> str:
        """The text of an attribute, "" when it is absent or empty."""
        return self.values.get(keyword, "")


class Limits(NamedTuple):
    """How much of one file's header is accepted: `max_header` bytes (inflated; pixels and other values that are stepped
    over, because they are longer than 1 MiB, not counted) and `max_depth` nested sequences.
    """

    max_header: int = 64 * 1024 * 1024
    max_depth: int = 64

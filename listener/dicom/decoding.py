"""Decode raw elements to text with pydicom. Imported only for values that are not plain: importing pydicom costs 90 ms
and 30 MB.

The walk has already proved sizes and depth, so pydicom sees single values, never the file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from threading import Lock
from typing import NamedTuple

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.tag import BaseTag

from listener.dicom.encoding import UNDEFINED
from listener.dicom.texts import bytes_text, clean, is_known_charset, plain_text
from listener.dicom.walk import Element
from listener.reasons import TooLarge

_CHARSET = 0x00080005


class Raw(NamedTuple):
    """An element and the bytes of its value."""

    element: Element
    value: bytes


class Syntax(NamedTuple):
    """How a data set is encoded."""

    implicit: bool
    little: bool


class _Silence:
    """Warnings and pydicom's log records are off while at least one thread is within it: both are global."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._logger = logging.getLogger("pydicom")
        self._within = 0
        self._was_disabled = False
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._was_disabled, self._logger.disabled = self._logger.disabled, True
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._warnings.__exit__(None, None, None)
                self._logger.disabled = self._was_disabled


_silence = _Silence()


def quiet() -> _Silence:
    """Silence pydicom's warnings and log records, which quote values, within a `with`; also in several threads."""
    return _silence


def dataset(raws: Mapping[int, Raw], syntax: Syntax) -> Dataset:
    """Return a pydicom data set of these elements alone, decoded on access. Call and use it within quiet().

    An invalid Specific Character Set is taken as the default one.
    """
    encoding = _encoding(raws.get(_CHARSET), syntax)
    made = Dataset({BaseTag(tag): _convert(raw, syntax, encoding) for tag, raw in raws.items()})
    made.set_original_encoding(syntax.implicit, syntax.little, encoding)
    return made


def _encoding(raw: Raw | None, syntax: Syntax) -> str | list[str]:
    if raw is None:
        return default_encoding
    try:
        return convert_encodings(convert_raw_data_element(_raw_element(raw, syntax)).value)
    except Exception:  # noqa: BLE001 - the other values are still readable
        return default_encoding


def _raw_element(raw: Raw, syntax: Syntax) -> RawDataElement:
    element = raw.element
    vr = element.vr.decode("latin-1") or None
    value = raw.value or empty_value_for_VR(vr, raw=True)
    length = UNDEFINED if element.undefined else len(raw.value)
    return RawDataElement(BaseTag(element.tag), vr, length, value, element.start, syntax.implicit, syntax.little)  # type: ignore[arg-type]


def _convert(raw: Raw, syntax: Syntax, encoding: str | list[str]) -> RawDataElement | DataElement:
    element = raw.element
    if not (element.is_sequence):
        return _raw_element(raw, syntax)
    length = len(raw.value)
    try:
        items = read_sequence(BytesIO(raw.value), syntax.implicit, syntax.little, length, encoding, element.start)
    except Exception:  # noqa: BLE001 - what cannot be read prints as bytes
        return DataElement(BaseTag(element.tag), "UN", raw.value, already_converted=True)
    return DataElement(BaseTag(element.tag), "SQ", items, element.start, is_undefined_length=True)


def text_of(made: Dataset, raw: Raw) -> tuple[str, bool]:
    """Return what `str()` prints of an element's value, and whether it is empty (or only padding).

    What pydicom cannot convert becomes text by texts.bytes_text. Raises TooLarge when memory does not suffice, nothing
    for a bad value.
    """
    tag = raw.element.tag
    try:
        element = made[BaseTag(tag)]
        text = clean(str(element.value))
        return text, element.is_empty or not text.strip()
    except MemoryError:
        raise TooLarge("a value") from None
    except Exception:  # noqa: BLE001 - pydicom raises anything for a bad value
        text = bytes_text(raw.element.vr, raw.value)
        return text, not text.strip()


@lru_cache(maxsize=4096)
def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, "" when it has none (private and unknown elements, group lengths)."""
    return keyword_for_tag(tag)


def texts(raws: Mapping[int, Raw], syntax: Syntax, given: Mapping[int, str]) -> dict[str, dict[str, str]]:
    """Return {keyword: {"value", "label"}} for each of `raws`, in order of keywords; `given` has texts
    already decided.
    """
    printed: dict[str, str] = {}
    with quiet():
        made = dataset({tag: raw for tag, raw in raws.items() if tag not in given}, syntax)
        is_plain = _CHARSET not in raws or is_known_charset(raws[_CHARSET].value)
        for tag, raw in raws.items():
            keyword = keyword_of(tag)
            if not _is_attribute(keyword):
                printed[keyword] = "no attribute"
            elif tag in given:
                printed[keyword] = given[tag]
            else:
                text = plain_text(raw.element.vr, raw.value, little=syntax.little) if is_plain else None
                # What is empty prints by its VR: "" or "None".
                printed[keyword] = text or text_of(made, raw)[0]
    return {keyword: {"value": printed[keyword], "label": keyword} for keyword in sorted(printed)}


@lru_cache(maxsize=4096)
def _is_attribute(keyword: str) -> bool:
    return tag_for_keyword(keyword) is not None

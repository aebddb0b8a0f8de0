"""Filters of `deid` recipes: whether an instance is what a label describes, and what that means for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from listener.deidentify.faults import NotUnderstood
from listener.deidentify.recipe import tag_of
from listener.dicom.attributes import Header
from listener.dicom.encoding import PIXEL_TAGS
from listener.dicom.fast_walk import Elements
from listener.dicom.loading import load_pydicom
from listener.dicom.reader import CONTROL

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Sections with a meaning of their own; all others hold, as `graylist` does.
WHITELIST, BLACKLIST = "whitelist", "blacklist"

#: Predicates that take a value, and those that do not.
WITH_VALUE = ("contains", "notcontains", "equals", "notequals")
WITHOUT_VALUE = ("missing", "present", "empty")
PREDICATES = WITH_VALUE + WITHOUT_VALUE

#: Verdicts that are remembered.
_VERDICTS = 1000


class Predicate(NamedTuple):
    """One predicate: its name, its field (a keyword, or 0xGGGGEEEE), its value, and how it is joined to those before it
    in its line ("and", "or"; "" of the first).
    """

    name: str
    field: str
    value: str
    joined: str = ""

    @property
    def key(self) -> str | int:
        """Return what the field is found by in a data set."""
        return int(self.field, 16) if self.field.startswith("0x") else self.field

    def holds(self, dataset: Dataset) -> bool:
        """Return whether it is true of an instance, by the values as they are printed."""
        if self.name in WITHOUT_VALUE:
            return _PRESENCE[self.name](dataset, self.key)
        content = dataset.get(self.key)
        told = content if isinstance(content, list) else [content]
        texts = [str(one).lower().strip() for one in told if one is not None]
        value = self.value.lower().strip()
        found = value in texts if "equals" in self.name else any(re.search(value, text) for text in texts)
        return found != self.name.startswith("not")


def _is_empty(dataset: Dataset, key: str | int) -> bool:
    if key not in dataset:
        return False
    content: Any = dataset.get(key)
    value = content.value if hasattr(content, "VR") else content
    return value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0) or value == 0


_PRESENCE: Mapping[str, Callable[[Dataset, str | int], bool]] = {
    "missing": lambda dataset, key: dataset.get(key) is None,
    "present": lambda dataset, key: dataset.get(key) is not None,
    "empty": _is_empty,
}


class Label(NamedTuple):
    """A label of a section: its name, its lines (all must hold, as deid has it), and whether it has coordinates."""

    section: str
    name: str
    lines: Sequence[Sequence[Predicate]]
    has_coordinates: bool = False

    def describes(self, dataset: Dataset) -> bool:
        """Return whether an instance is what it describes."""
        if not self.lines:
            return self.has_coordinates
        return all(_line_holds(line, dataset) for line in self.lines)


def _line_holds(line: Sequence[Predicate], dataset: Dataset) -> bool:
    found = line[0].holds(dataset)
    for predicate in line[1:]:
        holds = predicate.holds(dataset)
        found = (found or holds) if predicate.joined == "or" else (found and holds)
    return found


class Verdict(NamedTuple):
    """What labels say of an instance: `kind` is "pass" (also where text in the pixels is suspected), "filtered", "held"
    or "" (nothing); and the label that decided.
    """

    kind: str = ""
    label: str = ""


def read(path: str, tags: Sequence[int]) -> Dataset:
    """Return what filters look at in a file. Raises whatever pydicom raises."""
    load_pydicom()
    from pydicom import dcmread

    return dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)


def matching(labels: Sequence[Label], dataset: Dataset) -> list[Label]:
    """Return the labels that describe an instance."""
    return [label for label in labels if label.describes(dataset)]


def verdict(labels: Sequence[Label], dataset: Dataset) -> Verdict:
    """Return what labels say of an instance: the whitelist first, then the blacklist, then all others."""
    found = matching(labels, dataset)
    for section, kind in ((WHITELIST, "pass"), (BLACKLIST, "filtered")):
        label = next((one for one in found if one.section == section and not one.has_coordinates), None)
        if label:
            return Verdict(kind, label.name)
    return Verdict("held", found[0].name) if found else Verdict()


def tags_of(labels: Sequence[Label]) -> list[int]:
    """Return the tags that must be read of an instance."""
    keys = {one.key for label in labels for line in label.lines for one in line}
    return sorted({key if isinstance(key, int) else tag_of(key) for key in keys} - {0})


class Filters:
    """The labels of a run. What decides is mostly the same throughout a series: a verdict is remembered by the bytes of
    the elements that are looked at, and pydicom reads only what has others.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = labels
        self._verdicts: dict[Hashable, Verdict] = {}
        self.tags = [tag for tag in tags_of(labels) if tag not in PIXEL_TAGS]

    def verdict(self, path: str, header: Header, found: Elements) -> Verdict:
        """Return what labels say of the instance in a file; `found` has the elements that were read with `tags`.
        Raises NotUnderstood.
        """
        if not self._labels:
            return Verdict()
        looked_at = [(tag, slot.element, raw) for tag, (slot, raw) in sorted(found.items()) if self._decides(tag)]
        if any(element.undefined for _, element, _ in looked_at):
            return self._read(path)
        key = (header.TransferSyntaxUID, *((tag, element.vr, raw) for tag, element, raw in looked_at))
        if key not in self._verdicts:
            if len(self._verdicts) >= _VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = self._read(path)
        return self._verdicts[key]

    def _decides(self, tag: int) -> bool:
        return tag in CONTROL or tag in self.tags

    def _read(self, path: str) -> Verdict:
        try:
            return verdict(self._labels, read(path, self.tags))
        except Exception as error:  # noqa: BLE001 - pydicom raises whatever a value leads to
            raise NotUnderstood(f"filters cannot be applied: {type(error).__name__}") from None

"""PURE. What differs between tree, documents and ledger, and what a document proves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from listener.planning.names import short_hash


class Reading(NamedTuple):
    """What an instance's header says: who it is and the path that the layout gives it; or the `fault` that it has."""

    SOPInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    StudyInstanceUID: str = ""
    target: str = ""
    fault: str = ""
    text: str = ""


class Described(NamedTuple):
    """One instance's document at `document`: the instance is `name`, and lies at `path` with `size` bytes (-1: nothing
    is there); `told_size` is what the document says (-1: nothing). `reading` is there when the header was read.
    """

    name: str
    document: str
    readable: bool
    path: str = ""
    size: int = -1
    told_size: int = -1
    study: str = ""
    patient: str = ""
    moved: bool = False
    reading: Reading | None = None


class SharedState(NamedTuple):
    """A document that instances share: its kind, where it is, and the word for what is wrong with it ("" nothing)."""

    kind: str
    path: str
    word: str
    study: str = ""


class Series(NamedTuple):
    """What was read of one series. `base` is its SeriesBaseDir as it would be below --data ("" where none is told);
    `keeps_both`: by --on-conflict one instance may have more than one file.
    """

    series: str
    images: str
    documents: list[Described]
    foreign: list[str]
    shared: list[SharedState]
    base: str = ""
    base_moved: bool = False
    occupied: bool = False
    keeps_both: bool = False


class Stray(NamedTuple):
    """A file of a folder that no document is named after: its path, what it says, and whether it is somewhere else
    too.
    """

    path: str
    reading: Reading
    twin: bool = False


#: The words, and what each says. Beside these the reasons of set-aside, for instances that are no good (not-dicom ...).
WORDS = {
    "moved": "the documents point below another directory than --data",
    "no-document": "the instance has no document",
    "no-instance": "the document tells of an instance that is not there",
    "bad-document": "the instance's document cannot be read",
    "wrong-document": "the document is not the one of this instance",
    "size": "the document tells another size than the instance has",
    "no-shared-document": "the document is missing",
    "bad-shared-document": "the document cannot be read",
    "study-list": "the patient's StudyList lacks the study",
    "base-dir": "SeriesBaseDir is not where the instances are",
    "outdated": "the document tells of another patient or study than the instances; --repair lets it tell the newest",
    "left-over": "the document tells of a study or series that has no such instance any more",
    "no-instances": "the series is described and has no instance",
    "not-in-ledger": "the ledger lacks instances of the series",
    "only-in-ledger": "the ledger tells of instances that no document describes",
    "wrong-in-ledger": "the ledger tells of another patient, accession number or study than the instances",
    "bad-ledger": "the ledger cannot be read",
    "foreign-in-log": "this is no document, and readers count it as one",
    "foreign-in-tree": "this is no instance: hidden, temporary, or not a regular file",
    "duplicate": "the instance is in the tree twice",
    "misplaced": "instances are not where the layout puts them",
}

#: What to do, where it is not done already.
REMEDIES = {
    "moved": "--repair lets them point here",
    "duplicate": "remove the one that is not wanted",
    "misplaced": "give the --layout of this tree, or repack them",
}

_UID = re.compile(r"[0-9.]{1,64}")
_UID_IN_NAME = re.compile(r"[0-9]+(?:\.[0-9]+){3,}")


class Difference(NamedTuple):
    """One difference. `path` is what it is about and `other` the instance or directory that could mend it: absolute
    paths, shown only with --phi. `document` names the kind of a shared one; so many `instances` are meant.
    """

    word: str
    path: str
    series: str = ""
    study: str = ""
    instance: str = ""
    document: str = ""
    other: str = ""
    instances: int = 1
    detail: str = ""

    @property
    def text(self) -> str:
        """What a person reads: what is wrong."""
        return self.detail.partition("; ")[0] or WORDS[self.word]

    @property
    def remedy(self) -> str:
        """What to do about it; "" for what --repair mends, which the summary tells."""
        return self.detail.partition("; ")[2] or REMEDIES.get(self.word, "")


def public(uid: str) -> str:
    """A UID as it may be shown; what is none (somebody's own file) by a hash."""
    return uid if not uid or _UID.fullmatch(uid) else f"#{short_hash(uid)}"


def instance_in(name: str) -> str:
    """The SOP Instance UID in an instance's file name, or a hash of a name without one: names may tell of patients."""
    found = _UID_IN_NAME.findall(name)
    return max(found, key=len)[:64] if found else f"#{short_hash(name)}"


def of_series(record: Series) -> Iterator[Difference]:
    """What is wrong with a series and its documents. What must be mended first comes first."""
    moved = sum(one.moved for one in record.documents) or record.base_moved
    if moved:
        yield Difference("moved", record.images, record.series, instances=int(moved))
    for path in record.foreign:
        yield Difference("foreign-in-log", path, record.series)
    for one in record.documents:
        yield from _of_document(one, record.series)
    yield from _of_readings(record)
    yield from _of_shared(record)


def _of_document(one: Described, series: str) -> Iterator[Difference]:
    about = (one.document, series, one.study, instance_in(one.name))
    if not one.readable:
        yield Difference("bad-document", *about, other=one.path if one.size >= 0 else "")
    elif one.size < 0:
        yield Difference("no-instance", *about)
    elif one.told_size not in (-1, one.size):
        yield Difference("size", *about, other=one.path)


def _of_readings(record: Series) -> Iterator[Difference]:
    """What headers told (--deep): faults, documents of other series, the same instance twice, places."""
    misplaced = []
    places: dict[str, str] = {}
    for one in record.documents:
        read = one.reading
        if read is None:
            continue
        if read.fault:
            yield Difference(read.fault, one.path, record.series, one.study, instance_in(one.name), detail=read.text)
            continue
        about = (record.series, one.study, read.SOPInstanceUID)
        if read.SeriesInstanceUID != record.series:
            yield Difference("wrong-document", one.document, *about, other=one.path)
            continue
        if not record.keeps_both and places.setdefault(read.SOPInstanceUID, _stem(one.name)) != _stem(one.name):
            yield Difference("duplicate", one.path, *about)
        elif expected(one.path, read) != one.path:
            misplaced.append(one)
    if misplaced:
        yield Difference("misplaced", misplaced[0].path, record.series, misplaced[0].study, instances=len(misplaced))


_VERSION = re.compile(r"-[0-9a-f]{8}(?=\.dcm$)")


def _stem(path: str) -> str:
    """A path or name without what keep-both puts behind it: two versions of one instance are no duplicates."""
    return _VERSION.sub("", path)


def expected(path: str, read: Reading) -> str:
    """Where the instance at `path` should be: where the layout puts it, or there with keep-both's suffix."""
    return path if _stem(path) == read.target else read.target


def _of_shared(record: Series) -> Iterator[Difference]:
    present = [one for one in record.documents if one.size >= 0 and not (one.reading and one.reading.fault)]
    if not present:
        if not record.documents and not record.occupied:
            yield Difference("no-instances", record.images, record.series)
        return
    other = present[0].path
    for state in record.shared:
        if state.word:
            yield Difference(state.word, state.path, record.series, state.study, document=state.kind, other=other)
    homes = {one.path.rpartition("/")[0] for one in present}
    if record.base and record.base not in homes:
        path = next((state.path for state in record.shared if state.kind == "study-series"), "")
        yield Difference("base-dir", path, record.series, present[0].study, document="study-series", other=other)


def of_strays(strays: list[Stray]) -> Iterator[Difference]:
    """What is wrong with files of the tree that no document is named after."""
    for one in strays:
        read = one.reading
        if read.fault:
            name = one.path.rpartition("/")[2]
            yield Difference(read.fault, one.path, instance=instance_in(name), detail=read.text)
        else:
            word = "duplicate" if one.twin else "no-document"
            about = (read.SeriesInstanceUID, read.StudyInstanceUID, read.SOPInstanceUID)
            yield Difference(word, one.path, *about, other=one.path)


def as_line(difference: Difference, repaired: bool | None, shown_path: str) -> dict[str, Any]:
    """A difference for programs; without `shown_path` free of patient data. `repaired`: None when it was not tried."""
    one = difference
    line: dict[str, Any] = {
        "difference": one.word,
        "SeriesInstanceUID": public(one.series),
        "StudyInstanceUID": public(one.study),
        "SOPInstanceUID": one.instance,
        "document": one.document,
        "path": shown_path,
        "text": one.text if repaired or not one.remedy else f"{one.text}; {one.remedy}",
    }
    line = {key: value for key, value in line.items() if value}
    line["count"] = one.instances
    return line if repaired is None else line | {"repaired": repaired}

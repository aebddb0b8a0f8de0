"""PURE. Differences between tree, documents and ledger, derived from what was read of a series."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from listener.planning.names import short_hash
from listener.uids import is_uid


class Reading(NamedTuple):
    """An instance's header: its UIDs and the path that the layout gives it; or its `fault` (a reason), with `text`."""

    SOPInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    StudyInstanceUID: str = ""
    target: str = ""
    fault: str = ""
    text: str = ""


class Described(NamedTuple):
    """The document of one instance: `document` is its path, `path` and `size` the instance's (bytes; -1: missing).
    `recorded_size` is the document's (-1: none); `reading` is set when the header was read.
    """

    name: str
    document: str
    readable: bool
    path: str = ""
    size: int = -1
    recorded_size: int = -1
    study: str = ""
    patient: str = ""
    moved: bool = False
    reading: Reading | None = None


class SharedState(NamedTuple):
    """A document that instances share: its kind and path, and the word of its difference ("": none)."""

    kind: str
    path: str
    word: str
    study: str = ""


class Series(NamedTuple):
    """What was read of one series. `base` is its SeriesBaseDir, mapped below --data ("": none recorded);
    `keep_both`: --on-conflict allows several files an instance.
    """

    series: str
    images: str
    documents: list[Described]
    foreign: list[str]
    shared: list[SharedState]
    base: str = ""
    base_moved: bool = False
    occupied: bool = False
    keep_both: bool = False


class Stray(NamedTuple):
    """A file of the tree without a document: its path and header; `twin`: the instance is in another place too."""

    path: str
    reading: Reading
    twin: bool = False


#: The words of differences and their texts. Faults of instances have the reasons of set-aside files (not-dicom ...).
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

#: Remedies of differences that --repair does not mend, or that need a decision.
REMEDIES = {
    "moved": "--repair lets them point here",
    "duplicate": "remove the one that is not wanted",
    "misplaced": "give the --layout of this tree, or repack them",
}

_UID_IN_NAME = re.compile(r"[0-9]+(?:\.[0-9]+){3,}")


class Difference(NamedTuple):
    """One difference. `path` is its subject, `other` the instance or directory to repair it from: absolute paths,
    shown only with --phi. `document` is the kind of a shared document; `instances` the number concerned.
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
        """The fault, in words."""
        return self.detail.partition("; ")[0] or WORDS[self.word]

    @property
    def remedy(self) -> str:
        """What to do about it; "" for what --repair mends (the summary says so)."""
        return self.detail.partition("; ")[2] or REMEDIES.get(self.word, "")


def public(uid: str) -> str:
    """Return a UID as it is; a hash of any other text (a foreign file's name)."""
    return uid if not uid or is_uid(uid) else f"#{short_hash(uid)}"


def instance_in(name: str) -> str:
    """Return the SOP Instance UID in a file name; a hash of a name without one, which may be a patient's."""
    matches = _UID_IN_NAME.findall(name)
    return max(matches, key=len)[:64] if matches else f"#{short_hash(name)}"


def of_series(record: Series) -> Iterator[Difference]:
    """Yield the differences of a series and its documents, in the order in which they must be repaired."""
    moved = sum(described.moved for described in record.documents) or record.base_moved
    if moved:
        yield Difference("moved", record.images, record.series, instances=int(moved))
    for path in record.foreign:
        yield Difference("foreign-in-log", path, record.series)
    for described in record.documents:
        yield from _of_document(described, record.series)
    yield from _of_readings(record)
    yield from _of_shared(record)


def _of_document(described: Described, series: str) -> Iterator[Difference]:
    about = (described.document, series, described.study, instance_in(described.name))
    if not described.readable:
        yield Difference("bad-document", *about, other=described.path if described.size >= 0 else "")
    elif described.size < 0:
        yield Difference("no-instance", *about)
    elif described.recorded_size not in (-1, described.size):
        yield Difference("size", *about, other=described.path)


def _of_readings(record: Series) -> Iterator[Difference]:
    """Yield differences found in headers (--deep): faults, documents of other series, duplicates, wrong places."""
    misplaced = []
    stems: dict[str, str] = {}
    for described in record.documents:
        reading = described.reading
        if reading is None:
            continue
        if reading.fault:
            fault = Difference(
                reading.fault, described.path, record.series, described.study, instance_in(described.name)
            )
            yield fault._replace(detail=reading.text)
            continue
        about = (record.series, described.study, reading.SOPInstanceUID)
        if reading.SeriesInstanceUID != record.series:
            yield Difference("wrong-document", described.document, *about, other=described.path)
            continue
        stem = _stem(described.name)
        if not record.keep_both and stems.setdefault(reading.SOPInstanceUID, stem) != stem:
            yield Difference("duplicate", described.path, *about)
        elif expected(described.path, reading) != described.path:
            misplaced.append(described)
    if misplaced:
        yield Difference("misplaced", misplaced[0].path, record.series, misplaced[0].study, instances=len(misplaced))


_VERSION = re.compile(r"-[0-9a-f]{8}(?=\.dcm$)")


def _stem(path: str) -> str:
    """Return a path or name without the suffix of keep-both: two versions of one instance are no duplicates."""
    return _VERSION.sub("", path)


def expected(path: str, reading: Reading) -> str:
    """Return where the instance at `path` should be: the layout's path, or that with the suffix of keep-both."""
    return path if _stem(path) == reading.target else reading.target


def _of_shared(record: Series) -> Iterator[Difference]:
    present = [each for each in record.documents if each.size >= 0 and not (each.reading and each.reading.fault)]
    if not present:
        if not record.documents and not record.occupied:
            yield Difference("no-instances", record.images, record.series)
        return
    other = present[0].path
    for state in record.shared:
        if state.word:
            yield Difference(state.word, state.path, record.series, state.study, document=state.kind, other=other)
    folders = {described.path.rpartition("/")[0] for described in present}
    if record.base and record.base not in folders:
        path = next((state.path for state in record.shared if state.kind == "study-series"), "")
        yield Difference("base-dir", path, record.series, present[0].study, document="study-series", other=other)


def of_strays(strays: list[Stray]) -> Iterator[Difference]:
    """Yield the differences of files of the tree that have no document."""
    for stray in strays:
        reading = stray.reading
        if reading.fault:
            name = stray.path.rpartition("/")[2]
            yield Difference(reading.fault, stray.path, instance=instance_in(name), detail=reading.text)
        else:
            word = "duplicate" if stray.twin else "no-document"
            uids = (reading.SeriesInstanceUID, reading.StudyInstanceUID, reading.SOPInstanceUID)
            yield Difference(word, stray.path, *uids, other=stray.path)


def as_line(difference: Difference, repaired: bool | None, shown_path: str) -> dict[str, Any]:
    """Return a difference as a JSON line; free of patient data if `shown_path` is "". `repaired` None: not tried."""
    text = difference.text
    if difference.remedy and not repaired:
        text = f"{text}; {difference.remedy}"
    line: dict[str, Any] = {
        "difference": difference.word,
        "SeriesInstanceUID": public(difference.series),
        "StudyInstanceUID": public(difference.study),
        "SOPInstanceUID": difference.instance,
        "document": difference.document,
        "path": shown_path,
        "text": text,
    }
    line = {key: value for key, value in line.items() if value}
    line["count"] = difference.instances
    return line if repaired is None else line | {"repaired": repaired}

"""The oracle: whatever was done to the service, are all instances accounted for? (L1 to L5 of docs/reliability.md).

Each law is a function that returns what contradicts it, as texts; account() asserts that there is nothing. Nothing here
uses the listener's own code: DICOM is read by pydicom.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydicom import dcmread

from tests.service_process import Event, Places, Scrape, value

OWN = ".listener"

#: SOP Instance UID -> digest of the data set (behind the file meta information, which storescp writes anew).
Sent = dict[str, str]

REASON_FIELDS = {"reason", "error", "name", "first", "last", "attempts", "size", "digest"}


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of the tree, as pydicom reads it."""

    path: Path
    PatientID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    digest: str
    size: int


def data_set_digest(data: bytes) -> str:
    """Digest of the data set of a DICOM file: of all behind the file meta information."""
    assert data[128:132] == b"DICM", "not a DICOM file"
    assert data[132:138] == b"\x02\x00\x00\x00UL", "no group length"
    begin = 144 + int.from_bytes(data[140:144], "little")
    return hashlib.sha256(data[begin:]).hexdigest()


def read(path: Path) -> Instance:
    """Read an instance; what is absent is ""."""
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(path, stop_before_pixels=True)
        texts = [
            str(ds.get(name, "")).replace("\0", "") for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        ]
        SOPInstanceUID = str(ds.get("SOPInstanceUID", ""))
    return Instance(path, texts[0], texts[1], texts[2], SOPInstanceUID, data_set_digest(data), len(data))


def sent(paths: Iterable[Path]) -> Sent:
    """What is about to be sent, by SOP Instance UID."""
    return {one.SOPInstanceUID: one.digest for one in map(read, paths)}


def as_stored(tree: Tree, wanted: Iterable[Path]) -> Sent:
    """The digests that the tree should have of these files: DCMTK writes values anew without needless padding, so an
    instance whose every element is equal counts as the one that was sent.
    """
    there = {one.SOPInstanceUID: one for one in tree.instances}
    found = {}
    for one in map(read, wanted):
        stored = there.get(one.SOPInstanceUID)
        same = stored is not None and dcmread(stored.path) == dcmread(one.path)
        found[one.SOPInstanceUID] = stored.digest if stored and same else one.digest
    return found


def files_below(directory: Path, *, own: bool = False) -> Iterator[Path]:
    """Everything but directories, our own directory left out unless `own`. Links are not followed."""
    for folder, folders, names in os.walk(directory):
        if not own:
            folders[:] = [name for name in folders if name != OWN]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in [*names, *links])


# -- L1: every instance once and whole, or set aside for a reason ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies in the data directory."""

    instances: list[Instance]
    strange: list[str]


def read_tree(places: Places) -> Tree:
    instances, strange = [], []
    for path in files_below(places.data):
        if path.suffix != ".dcm" or not stat.S_ISREG(path.lstat().st_mode):
            strange.append(f"data holds {path.relative_to(places.data)}")
            continue
        try:
            instances.append(read(path))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be in the tree
            strange.append(f"data holds {path.relative_to(places.data)}, which pydicom cannot read: {error}")
    return Tree(instances, strange)


@dataclass(frozen=True, slots=True)
class Aside:
    """One set-aside file; `digest` is of all bytes ("" when it is not a regular file)."""

    reason: str
    path: Path
    digest: str

    @property
    def record(self) -> dict[str, Any]:
        """Its reason file."""
        found: dict[str, Any] = orjson.loads(Path(f"{self.path}.json").read_bytes())
        return found


def read_set_aside(places: Places) -> list[Aside]:
    found = []
    for folder in sorted((places.state / "set-aside").glob("*")):
        names = {path.name: path for path in folder.iterdir() if path.name != ".lock"}
        for name, path in names.items():
            if name.endswith(".json") and name.removesuffix(".json") in names:
                continue
            regular = stat.S_ISREG(path.lstat().st_mode)
            found.append(Aside(folder.name, path, hashlib.sha256(path.read_bytes()).hexdigest() if regular else ""))
    return found


def unpublished(tree: Tree, expected: Sent, aside: Collection[Aside], allowed: Collection[str]) -> Iterator[str]:
    """L1: each instance is in the tree exactly once and equal, or set aside under a reason that is allowed."""
    by_uid = defaultdict(list)
    for one in tree.instances:
        by_uid[one.SOPInstanceUID].append(one)
    kept = {data_set_digest(one.path.read_bytes()) for one in aside if one.reason in allowed and one.digest}
    for uid, digest in expected.items():
        there = by_uid.pop(uid, [])
        if len(there) > 1:
            yield f"{uid} is in the tree {len(there)} times: {[str(one.path) for one in there]}"
        elif not there and digest not in kept:
            yield f"{uid} is lost: neither in the tree nor set aside as {sorted(allowed)}"
        elif there and there[0].digest != digest:
            yield f"{uid} is in the tree, but not as it was sent: {there[0].path}"
        elif there and digest in kept:
            yield f"{uid} is in the tree and set aside"
    yield from (f"{uid} is in the tree and was never sent" for uid in by_uid)


# -- L2: tree and logs agree, and nothing else is there ----------------------------------------------------------------


def misdescribed(places: Places, tree: Tree) -> Iterator[str]:
    """L2: all six families of documents, one to one with the instances; StudyList complete; nothing else in the log."""
    documents: dict[str, Any] = {}
    for path in files_below(places.log):
        name = str(path.relative_to(places.log))
        try:
            assert not path.is_symlink()
            documents[name] = orjson.loads(path.read_bytes())
        except (AssertionError, orjson.JSONDecodeError) as error:
            yield f"log holds {name}, which is not JSON: {error}"
    studies: dict[str, set[str]] = defaultdict(set)
    for one in tree.instances:
        studies[one.PatientID or "PatientID"].add(one.StudyInstanceUID)
        yield from _check_instance(documents, one)
        yield from _check_shared(documents, one)
    yield from _check_patients(documents, studies)
    wanted = {name for one in tree.instances for name in _names(one)}
    for name in documents.keys() - wanted:
        if not name.startswith("patientData/"):
            yield f"log holds {name}, which describes nothing"


def _names(one: Instance) -> tuple[str, ...]:
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID
    return (
        f"studyData/{study}-meta.json",
        f"studyData/{study}-series/{series}-meta.json",
        f"seriesData/{series}-meta.json",
        f"seriesData/{series}-pack.json",
        f"seriesData/{series}-img/{one.path.name}.json",
    )


def _check_instance(documents: Mapping[str, Any], one: Instance) -> Iterator[str]:
    name = f"seriesData/{one.SeriesInstanceUID}-img/{one.path.name}.json"
    try:
        entry = documents[name][one.SeriesInstanceUID]
        image = entry["imageObj"][one.path.name]
        told = entry["outputFile"], image["FSlocation"], image["size"]
    except (KeyError, TypeError) as error:
        yield f"{one.path.name} has no good document {name}: {error!r}"
        return
    if told != (one.path.name, str(one.path), one.size):
        yield f"{name} tells {told}, but it is {one.path} with {one.size} bytes"


def _check_shared(documents: Mapping[str, Any], one: Instance) -> Iterator[str]:
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID
    in_study, of_study, of_series, pack, _ = _names(one)[1], *(_names(one)[index] for index in (0, 2, 3, 4))
    told = documents.get(in_study, {}).get(study, {})
    if (told.get("SeriesInstanceUID"), told.get("SeriesBaseDir")) != (series, str(one.path.parent)):
        yield f"{in_study} tells of {told.get('SeriesBaseDir')}, but the series lies in {one.path.parent}"
    if not told.get("DICOM", {}).get("SOPInstanceUID"):
        yield f"{in_study} has no header"
    if documents.get(of_study, {}).get(study, {}).get("StudyInstanceUID") != study:
        yield f"{of_study} does not tell of its study"
    if documents.get(of_series, {}).get(series, {}).get("SeriesInstanceUID") != series:
        yield f"{of_series} does not tell of its series"
    if documents.get(pack) != {"seriesPack": True}:
        yield f"{pack} does not say that the series is packed"


def _check_patients(documents: Mapping[str, Any], studies: Mapping[str, set[str]]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for name, document in documents.items():
        if name.startswith("patientData/"):
            told |= {PatientID: entry.get("StudyList", []) for PatientID, entry in document.items()}
    if sum(name.startswith("patientData/") for name in documents) != len(studies):
        yield f"patientData describes {sorted(told)}, but the tree has {sorted(studies)}"
    for PatientID, wanted in studies.items():
        found = told.get(PatientID, [])
        if sorted(found) != sorted(wanted):
            yield f"StudyList of {PatientID!r} has {len(found)} studies, not {len(wanted)}: {found}"


# -- L3: nothing is left lying about -----------------------------------------------------------------------------------


def left_over(places: Places, keeps: Collection[str] = ()) -> Iterator[str]:
    """L3: incoming (but for the names in `keeps`) and claim are empty, and no temporary is left anywhere."""
    for root in places.incomings:
        for path in files_below(root, own=True):
            if path.name not in keeps:
                yield f"incoming still holds {path.relative_to(root)}"
    for directory in (places.state / "claim", places.state / "staging", places.data / OWN, places.log / OWN):
        for path in files_below(directory, own=True):
            # Locks stay; so do documents that describe nothing any more, which are kept below `removed`.
            if directory != places.log / OWN or path.relative_to(directory).parts[0] not in ("locks", "removed"):
                yield f"{path.relative_to(places.base)} was left"
    for path in files_below(places.state / "set-aside", own=True):
        if path.name.startswith(".") and path.name not in (".lock", *keeps):
            yield f"{path.relative_to(places.base)} was left"


# -- L4: counters and events add up ------------------------------------------------------------------------------------


def miscounted(scrape: Scrape, events: Collection[Event]) -> Iterator[str]:
    """L4: what was discovered is processed or pending, and metrics and events tell the same."""
    discovered, processed = value(scrape, "files_discovered_total"), value(scrape, "files_processed_total")
    pending = value(scrape, "pending_files")
    if discovered != processed + pending:
        yield f"{discovered:g} discovered, but {processed:g} processed and {pending:g} pending"
    for kind in ("published", "duplicate", "set-aside", "vanished"):
        counted = value(scrape, "files_processed_total", outcome=kind)
        told = sum(event["event"] == kind for event in events)
        if counted != told:
            yield f"{counted:g} counted as {kind}, but {told} events"


# -- L5: the world around is as it was ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Canary:
    """Files around and between the four directories, and what everything outside of them looked like."""

    places: Places
    before: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        area = self.places.data.parent
        for folder in (self.places.base, area.parent, area):
            for name in ("canary", "canary.dcm", "passwd"):
                (folder / name).write_text(f"do not touch {folder}")
        self.before = self._look()

    def _look(self) -> dict[str, tuple[int, bytes]]:
        found = {}
        for folder, folders, names in os.walk(self.places.base):
            folders[:] = [name for name in folders if Path(folder, name) not in self.places.roots]
            for name in (*folders, *names):
                path = Path(folder, name)
                status = path.lstat()
                body = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                found[str(path.relative_to(self.places.base))] = (status.st_mode, body)
        return {name: seen for name, seen in found.items() if not _is_ours(name)}

    def changed(self) -> Iterator[str]:
        """L5: what is new, gone or different outside of the four directories."""
        after = self._look()
        for name in sorted(self.before.keys() | after.keys()):
            if self.before.get(name) != after.get(name):
                yield f"outside of the four directories {name} was made, changed or removed"


def _is_ours(name: str) -> bool:
    """What the test's own helpers write beside the directories."""
    base = os.path.basename(name)
    return base.startswith(("storescp-", "events-", "stderr-")) or name.partition("/")[0] in ("sent", "outside")


# -- all of them -------------------------------------------------------------------------------------------------------


def account(
    places: Places,
    expected: Sent,
    *,
    aside: Mapping[str, int] | None = None,
    allowed: Collection[str] = (),
    keeps: Collection[str] = (),
) -> Tree:
    """Assert L1, L2 and L3. `aside`: how many files must be set aside, by reason, beside the instances in `expected`
    that a fault may have sent there under one of `allowed`; `keeps`: names that stay in incoming. Returns the tree.
    """
    tree, lying = read_tree(places), read_set_aside(places)
    wrong = [*tree.strange, *unpublished(tree, expected, lying, allowed), *misdescribed(places, tree)]
    wrong += left_over(places, keeps)
    wrong += _misplaced(lying, aside or {}, allowed)
    assert not wrong, "\n".join([f"{len(wrong)} violations:", *wrong[:40]])
    return tree


def _misplaced(lying: Collection[Aside], aside: Mapping[str, int], allowed: Collection[str]) -> Iterator[str]:
    counts: dict[str, int] = defaultdict(int)
    for one in lying:
        counts[one.reason] += 1
        try:
            record = one.record
        except (OSError, orjson.JSONDecodeError) as error:
            yield f"{one.path} has no reason file: {error}"
            continue
        if not record.keys() >= REASON_FIELDS or record["reason"] != one.reason:
            yield f"{one.path}.json does not tell everything: {record}"
        if record.get("size") != one.path.lstat().st_size:
            yield f"{one.path}.json tells the size {record.get('size')}"
    for reason in counts.keys() | aside.keys():
        if counts[reason] != aside.get(reason, 0) and reason not in allowed:
            yield f"{counts[reason]} files are set aside as {reason}, not {aside.get(reason, 0)}"

"""PURE. Manifests: which instances a generation of a series has, and where each is. Written last, so what has none is
not exported.

A line is one JSON object: the first tells of the series, each of the others of one instance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

#: The version of the form, in the first line.
FORM = 1

#: Keys of the first line that do not tell what was exported: two exports of the same differ in them.
_OF_THE_RUN = frozenset({"verified", "program", "time"})


class Entry(NamedTuple):
    """An instance: its key (of an archive that has it: then `offset` tells where in the uncompressed archive its bytes
    begin, else -1), its size in bytes, its SHA-256 and its path below the data directory.
    """

    SOPInstanceUID: str
    key: str
    size: int
    sha256: str
    path: str
    offset: int = -1


class Archive(NamedTuple):
    """An archive that was made for this generation: its key, size and SHA-256."""

    key: str
    size: int
    sha256: str


class Manifest(NamedTuple):
    """What the first line tells, and the instances. `state` is complete or incomplete; `verified` read or head;
    `supersedes` is the key of the manifest before, "" for none; `time` as RFC 3339.
    """

    StudyInstanceUID: str
    SeriesInstanceUID: str
    generation: int
    state: str
    entries: tuple[Entry, ...]
    archives: tuple[Archive, ...] = ()
    supersedes: str = ""
    verified: str = "read"
    program: str = ""
    time: str = ""

    @property
    def bytes(self) -> int:
        """Return how many bytes the instances have."""
        return sum(entry.size for entry in self.entries)


class NoManifest(ValueError):
    """The object is no manifest of ours."""


def written(manifest: Manifest) -> bytes:
    """Return the object that holds a manifest."""
    first = {"manifest": FORM, "SeriesInstanceUID": manifest.SeriesInstanceUID}
    first |= {"StudyInstanceUID": manifest.StudyInstanceUID, "generation": manifest.generation}
    first |= {"state": manifest.state, "instances": len(manifest.entries), "bytes": manifest.bytes}
    first |= {"archives": [one._asdict() for one in manifest.archives], "supersedes": manifest.supersedes}
    first |= {"verified": manifest.verified, "program": manifest.program, "time": manifest.time}
    lines = [first, *(_shown(entry) for entry in manifest.entries)]
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def _shown(entry: Entry) -> dict[str, Any]:
    values = entry._asdict()
    if entry.offset < 0:
        del values["offset"]
    return values


def parsed(data: bytes) -> Manifest:
    """Return the manifest that an object holds. Raises NoManifest: also for one that was cut."""
    try:
        first, *rest = (orjson.loads(line) for line in data.splitlines())
        form, said = first["manifest"], (first["instances"], first["bytes"])
        texts = {name: first[name] for name in ("supersedes", "verified", "program", "time", "state")}
        uids = (str(first["StudyInstanceUID"]), str(first["SeriesInstanceUID"]), int(first["generation"]))
        entries = tuple(Entry(**line) for line in rest)
        manifest = Manifest(
            *uids, entries=entries, archives=tuple(Archive(**one) for one in first["archives"]), **texts
        )
        has = (len(entries), manifest.bytes)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoManifest(f"it cannot be read ({type(error).__name__})") from None
    if form != FORM:
        raise NoManifest(f"its form is {form!r}, and this program knows {FORM}")
    if has != said:
        raise NoManifest("it lists not as many instances as it says")
    return manifest


def is_same(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests tell of the same content, whoever exported it and when."""
    return _content(one) == _content(other)


def _content(manifest: Manifest) -> Mapping[str, Any]:
    return {name: value for name, value in manifest._asdict().items() if name not in _OF_THE_RUN}


def by_content(entries: Iterable[Entry]) -> dict[tuple[str, str, int], Entry]:
    """Return entries by SOP Instance UID, SHA-256 and size."""
    return {(entry.SOPInstanceUID, entry.sha256, entry.size): entry for entry in entries}

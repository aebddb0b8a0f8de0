"""PURE. Members of the table: rows of the instances that are new in a generation, packed as the stage keeps them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from listener.export.columns import HEADER
from listener.export.manifest import Entry, Manifest

#: Texts by keyword, and the transfer syntax.
Values = Mapping[str, str]


class Member(NamedTuple):
    """Rows of one generation of a series: a name that follows from them, how many there are, and themselves packed."""

    name: str
    instances: int
    rows: bytes


def member_of(manifest: Manifest, new: Mapping[tuple[str, str, int], Values], header: str) -> Member | None:
    """Return the member of the instances `new` in a generation, by SOP Instance UID, SHA-256 and size; None if there is
    none. `header`: JSON of the header of the first one, "" for none.
    """
    entries = [entry for entry in manifest.entries if (entry.SOPInstanceUID, entry.sha256, entry.size) in new]
    if not entries:
        return None
    rows = []
    for entry in sorted(entries, key=lambda one: (one.path, one.SOPInstanceUID)):
        values = dict(new[entry.SOPInstanceUID, entry.sha256, entry.size])
        rows.append({**values, **_of_manifest(manifest, entry)})
    rows[0][HEADER.name] = header
    lines = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    return Member(_name(manifest, entries), len(rows), zlib.compress(lines, 1))


def _of_manifest(manifest: Manifest, entry: Entry) -> dict[str, Any]:
    uids = {"StudyInstanceUID": manifest.StudyInstanceUID, "SeriesInstanceUID": manifest.SeriesInstanceUID}
    about = {**uids, "generation": manifest.generation, **entry._asdict()}
    if entry.offset < 0:
        del about["offset"]
    return about


def _name(manifest: Manifest, entries: Sequence[Entry]) -> str:
    about = [manifest.StudyInstanceUID, manifest.SeriesInstanceUID, str(manifest.generation)]
    about += sorted(f"{entry.SOPInstanceUID} {entry.sha256}" for entry in entries)
    return sha256("\n".join(about).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def unpacked(rows: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a member."""
    for line in zlib.decompress(rows).splitlines():
        yield orjson.loads(line)


def content_of(names: Iterable[str]) -> str:
    """Return the hash of a part that has these members."""
    return sha256("\n".join(names).encode()).hexdigest()[:32]

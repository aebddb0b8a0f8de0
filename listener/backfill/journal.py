"""What a part has done so far: a record a file, written before the file's claim is released.

A kill between the two leaves a claim, which is done again, and a second record of the same file; one that ended as
published stays so. So each listed file has exactly one end, whenever the part was killed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from listener.disk import sync
from listener.records import OUTCOMES, Outcome
from listener.repacking import claim
from listener.repacking.context import PathKeys

#: A record: key of the path (16 bytes), kind (index in OUTCOMES, 1 byte), size in bytes (8 bytes).
_KEY, _SIZE = 16, 8
_RECORD = _KEY + 1 + _SIZE

#: Of a file that was listed and has no end yet.
_LISTED = -1

_PUBLISHED, _VANISHED = OUTCOMES.index("published"), OUTCOMES.index("vanished")
_WITH_INSTANCE = ("published", "duplicate")

#: Names of the files in a part's directory.
ENDS, SERIES = "ends", "series"


class Ends(NamedTuple):
    """How many of the listed files have ended how, how many are left, and bytes of what was published."""

    counts: Counter[str]
    left: int
    bytes: int

    @property
    def listed(self) -> int:
        """Return how many files were listed."""
        return sum(self.counts.values()) + self.left


class Journal:
    """The ends of a part's files, in `folder`. With `syncs` a record is on disk before its claim is released."""

    def __init__(self, folder: str, keys: PathKeys, *, syncs: bool) -> None:
        self._keys = keys
        self._syncs = syncs
        self._ends: dict[bytes, int] = {}
        self._bytes = 0
        self._series: set[str] = set()
        #: Keys that an earlier run wrote and that this one has not listed yet.
        self._earlier: set[bytes] = set()
        self._file = os.open(os.path.join(folder, ENDS), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._series_file = os.open(
            os.path.join(folder, SERIES), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._read()

    def _read(self) -> None:
        """Read what an earlier run wrote; cut off what a kill left half written."""
        for descriptor in (self._file, self._series_file):
            # Another host may have written meanwhile; a change of times makes this kernel ask for the size.
            os.utime(descriptor)
        data = _whole(self._file)
        whole = len(data) - len(data) % _RECORD
        os.ftruncate(self._file, whole)
        for start in range(0, whole, _RECORD):
            record = data[start : start + _RECORD]
            self._note(record[:_KEY], record[_KEY], int.from_bytes(record[_KEY + 1 :], "little"))
        self._earlier = set(self._ends)
        lines = _whole(self._series_file)
        os.ftruncate(self._series_file, lines.rfind(b"\n") + 1)
        self._series.update(lines[: lines.rfind(b"\n") + 1].decode("ascii").split())

    def list(self, root_index: int, path: str) -> bool:
        """Note that a file is listed; return False if this run has listed it before."""
        key = self._keys.of(root_index, path)
        if key in self._earlier:
            self._earlier.discard(key)
            return True
        if key in self._ends:
            return False
        self._ends[key] = _LISTED
        return True

    def list_claims(self, claims: Iterable[str]) -> set[bytes]:
        """Note the files of claims that an earlier run left, whose paths are gone; return their keys."""
        keys = set(filter(None, map(claim.key_of, claims)))
        for key in keys:
            self._ends.setdefault(key, _LISTED)
        return keys

    def unlist(self, root_index: int, path: str) -> None:
        """Forget a listed path that is no file."""
        self._ends.pop(self._keys.of(root_index, path), None)

    def has_ended(self, root_index: int, path: str) -> bool:
        """Return whether the file that was at this path has an end."""
        return self._ends.get(self._keys.of(root_index, path), _LISTED) != _LISTED

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write how files end, before their claims are released. Raises OSError, and FatalFault at EIO."""
        records = bytearray()
        fresh: dict[str, None] = {}
        for outcome in outcomes:
            key = claim.key_of(outcome.claim) if outcome.claim else b""
            key = key or self._keys.of(outcome.root_index, outcome.path)
            kind = OUTCOMES.index(outcome.kind)
            records += key + bytes((kind,)) + outcome.size.to_bytes(_SIZE, "little")
            self._note(key, kind, outcome.size)
            if outcome.kind in _WITH_INSTANCE and outcome.SeriesInstanceUID not in self._series:
                fresh[outcome.SeriesInstanceUID] = None
        if fresh:  # First, so that no series of a recorded file is missing.
            _append(self._series_file, "".join(f"{uid}\n" for uid in fresh).encode("ascii"))
            self._series.update(fresh)
        if records:
            _append(self._file, records)
        if self._syncs and records:
            sync.descriptors([self._series_file, self._file] if fresh else [self._file])

    def _note(self, key: bytes, kind: int, size: int) -> None:
        if _replaces(self._ends.get(key, _LISTED), kind):
            self._ends[key] = kind
            self._bytes += size if kind == _PUBLISHED else 0

    @property
    def series(self) -> int:
        """Return how many series files were published in."""
        return len(self._series)

    def ends(self) -> Ends:
        """Count the ends."""
        found = Counter(self._ends.values())
        left = found.pop(_LISTED, 0)
        return Ends(Counter({OUTCOMES[kind]: number for kind, number in found.items()}), left, self._bytes)

    def close(self) -> None:
        """Close the files."""
        os.close(self._file)
        os.close(self._series_file)


def gone(folder: str) -> set[bytes]:
    """Return the keys of the files of a part that vanished."""
    return {key for key, kind in _ends_in(folder).items() if kind == _VANISHED}


def seen_to(folder: str, keys: set[bytes]) -> set[bytes]:
    """Return those of `keys` that this part gave another end than vanished."""
    return {key for key, kind in _ends_in(folder, keys).items() if kind != _VANISHED}


def _ends_in(folder: str, keys: set[bytes] | None = None) -> dict[bytes, int]:
    """Return key and end of each file of a part (of `keys` only), as Journal counts them."""
    try:
        with open(os.path.join(folder, ENDS), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    ends: dict[bytes, int] = {}
    for start in range(0, len(data) - len(data) % _RECORD, _RECORD):
        key, kind = data[start : start + _KEY], data[start + _KEY]
        if (keys is None or key in keys) and _replaces(ends.get(key, _LISTED), kind):
            ends[key] = kind
    return ends


def _replaces(known: int, kind: int) -> bool:
    """Return whether an end takes the place of what is known of a file. A name that is gone may be one that another
    host has seen to: what is recorded of it stays.
    """
    return known != _PUBLISHED and (kind != _VANISHED or known == _LISTED)


def series_of(folder: str) -> list[str]:
    """Return the series in which a part published instances."""
    try:
        with open(os.path.join(folder, SERIES), encoding="ascii") as file:
            return list(dict.fromkeys(line.strip() for line in file if line.endswith("\n")))
    except FileNotFoundError:
        return []


def _whole(descriptor: int) -> bytes:
    size, found = os.fstat(descriptor).st_size, bytearray()
    while len(found) < size and (piece := os.pread(descriptor, size - len(found), len(found))):
        found += piece
    return bytes(found)


def _append(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

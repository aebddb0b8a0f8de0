"""Set files aside: what cannot be repacked, and superseded instances, each with a reason file beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

import orjson

from listener.dicom.attributes import SENDER
from listener.disk import files, json_file, moves, sync
from listener.planning.names import instant, printable, short_hash
from listener.reasons import SET_ASIDE_REASONS
from listener.records import Arrival
from listener.repacking.context import CLAIM, WorkerContext

#: Error text of files kept under the reason `superseded`.
SUPERSEDED_TEXT = "a newer data set of the same instance took its name"


def was_superseded(inode: tuple[int, int], context: WorkerContext) -> bool:
    """Return whether this very file was published and then superseded, before its claim was released."""
    return any(entry.inode() == inode[1] and _inode(entry.path) == inode for entry in _kept(context))


def still_in_tree(name: str, context: WorkerContext) -> Iterator[str]:
    """Yield the paths of superseded instances called `name` that are still in the tree."""
    for entry in _kept(context):
        was = str((json_file.load(reason_file(entry.path)) or {}).get("was", ""))
        if os.path.basename(was) == name and os.path.lexists(was) and _inode(was) == _inode(entry.path):
            yield was


def _kept(context: WorkerContext) -> Iterator[os.DirEntry[str]]:
    return entries(f"{context.directories.set_aside}/superseded")


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return (status.st_dev, status.st_ino)


_CHUNK = 2**20

#: Files counted in one piece, between which the event loop runs.
_PIECE = 250


#: Identifiers in a reason file: DICOM keyword and JSON key. No patient's name or number.
KNOWN = {
    "SOPInstanceUID": "SOPInstanceUID",
    "SeriesInstanceUID": "SeriesInstanceUID",
    "StudyInstanceUID": "StudyInstanceUID",
    "Modality": "Modality",
    SENDER: "sender",
}

Transfer = Callable[[str, str], None]


class Why(NamedTuple):
    """Why a file is set aside: one of SET_ASIDE_REASONS, the same in words, and identifiers in `known`, by DICOM
    keyword, as far as they were read.
    """

    reason: str
    error: str
    known: Mapping[str, str] = MappingProxyType({})


class _Record(NamedTuple):
    why: Why
    attempts: int
    first_ns: int
    incoming: str
    was: str = ""
    dataset: str = ""


class Totals(NamedTuple):
    """Number and bytes of the files under one reason."""

    files: int
    bytes: int


def put_aside(source: str, name: str, context: WorkerContext, why: Why, arrival: Arrival) -> str:
    """Set `source` aside with its original `name`; return its new path.

    The service's claim stays until the parent releases it; --keep-source copies; `repack` leaves the file and returns
    "".
    """
    if context.mode == CLAIM:
        transfer: Transfer = moves.keep_claim
    elif context.config.keep_source:
        transfer = moves.copy
    else:
        return ""
    attempts, root = arrival.attempts + arrival.losses + 1, context.directories.incoming[arrival.root_index]
    return _put(source, name, context, _Record(why, attempts, arrival.time_ns, root), transfer)


def keep(source: str, context: WorkerContext, why: Why, root: int, dataset: str = "") -> str:
    """Keep a second name of `source` in set-aside and return it; `source` stays. `root` as Arrival's; with `dataset`, a
    digest, one file of equal data sets is enough.
    """
    record = _Record(why, 1, 0, context.directories.incoming[root], source, dataset)
    return _put(source, os.path.basename(source), context, record, moves.link_or_copy)


def _put(source: str, name: str, context: WorkerContext, record: _Record, transfer: Transfer) -> str:
    directory = f"{context.directories.set_aside}/{record.why.reason}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.lstat(source)
    with context.locks.locked(directory, ".lock"):
        target, present = _find_place(directory, name, source, status, record.dataset)
        if present:  # A replay: an earlier attempt came this far.
            return target
        written = _encoded(source, name, status, record)
        files.write_document(context.state_staging, reason_file(target), written, syncs=context.syncs)
        transfer(source, target)
        if context.syncs:
            sync.directories([directory])
    return target


def reason_file(target: str) -> str:
    """Return the path of the reason file of a set-aside file."""
    return f"{target}.json"


def _find_place(directory: str, name: str, source: str, status: os.stat_result, dataset: str) -> tuple[str, bool]:
    """Return a path for `name`, with a hash suffix when that is taken by another file, and whether the same file (or,
    with `dataset`, an equal data set) is there already.
    """
    for suffix in _suffixes(name, status, dataset):
        candidate = os.path.join(directory, _cut(name, suffix))
        if os.path.lexists(candidate):
            # A file with a claim must keep its own inode here, in case the claim is repeated.
            equal = dataset and status.st_nlink == 1 and _dataset_of(candidate) == dataset
            if equal or _is_same(candidate, source, status):
                return candidate, True
        # A reason file alone was left by a crash; one with a reason file of its own is a set-aside file.
        elif not os.path.lexists(reason_file(reason_file(candidate))):
            return candidate, False
    raise AssertionError  # pragma: no cover - the count has no end


def _suffixes(name: str, status: os.stat_result, dataset: str) -> Iterator[str]:
    yield ""
    if dataset:  # The same for an equal data set.
        yield f"-{short_hash(dataset)}"
    for salt in itertools.count(1):
        yield f"-{short_hash(f'{name}{status.st_ino}{status.st_mtime_ns}{salt}')}"


def _dataset_of(candidate: str) -> object:
    """Return the data set's digest in a set-aside file's reason file, None if there is none."""
    return (json_file.load_if_readable(reason_file(candidate)) or {}).get("dataset")


def _is_same(candidate: str, source: str, status: os.stat_result) -> bool:
    """Return whether `candidate` is `source`: one inode, or a copy that an earlier attempt made across mounts."""
    there = os.lstat(candidate)
    if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
        return True
    if there.st_dev == status.st_dev or there.st_size != status.st_size:
        return False
    mine = _digest(source, status)
    return bool(mine) and mine == _digest(candidate, there)


def _cut(name: str, suffix: str) -> str:
    raw = os.fsencode(name)[: 255 - len(".json") - len(suffix)]
    return os.fsdecode(raw) + suffix


def _encoded(source: str, name: str, status: os.stat_result, record: _Record) -> bytes:
    why, now = record.why, time.time_ns()
    return orjson.dumps(
        {
            "reason": why.reason,
            "error": why.error,
            "name": printable(name),
            "first": instant(record.first_ns or now),
            "last": instant(now),
            "attempts": record.attempts,
            "size": status.st_size,
            "digest": _digest(source, status),
            "incoming": printable(record.incoming),
            **{name: why.known[keyword] for keyword, name in KNOWN.items() if why.known.get(keyword)},
            **({"was": printable(record.was)} if record.was else {}),
            **({"dataset": record.dataset} if record.dataset else {}),
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _digest(source: str, status: os.stat_result) -> str:
    """Return "blake2b-128:" and the digest of the bytes, "" for an irregular or unreadable file."""
    if not stat.S_ISREG(status.st_mode):
        return ""
    state = blake2b(digest_size=16)
    try:
        with open(files.open_regular(source), "rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    except OSError:
        return ""
    return f"blake2b-128:{state.hexdigest()}"


def count_in_pieces(directory: str) -> Iterator[dict[str, Totals]]:
    """Count set-aside files a piece at a time: yield {} until all are counted, then the totals for every reason."""
    found = {}
    for reason in SET_ASIDE_REASONS:
        count = size = 0
        for number, entry in enumerate(entries(os.path.join(directory, reason)), 1):
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
                count += 1
            if number % _PIECE == 0:
                yield {}
        found[reason] = Totals(count, size)
    yield found


def totals(directory: str) -> dict[str, Totals]:
    """Count all set-aside files at once; return the totals for every reason."""
    return next(found for found in count_in_pieces(directory) if found)


def changed(directory: str) -> dict[str, int]:
    """Return when files were last put aside or taken away, by reason; nanoseconds since the epoch."""
    found = {}
    for reason in SET_ASIDE_REASONS:
        with contextlib.suppress(OSError):
            found[reason] = os.stat(os.path.join(directory, reason)).st_mtime_ns
    return found


def entries(directory: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files set aside under one reason, without their reason files."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as found:
        for entry in found:
            # A reason file has no reason file of its own, even when its file is gone (a crash between the two).
            if entry.name.startswith(".") or (
                entry.name.endswith(".json") and not os.path.lexists(reason_file(entry.path))
            ):
                continue
            yield entry

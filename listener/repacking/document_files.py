"""Documents on disk: created once, changed under a lock that every listener on this log directory takes, removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from listener.disk import files, json_file, moves, stamps, sync
from listener.planning import documents
from listener.planning.documents import Document
from listener.planning.names import OWN, document_name, short_hash
from listener.repacking.context import WorkerContext


def create_once(path: str, context: WorkerContext, make: Callable[[], Document]) -> None:
    """Create a document that never changes, unless it exists. The first writer wins, so no lock is needed."""
    if json_file.load(path) is not None:
        return
    try:
        files.write_document(
            context.log_staging, path, documents.encode(make()), syncs=context.syncs, operation=moves.rename_new
        )
    except FileExistsError:  # Another worker's document, or something else that must be replaced.
        update(path, context, lambda there: None if there is not None else make())


def update(path: str, context: WorkerContext, change: Callable[[Document | None], Document | None]) -> None:
    """Read, change and write one shared document under its lock; `change` returns None to leave it as it is.

    Raises LockHeld, and NotCurrent where another machine has just written it and this kernel still shows the old one.
    """
    below = _below(path, context)
    with locked(path, context) as lock:
        before = stamps.read_direct(lock) if context.network_log else stamps.read(lock)
        data = json_file.read(path)
        if context.network_log:
            stamps.require_current(before, f"locks/{_lock_name(below)}", below, data)
        changed = change(json_file.parsed(data))
        if changed is not None:
            displace_directory(path, context)
            encoded = documents.encode(changed)
            files.write_document(context.log_staging, path, encoded, syncs=context.syncs)
            # Always: a log that is local here may be a network mount on another machine.
            stamps.write(lock, before, below, encoded)
            if context.network_log:
                os.fdatasync(lock)


def locked(path: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of one document, which every listener on this log directory takes to change it. Raises LockHeld."""
    return context.locks.locked(context.directories.locks, _lock_name(_below(path, context)))


def _below(path: str, context: WorkerContext) -> str:
    """Return the path of a document relative to the log, which other machines may have at another path."""
    return path.removeprefix(f"{context.directories.log}/")


def _lock_name(below: str) -> str:
    return f"document-{short_hash(below, 2)}"


def locked_series(series: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of a series, under which its directory of documents is made, and removed with its shared documents.
    Lock order: series, then documents.
    """
    return context.locks.locked(context.directories.locks, f"series-{short_hash(document_name(series), 2)}")


def displace_directory(path: str, context: WorkerContext) -> None:
    """Move a directory that lies where a document belongs to <log>/.listener/displaced."""
    if os.path.isdir(path) and not os.path.islink(path):
        displaced = f"{context.directories.log}/{OWN}/displaced"
        files.rename(path, f"{displaced}/{time.time_ns()}-{os.path.basename(path)}", 0o700, syncs=context.syncs)


def remove(path: str, context: WorkerContext) -> None:
    """Move a document that describes nothing any more to <log>/.listener/removed."""
    below = os.path.relpath(path, context.directories.log)
    kept = os.path.join(context.directories.log, OWN, "removed", os.path.dirname(below))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    with suppress(FileNotFoundError):
        moves.rename_free(path, kept, os.path.basename(below))
        if context.syncs:
            sync.directories([kept, os.path.dirname(path)])

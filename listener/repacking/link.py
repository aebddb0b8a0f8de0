"""Give a source its name in the tree: by a link, which overwrites nothing, or by what works in its place."""

from __future__ import annotations

import errno
import os

from listener.disk import files, moves, sync
from listener.planning.names import short_hash
from listener.repacking.context import WorkerContext
from listener.repacking.job import Source


def copy(source: Source, context: WorkerContext, staging: files.StagingDir) -> None:
    """Copy bytes, mode and times of the source; the copy is linked from now on."""
    if source.copy:
        source.opened.append(source.copy_descriptor)
    source.copy, source.copy_descriptor = staging.copy(source.descriptor, source.claimed.size)
    source.temporaries.append(source.copy)
    status = os.fstat(source.descriptor)
    mode = context.config.file_mode
    os.fchmod(source.copy_descriptor, status.st_mode & 0o7777 if mode is None else mode)
    os.utime(source.copy_descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))


def link(source: Source, context: WorkerContext) -> None:
    """Give the source its name in the tree. Raises FileExistsError where that is taken."""
    _give_name(source, context)
    source.linked = True


def link_or_false(source: Source, context: WorkerContext) -> bool:
    """Do as `link`; return False where the name is taken."""
    try:
        link(source, context)
    except FileExistsError:
        return False
    return True


def replace(source: Source, context: WorkerContext) -> None:
    """Give the source its name in the tree in place of what has it."""
    if not source.copy:
        twin = context.data_staging.name()
        source.temporaries.append(twin)
        if not files.link_or_false(source.path, twin, 0o700, syncs=False):
            copy(source, context, context.data_staging)
            twin = source.copy
    else:
        twin = source.copy
    try:
        files.rename(twin, source.target, context.config.dir_mode, syncs=context.syncs)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_beside(source, context)
        os.rename(source.copy, source.target)


def _give_name(source: Source, context: WorkerContext) -> None:
    mode, syncs = context.config.dir_mode, context.syncs
    if files.link_or_false(source.link_source, source.target, mode, syncs=syncs):
        return
    if not _lies_elsewhere(source, context):
        if not source.copy:
            copy(source, context, context.data_staging)
            if syncs:
                sync.descriptors([source.copy_descriptor])
            if files.link_or_false(source.copy, source.target, mode, syncs=syncs):
                return
        try:
            _rename_without_links(source, context)
        except OSError as error:
            if error.errno != errno.EXDEV:  # One file system, and two mounts of it.
                raise
        else:
            return
    _copy_beside(source, context)
    moves.rename_new(source.copy, source.target)


def _lies_elsewhere(source: Source, context: WorkerContext) -> bool:
    """Return whether the target's directory is on another file system than staging (a link, or a mount in the tree)."""
    return os.stat(os.path.dirname(source.target)).st_dev != os.stat(context.directories.data_staging).st_dev


def _copy_beside(source: Source, context: WorkerContext) -> None:
    """Copy the source to a hidden name beside its target and sync it. Remove what a killed try left."""
    directory, name = os.path.split(source.target)
    prefix = f".listener-{short_hash(name)}"
    if source.arrival.claim:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(f"{prefix}-"):
                    files.discard(entry.path)
    copy(source, context, files.StagingDir(directory, prefix))
    if context.syncs:
        sync.descriptors([source.copy_descriptor])


def _rename_without_links(source: Source, context: WorkerContext) -> None:
    # Without hard links a rename could overwrite: check first, under the lock that all listeners take.
    with context.locked_place(source.target):
        if os.path.lexists(source.target):
            raise FileExistsError
        files.rename(source.copy, source.target, context.config.dir_mode, syncs=context.syncs)

"""What `listener check` asks of the directories and the volumes that they lie on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator

from listener.checks.finding import NOTE, OK, PROBLEM, Finding, existing_parent, named, trial_file
from listener.config import Config
from listener.disk import aliases
from listener.disk.locks import holder
from listener.disk.mounts import mount_of
from listener.disk.trials import corner, try_moves

_LEAST_INODES = 1000

#: How far a file system's clock may be from ours, in seconds.
_CLOCK = 1.0


def directory(option: str, path: str) -> Finding:
    """Whether a directory is there, or can be made, and can be written."""
    if not os.path.lexists(path):
        parent = existing_parent(path)
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding(NOTE, option, f"'{path}' is not there yet and will be made")
        return Finding(
            PROBLEM, option, f"'{path}' is not there and cannot be made in '{parent}'", "make it, or give another"
        )
    if not os.path.isdir(path):
        return Finding(PROBLEM, option, f"'{path}' is not a directory", "give a directory")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return Finding(PROBLEM, option, f"'{path}' is mounted read-only", "mount it read-write")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        owner = os.stat(path).st_uid
        text = f"uid {os.geteuid()} cannot write in '{path}' (owner: uid {owner})"
        return Finding(PROBLEM, option, text, "run listener and storescp under one uid, or change its owner or mode")
    return Finding(OK, option, f"'{path}' can be written")


def overlaps(config: Config) -> Iterator[Finding]:
    """Two directories that are one by two mounts, or one inside another."""
    for text in aliases.overlaps(named(config)):
        option, _, rest = text.partition(": ")
        what, _, remedy = rest.rpartition("; ")
        yield Finding(PROBLEM, option, what, remedy)


def moves(config: Config) -> Iterator[Finding]:
    """Rename and link between the directories: two mounts refuse them, also of one file system."""
    for root in config.incoming:
        if not try_moves(corner(root), corner(config.state)).renames:
            text = f"files cannot be renamed from '{root}' into the state directory (another mount)"
            remedy = f"claims will live in '{root}/.listener'; mount one volume once to avoid it"
            yield Finding(NOTE, "--state", text, remedy)
        if try_moves(corner(root), corner(config.data)).links:
            yield Finding(OK, "--data", f"files from '{root}' are published by a link: no byte is copied")
        else:
            text = f"files from '{root}' cannot be linked into the data directory (another mount): every byte is copied"
            yield Finding(NOTE, "--data", text, "mount one volume once, with both below it, to avoid the copy")
    for option, path in (("--data", config.data), ("--log", config.log)):
        if not try_moves(corner(config.state), corner(path)).renames:
            text = f"'{path}' is on another mount than the state directory: staging will live in '{path}/.listener'"
            yield Finding(NOTE, option, text, "mount one volume once, with both below it, to avoid that")


def network(config: Config) -> Iterator[Finding]:
    """File systems that other machines write to: no event comes from there, and no lease is given. Object stores."""
    for option, path in named(config):
        mount = mount_of(path)
        if mount is None or not mount.is_network:
            continue
        if mount.is_object_store:
            text = f"'{path}' is an object store shown as a directory ({mount.kind}): it knows no rename in one step, "
            remedy = "use a file system; copy to the store what is published"
            yield Finding(PROBLEM, option, f"{text}no link and no lock, by which no file is lost", remedy)
        elif option == "--incoming" and not config.poll:
            text = f"'{path}' is on a network file system ({mount.kind}): what other machines write there is no event"
            remedy = "give --poll unless storescp runs on this machine; sweeps find the files in any case"
            yield Finding(NOTE, "--incoming", text, remedy)


def locks(config: Config) -> Iterator[Finding]:
    """Locks keep StudyLists complete and a second listener out."""
    with trial_file(config.log) as (first, path):
        problem = _lock_problem(first, path)
    if problem:
        text = f"locks do not work in '{config.log}' ({problem}): two writers could lose studies of a StudyList"
        yield Finding(PROBLEM, "--log", text, "use a local file system, or mount this one with locking")
    for root in config.incoming:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # Another listener owns it, so locks work.
        except OSError as error:
            text = f"'{root}' cannot be locked ({error.strerror}): a second listener could not be kept out"
            yield Finding(PROBLEM, "--incoming", text, "use a local file system for incoming")
        finally:
            os.close(descriptor)
    for option, path in named(config):
        why = _why_local(path) if option in ("--incoming", "--log") else ""
        if why:
            text = f"locks in '{path}' are kept by this machine alone ({why}): another one does not see them"
            yield Finding(NOTE, option, text, "let one machine alone use it, or mount it with locks that all share")


def _why_local(path: str) -> str:
    """Why a lock on a network file system is not seen by other machines; "" where it is, or none comes there."""
    mount = mount_of(path)
    if mount is None or not mount.is_network or mount.is_object_store:
        return ""
    if mount.local_locks or not mount.kind.startswith("fuse"):
        return mount.local_locks
    with trial_file(path) as (descriptor, _), contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A lock that the program behind a FUSE mount keeps is none of the kernel's.
        return f"{mount.kind} leaves them to the kernel" if holder(descriptor) else ""
    return ""


def _lock_problem(first: int, path: str) -> str:
    """Why a lock on this file cannot be relied on; "" when a second one is refused as it should be."""
    second = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    except OSError as error:
        return error.strerror or "refused"
    finally:
        os.close(second)
    return "a second one was granted"


def clocks(config: Config) -> Iterator[Finding]:
    """Lag and the settle time compare the file system's clock with ours."""
    for root in config.incoming:
        with trial_file(root) as (descriptor, _):
            off = os.fstat(descriptor).st_mtime - time.time()
        if abs(off) > _CLOCK:
            text = f"the clock of '{root}' is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
            yield Finding(NOTE, "--incoming", text, "let both follow one time server; until then lag is wrong by it")


def space(config: Config) -> Iterator[Finding]:
    """Free bytes and inodes."""
    for option, path in named(config):
        parent = existing_parent(path)
        free = shutil.disk_usage(parent).free
        if free < config.min_free:
            floor = config.min_free / 2**30
            text = f"{free / 2**30:.2f} GiB free is below --min-free {floor:.2f} GiB: no work would be taken"
            yield Finding(PROBLEM, option, text, "make room, or lower --min-free")
        status = os.statvfs(parent)
        if status.f_files and status.f_favail < _LEAST_INODES:
            text = f"only {status.f_favail} inodes are free"
            yield Finding(PROBLEM, option, text, "remove small files, or use a larger volume")

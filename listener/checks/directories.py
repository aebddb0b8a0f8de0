"""Checks of directories: volumes, moves, locks, free space; owners, leases and modes of the files in them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice

from listener.checks.finding import NOTE, OK, PROBLEM, Finding, configured_directories, existing_parent, probe_file
from listener.config import Config
from listener.disk import aliases, locks
from listener.disk.leases import work_in
from listener.disk.locks import holder
from listener.disk.mounts import MountTable, is_network_type, mount_of, private_dir, probe_moves
from listener.errors import OwnedElsewhere
from listener.service.lock import IncomingLock
from listener.service.recovery import orphans_of
from listener.status import snapshot
from listener.status.document import STATES, is_running
from listener.status.formatting import size

_LEAST_INODES = 1000

#: Seconds by which a file system's clock may differ from this machine's.
_CLOCK = 1.0


def directory(option: str, path: str) -> Finding:
    """Check that a directory exists, or can be made, and can be written."""
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
    for place in (path, private_dir(path)):
        if os.path.isdir(place) and not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            owner = os.stat(place).st_uid
            text = f"uid {os.geteuid()} cannot write in '{place}' (owner: uid {owner})"
            remedy = "run listener and storescp under one uid, or change its owner or mode"
            return Finding(PROBLEM, option, text, remedy)
    return Finding(OK, option, f"'{path}' can be written")


def overlaps(config: Config) -> Iterator[Finding]:
    """Check that no directory is another one by a second mount, or inside another."""
    named = [*configured_directories(config), *(("--batches", root) for root in config.batches if os.path.isdir(root))]
    for text in aliases.overlaps(named, MountTable()):
        option, _, rest = text.partition(": ")
        what, _, remedy = rest.rpartition("; ")
        yield Finding(PROBLEM, option, what, remedy)


def moves(config: Config) -> Iterator[Finding]:
    """Check rename and link between the directories: two mounts refuse them, also of one file system."""
    for root in config.incoming:
        if not probe_moves(private_dir(root), private_dir(config.state)).renames:
            text = f"files cannot be renamed from '{root}' into the state directory (another mount)"
            remedy = f"claims will live in '{root}/.listener'; mount one volume once to avoid it"
            yield Finding(NOTE, "--state", text, remedy)
        if probe_moves(private_dir(root), private_dir(config.data)).links:
            yield Finding(OK, "--data", f"files from '{root}' are published by a link: no byte is copied")
        else:
            text = f"files from '{root}' cannot be linked into the data directory (another mount): every byte is copied"
            yield Finding(NOTE, "--data", text, "mount one volume once, with both below it, to avoid the copy")
    for option, path in (("--data", config.data), ("--log", config.log)):
        if not probe_moves(private_dir(config.state), private_dir(path)).renames:
            text = f"'{path}' is on another mount than the state directory: staging will live in '{path}/.listener'"
            yield Finding(NOTE, option, text, "mount one volume once, with both below it, to avoid that")


def network(config: Config) -> Iterator[Finding]:
    """Check for object stores, and for network file systems: writes of other machines cause no events there."""
    for option, path in configured_directories(config):
        mount = mount_of(path)
        if mount is None or not mount.is_network:
            continue
        if mount.is_object_store:
            text = f"'{path}' is an object store shown as a directory ({mount.kind}): it knows no rename in one step, "
            remedy = "use a file system; copy to the store what is published"
            yield Finding(PROBLEM, option, f"{text}no link and no lock, by which no file is lost", remedy)
        elif option == "--incoming" and not config.poll:
            text = f"'{path}' is on a network file system ({mount.kind}): what other machines write there is no event"
            remedy = "give --poll unless storescp runs on this machine; rescans find the files in any case"
            yield Finding(NOTE, "--incoming", text, remedy)


def lock_support(config: Config) -> Iterator[Finding]:
    """Check that locks work: they keep StudyLists complete and a second listener out."""
    with probe_file(config.log) as (first, path):
        problem = _lock_problem(first, path)
    if problem:
        text = f"locks do not work in '{config.log}' ({problem}): two writers could lose studies of a StudyList"
        yield Finding(PROBLEM, "--log", text, "use a local file system, or mount this one with locking")
    for root in config.incoming:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # Another listener holds it, so locks work.
        except OSError as error:
            text = f"'{root}' cannot be locked ({error.strerror}): a second listener could not be kept out"
            yield Finding(PROBLEM, "--incoming", text, "use a local file system for incoming")
        finally:
            os.close(descriptor)
    for option, path in configured_directories(config):
        why = _why_local(path) if option in ("--incoming", "--log") else ""
        if why:
            text = f"locks in '{path}' are kept by this machine alone ({why}): another one does not see them"
            yield Finding(NOTE, option, text, "let one machine alone use it, or mount it with locks that all share")


def _why_local(path: str) -> str:
    """Return why a lock on a network file system is not seen by other machines; "" if it is, or the path is local."""
    mount = mount_of(path)
    if mount is None or not mount.is_network or mount.is_object_store:
        return ""
    if mount.local_locks or not mount.kind.startswith("fuse"):
        return mount.local_locks
    with probe_file(path) as (descriptor, _), contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The kernel does not list a lock that the program behind a FUSE mount keeps.
        return f"{mount.kind} leaves them to the kernel" if holder(descriptor) else ""
    return ""


def _lock_problem(first: int, path: str) -> str:
    """Return why locks on this file are unreliable; "" when a second one is refused."""
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
    """Check the file systems' clocks: lag and settle time compare them with this machine's."""
    for root in config.incoming:
        with probe_file(root) as (descriptor, _):
            off = os.fstat(descriptor).st_mtime - time.time()
        if abs(off) > _CLOCK:
            text = f"the clock of '{root}' is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
            yield Finding(NOTE, "--incoming", text, "let both follow one time server; until then lag is wrong by it")


def space(config: Config) -> Iterator[Finding]:
    """Check free bytes and inodes."""
    for option, path in configured_directories(config):
        parent = existing_parent(path)
        free = shutil.disk_usage(parent).free
        if free < config.min_free:
            text = f"{size(free)} free is below --min-free ({size(config.min_free)}): no work would be taken"
            yield Finding(PROBLEM, option, text, "make room, or lower --min-free")
        status = os.statvfs(parent)
        if status.f_files and status.f_favail < _LEAST_INODES:
            text = f"only {status.f_favail} inodes are free"
            yield Finding(PROBLEM, option, text, "remove small files, or use a larger volume")


#: Entries of a directory that are examined at most.
_SAMPLE = 100


def leases(config: Config) -> Iterator[Finding]:
    """Check that leases work, by which the kernel tells whether a file is still open for writing."""
    table = MountTable()
    if not config.incoming:
        return
    if all(not is_network_type(table.system_of(path)) and work_in(path) for path in config.incoming):
        yield Finding(OK, "--incoming", "the kernel tells whether a file is still open for writing (leases)")
    else:
        text = f"no leases here: a file must be untouched for --settle {config.settle:g} s"
        yield Finding(NOTE, "--incoming", text, "use a local file system for incoming to be faster and surer")
    for root in config.incoming:
        foreign = _foreign_owner(root)
        if foreign >= 0:
            text = f"files there belong to uid {foreign}, this process is uid {os.geteuid()}: leases will be refused"
            yield Finding(NOTE, "--incoming", text, "run listener and storescp under one uid")


def _foreign_owner(root: str) -> int:
    if os.geteuid() == 0:
        return -1
    with os.scandir(root) as entries:
        for entry in islice(entries, _SAMPLE):
            owner = entry.stat(follow_symlinks=False).st_uid
            if owner != os.geteuid():
                return owner
    return -1


def owners(config: Config) -> Iterator[Finding]:
    """Check whether a listener holds an incoming directory: the service of this state directory, or another one."""
    state = _running(config.state)
    for root in config.incoming:
        try:
            IncomingLock((root,), patience=0, makes=False).close()
        except OwnedElsewhere as error:
            details = ", ".join(text for text in (_holder(root), state) if text)
            about = f" ({details})" if details else ""
            if state:
                yield Finding(OK, "--incoming", f"a service owns '{root}'{about}")
            else:
                what, _, remedy = str(error).partition("; ")
                yield Finding(NOTE, "--incoming", f"{what}{about}", remedy)
        except OSError:
            return  # Locks do not work there: reported by `lock_support`.


def _holder(root: str) -> str:
    """Return the process that holds a directory's lock; "" where the kernel does not list it."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return locks.holder(descriptor).partition(" (")[0]
    finally:
        os.close(descriptor)


def _running(state_dir: str) -> str:
    """Return the state of the service of a state directory in words; "" when none runs."""
    try:
        live = snapshot.read(state_dir)
    except OSError:
        return ""
    return STATES[str(live["state"])] if live and is_running(live, time.time_ns()) else ""


def unfinished(config: Config) -> Iterator[Finding]:
    """Check for claims of incoming directories that are no longer configured."""
    for orphans in orphans_of(config.incoming, config.state):
        yield Finding(PROBLEM, "--incoming", orphans.text(), orphans.remedy())


def foreign_directories(config: Config) -> Iterator[Finding]:
    """Check that existing directories of tree and logs can be written (those of a tree that was taken over)."""
    for option, path in (("--data", config.data), ("--log", config.log)):
        owner = next(_unwritable_directories(path), None)
        if owner is not None:
            text = f"a directory in '{path}' belongs to uid {owner}, and uid {os.geteuid()} cannot write there"
            yield Finding(PROBLEM, option, text, "run under the uid that made it, or change the owner of all of it")


def _unwritable_directories(path: str) -> Iterator[int]:
    """Yield the owners of directories, on two levels, in which this user cannot make files."""
    for above in (path, *_directories(path)):
        for below in _directories(above):
            if not os.access(below, os.W_OK | os.X_OK):
                yield os.stat(below).st_uid


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in islice(entries, _SAMPLE) if entry.is_dir(follow_symlinks=False)]
    except PermissionError:
        return []


def modes(config: Config) -> Iterator[Finding]:
    """Check that --dir-mode and --file-mode leave this user enough permissions."""
    if config.dir_mode & 0o700 != 0o700:
        text = f"--dir-mode {config.dir_mode:04o}: nothing could be made in a directory of the tree"
        yield Finding(PROBLEM, "--dir-mode", text, "give the owner all of it, such as 0755 or 0750")
    if config.file_mode is not None and not config.file_mode & 0o400:
        text = f"--file-mode {config.file_mode:04o}: a published file could not be compared with another"
        yield Finding(PROBLEM, "--file-mode", text, "let the owner read, such as 0644 or 0640")


def readers(config: Config, *, proc: str = "/proc") -> Iterator[Finding]:
    """Check that other users can read the tree and the logs."""
    closed = [f"'{path}' has mode {_mode(path):04o}" for path in (config.data, config.log) if _mode(path) & 0o5 != 0o5]
    if config.dir_mode & 0o5 != 0o5:
        closed.append(f"--dir-mode is {config.dir_mode:04o}")
    if config.file_mode is not None and not config.file_mode & 0o4:
        closed.append(f"--file-mode is {config.file_mode:04o}")
    umask = _umask(proc)
    if umask & 0o4:
        closed.append(f"the umask is {umask:04o}, so that JSON logs are not for others")
    if closed:
        text = f"only uid {os.geteuid()}, or its group, can read what is published ({'; '.join(closed)})"
        yield Finding(
            NOTE, "--dir-mode", text, "run what reads the tree and the logs under this uid or group, or open it"
        )


def _mode(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


def _umask(proc: str) -> int:
    """Return this process's umask without setting it; 0 where the system does not show it."""
    try:
        with open(f"{proc}/self/status", encoding="utf-8", errors="replace") as file:
            masks = [line.split()[1] for line in file if line.startswith("Umask:")]
    except OSError:
        return 0
    return int(masks[0], 8) if masks else 0

"""Mounts: which one a directory lies on, and whether rename and link work on it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from listener.planning.names import OWN, short_hash

_PROC = "/proc/self"

#: File systems whose files other machines change, which inotify never hears of. FUSE may be one.
_NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "fuseblk", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs")
) | {"nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"}


#: Object stores that are shown as directories: no file is renamed in one step, linked or locked there. Prefixes of the
#: names that their programs give.
_OBJECT_STORES = ("s3fs", "mount-s3", "goofys", "geesefs", "gcsfuse", "blobfuse", "ossfs", "rclone", "riofs", "cosfs")

#: Options by which locks are kept on this machine alone.
_LOCAL_LOCKS = frozenset(("nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock", "noflock"))


class Mount(NamedTuple):
    """The mount's number, the name of its file system, what is mounted, and the options that it is mounted with."""

    number: str
    kind: str
    source: str = ""
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        """Whether other machines may change files there."""
        return self.kind in _NETWORK or self.kind.startswith("fuse.")

    @property
    def is_object_store(self) -> bool:
        """Whether an object store is shown as directories; by the name that its program gives the mount."""
        names = (self.kind.removeprefix("fuse."), self.source)
        return self.is_network and any(name.startswith(_OBJECT_STORES) for name in names)

    @property
    def local_locks(self) -> str:
        """The option by which locks are not seen by other machines; "" without one."""
        return min(self.options & _LOCAL_LOCKS, default="") if self.is_network else ""


class Location(NamedTuple):
    """Where a directory lies in its file system: `volume` tells which one, `path` is from its root, whatever of it is
    mounted where.
    """

    volume: str
    path: str


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory lies on; None where the system does not say."""
    try:
        number, row, kind, source, options = _row_of(directory)
    except (OSError, KeyError, ValueError):
        return None
    return Mount(number, kind, source, frozenset([*row[5].split(","), *options.split(",")]))


def location_of(directory: str) -> Location | None:
    """Where a directory lies in its file system; None where the system does not say."""
    try:
        _, row, kind, source, _ = _row_of(directory)
        root, point = map(_unescaped, row[3:5])
        below = os.path.relpath(os.path.realpath(directory), point)
    except (OSError, KeyError, ValueError):
        return None
    volume, above = row[2], ""
    if kind in ("nfs", "nfs4"):  # Mounted twice it may have two device numbers.
        volume, _, above = source.rpartition(":")
    return Location(volume, os.path.normpath(f"/{above}/{root}/{below}"))


def _row_of(directory: str) -> tuple[str, list[str], str, str, str]:
    """A directory's line of mountinfo: the mount's number, the fields before the separator, file system, source and the
    file system's own options.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(f"{_PROC}/fdinfo/{descriptor}", encoding="ascii") as file:
            told = dict(line.split(":", 1) for line in file if ":" in line)
    finally:
        os.close(descriptor)
    number = told["mnt_id"].strip()
    with open(f"{_PROC}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = {line.split(" ", 1)[0]: line for line in file}
    before, _, after = lines[number].partition(" - ")
    kind, source, options = after.rstrip("\n").split(" ")[:3]
    return number, before.split(" "), kind, source, options


def _unescaped(text: str) -> str:
    r"""A path of mountinfo: blanks, tabs, newlines and backslashes are written as `\040` and its like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def is_network(directory: str) -> bool:
    """Whether other machines may change files in a directory; False where the system does not say."""
    mount = mount_of(directory)
    return mount is not None and mount.is_network


#: How old a trial file of another machine is when it is taken for left over, in seconds.
_DAY = 86_400.0

#: How long, and how often, a directory is made again that others take away meanwhile, in seconds.
_RETRY_SECONDS, _PAUSE = 3.0, 0.002


class MoveSupport(NamedTuple):
    """What works between two directories."""

    renames: bool
    links: bool


def private_dir(directory: str) -> str:
    """Our own corner of a user's directory, where nobody else looks."""
    return os.path.join(directory, OWN)


def trial_name() -> str:
    """A name for a trial file that no other process gives: its first part is this machine's run and process space."""
    return f"trial-{_pid_namespace()}-{os.getpid():x}-{secrets.token_hex(8)}"


def is_leftover(entry: os.DirEntry[str]) -> bool:
    """Whether a trial file is nobody's any more: of a process of this machine that has ended, or a day old."""
    parts = entry.name.lstrip(".").removeprefix("listener-").split("-")
    if parts[0] != "trial":
        return False
    if len(parts) >= 4 and parts[1] == _pid_namespace():
        pid = int(parts[2], 16)
        return pid == os.getpid() or not os.path.exists(f"/proc/{pid}")
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY


@cache
def _pid_namespace() -> str:
    """This run of the machine, and its space of process numbers: containers have one each."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return short_hash(f"{file.read()}{os.stat('/proc/self/ns/pid').st_ino}")
    except OSError:  # A kernel that does not tell.
        return short_hash(os.uname().nodename)


def probe_moves(source: str, target: str, *, stays: bool = False) -> MoveSupport:
    """Whether a file can be renamed, and hard linked, from one directory of ours into another (made if need be).

    A kill in the middle leaves its files there, for tidy(). An empty corner is removed, unless it `stays`.
    """
    trial = trial_name()
    first, renamed = os.path.join(source, trial), os.path.join(target, trial)
    linked, anchor = f"{renamed}-linked", f"{renamed}-anchor"
    try:
        # One in each directory, so that nobody who tries the same takes an empty one away meanwhile.
        for path in (first, anchor):
            _make(path)
        links = _succeeds(os.link, first, linked)
        return MoveSupport(renames=_succeeds(os.rename, first, renamed), links=links)
    finally:
        for path in (first, linked, renamed, anchor):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for directory in (source, target):
            if os.path.basename(directory) == OWN and not stays:
                with contextlib.suppress(OSError):  # Something of ours lives there.
                    os.rmdir(directory)


def _make(path: str) -> None:
    """An empty file, in a directory that is made if need be."""

    def make() -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    _retry_while_removed(make)


def make_private(path: str) -> None:
    """Make a directory of ours, and those above it; a start beside this one may take an empty one away meanwhile."""
    _retry_while_removed(lambda: os.makedirs(path, mode=0o700, exist_ok=True))


def _retry_while_removed(make: Callable[[], None]) -> None:
    """What another one took away a moment ago, the kernel may still remember as there (a network file system)."""
    end = time.monotonic() + _RETRY_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            make()
            return
        time.sleep(_PAUSE)
    make()


def _succeeds(operation: Callable[[str, str], None], source: str, target: str) -> bool:
    try:
        operation(source, target)
    except OSError:
        return False
    return True

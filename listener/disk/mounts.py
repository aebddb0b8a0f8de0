"""Mounts: on which one a directory lies, and whether rename and link work there."""

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

#: File systems whose files other machines may change, without inotify events. FUSE may be one.
_NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "fuseblk", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs")
) | {"nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"}


#: Object stores mounted as directories, without atomic rename, links or locks: prefixes of their mount names.
_OBJECT_STORES = ("s3fs", "mount-s3", "goofys", "geesefs", "gcsfuse", "blobfuse", "ossfs", "rclone", "riofs", "cosfs")

#: Mount options that keep locks local to this machine.
_LOCAL_LOCKS = frozenset(("nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock", "noflock"))


def is_network_type(kind: str) -> bool:
    """Return whether other machines may change files on a file system of this type; False for "", an unknown one."""
    return kind in _NETWORK or kind.startswith("fuse.")


class Mount(NamedTuple):
    """A mount: its number, type of file system, source and mount options."""

    number: str
    kind: str
    source: str = ""
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        """Return whether other machines may change files there."""
        return is_network_type(self.kind)

    @property
    def is_object_store(self) -> bool:
        """Return whether this is an object store, by the name that its program gives the mount."""
        names = (self.kind.removeprefix("fuse."), self.source)
        return self.is_network and any(name.startswith(_OBJECT_STORES) for name in names)

    @property
    def local_locks(self) -> str:
        """Return the option that hides locks from other machines; "" without one."""
        return min(self.options & _LOCAL_LOCKS, default="") if self.is_network else ""


class Location(NamedTuple):
    """Where a directory lies in its file system: the `volume`, and the `path` from its root, wherever mounted."""

    volume: str
    path: str


class _Row(NamedTuple):
    """A directory's row of mountinfo: number of the mount, fields before the separator, file system, source and the
    file system's own options.
    """

    number: str
    fields: list[str]
    kind: str
    source: str
    options: str


class MountTable:
    """Mounts as they are at one moment: the kernel's table is read once, and each directory is looked up once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._rows: dict[str, _Row | None] = {}

    def mount_of(self, directory: str) -> Mount | None:
        """Return the mount of a directory; None where the system does not tell."""
        row = self._row(directory)
        if row is None:
            return None
        return Mount(row.number, row.kind, row.source, frozenset([*row.fields[5].split(","), *row.options.split(",")]))

    def location_of(self, directory: str) -> Location | None:
        """Return where a directory lies in its file system; None where the system does not tell."""
        row = self._row(directory)
        if row is None:
            return None
        root, point = map(_unescaped, row.fields[3:5])
        below = os.path.relpath(os.path.realpath(directory), point)
        volume, above = row.fields[2], ""
        if row.kind in ("nfs", "nfs4"):  # Mounted twice, it may have two device numbers.
            volume, _, above = row.source.rpartition(":")
        return Location(volume, os.path.normpath(f"/{above}/{root}/{below}"))

    def system_of(self, directory: str) -> str:
        """Return the type of a directory's file system; "" where the system does not tell."""
        row = self._row(directory)
        return row.kind if row else ""

    def _row(self, directory: str) -> _Row | None:
        if directory not in self._rows:
            try:
                self._rows[directory] = self._look_up(directory)
            except (OSError, KeyError, ValueError):
                self._rows[directory] = None
        return self._rows[directory]

    def _look_up(self, directory: str) -> _Row:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(f"{_PROC}/fdinfo/{descriptor}", encoding="utf-8") as file:
                info = dict(line.split(":", 1) for line in file if ":" in line)
        finally:
            os.close(descriptor)
        number = info["mnt_id"].strip()
        if number not in self._lines:  # The first one, or mounted since.
            with open(f"{_PROC}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                self._lines = {line.split(" ", 1)[0]: line for line in file}
        before, _, after = self._lines[number].partition(" - ")
        kind, source, options = after.rstrip("\n").split(" ")[:3]
        return _Row(number, before.split(" "), kind, source, options)


def mount_of(directory: str) -> Mount | None:
    """Return the mount of a directory as it is now; None where the system does not tell."""
    return MountTable().mount_of(directory)


def is_network(directory: str) -> bool:
    """Return whether other machines may change files in a directory as it is now; False where the system does not
    tell.
    """
    return is_network_type(MountTable().system_of(directory))


def _unescaped(text: str) -> str:
    r"""Return a path of mountinfo, where blanks, tabs, newlines and backslashes are written as `\040` and so on."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


#: Age in seconds at which a trial file of another machine counts as a leftover.
_DAY = 86_400.0

#: Seconds for which a directory that others remove meanwhile is made again, and the pause between attempts.
_RETRY_SECONDS, _PAUSE = 3.0, 0.002


class MoveSupport(NamedTuple):
    """Which operations work between two directories."""

    renames: bool
    links: bool


def private_dir(directory: str) -> str:
    """Return the path of our private directory inside a user's directory."""
    return os.path.join(directory, OWN)


def trial_name() -> str:
    """Return a unique name for a trial file; its first part identifies this boot and process namespace."""
    return f"trial-{_pid_namespace()}-{os.getpid():x}-{secrets.token_hex(8)}"


def is_leftover(entry: os.DirEntry[str]) -> bool:
    """Return whether a trial file is a leftover: its process on this machine has ended, or it is a day old."""
    parts = entry.name.lstrip(".").removeprefix("listener-").split("-")
    if parts[0] != "trial":
        return False
    if len(parts) >= 4 and parts[1] == _pid_namespace():
        pid = int(parts[2], 16)
        return pid == os.getpid() or not os.path.exists(f"/proc/{pid}")
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY


@cache
def _pid_namespace() -> str:
    """Return a hash of this boot and process namespace (each container has its own)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return short_hash(f"{file.read()}{os.stat('/proc/self/ns/pid').st_ino}")
    except OSError:  # /proc is restricted.
        return short_hash(os.uname().nodename)


def probe_moves(source: str, target: str, *, stays: bool = False) -> MoveSupport:
    """Return whether a file can be renamed, and hard linked, from one private directory into another (made as needed).

    A kill leaves trial files for remove_leftovers(). An empty private directory is removed, unless it `stays`.
    """
    trial = trial_name()
    first, renamed = os.path.join(source, trial), os.path.join(target, trial)
    linked, anchor = f"{renamed}-linked", f"{renamed}-anchor"
    try:
        # A file in each directory, so that a concurrent probe removes neither as empty.
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
                with contextlib.suppress(OSError):  # In use.
                    os.rmdir(directory)


def _make(path: str) -> None:
    """Create an empty file, and its directory as needed."""

    def make() -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    _retry_while_removed(make)


def make_private(path: str) -> None:
    """Make a private directory and its parents, even while a concurrent start removes empty ones."""
    _retry_while_removed(lambda: os.makedirs(path, mode=0o700, exist_ok=True))


def _retry_while_removed(make: Callable[[], None]) -> None:
    """Call `make` again while others remove its directory; a network file system may still show it as present."""
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

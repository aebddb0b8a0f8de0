"""The user's four directories, and the private ones for claims, staging and locks, each where rename and link work.

That is found out by trying, not by st_dev: two mounts of one file system have the same one and still refuse to rename
(EXDEV).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from listener.config import Config
from listener.disk import aliases, orphans, sync
from listener.disk.identity import DirectoryIdentity
from listener.disk.mounts import (
    MountTable,
    MoveSupport,
    is_leftover,
    is_network_type,
    make_private,
    private_dir,
    probe_moves,
)
from listener.disk.moves import COPYING
from listener.disk.retry import is_transient
from listener.errors import ConfigError
from listener.planning.names import OWN, short_hash

_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Directories:
    """Absolute paths of a run. `claims` and `links` go with `incoming` by index; `links` says whether a claim can be
    hard linked into data, otherwise bytes are copied through `data_staging`. The last of `incoming` are `batches`,
    whose files are not claimed (""). `systems` holds the types of file systems at the start, by directory, for all but
    staging; `part` is that of a backfill, whose claims bear its name. `root_names` names each of `incoming`, for a part
    so that all hosts do. A reader without incoming needs `data`, `log` and `state` only.
    """

    incoming: tuple[str, ...] = ("",)
    claims: tuple[str, ...] = ("",)
    links: tuple[bool, ...] = (True,)
    batches: tuple[str, ...] = ()
    data: str
    log: str
    state: str
    data_staging: str = ""
    log_staging: str = ""
    locks: str = ""
    set_aside: str = ""
    state_staging: str = ""
    systems: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    root_names: tuple[str, ...] = ("",)

    def claim_places(self, root_index: int) -> tuple[str, str]:
        """Return the two possible directories of claims of an incoming directory, as claim_directories does."""
        return _claim_places(self.incoming[root_index], self.root_names[root_index], self.state, self.part)

    def is_network(self, path: str) -> bool:
        """Return whether other machines may change files in one of these directories, by what was there at the
        start.
        """
        return is_network_type(self.systems.get(path, ""))

    def identity_of(self, path: str) -> DirectoryIdentity:
        """Return the identity of one of these directories, as it is now."""
        return DirectoryIdentity(path, self.systems.get(path))

    @property
    def stagings(self) -> set[str]:
        """Return the directories that hold nothing but our temporaries."""
        return {path for path in (self.data_staging, self.log_staging, self.state_staging) if path}


def prepare(config: Config) -> Directories:
    """Make missing directories, and find out where rename and link work.

    Raises ConfigError that names every unusable directory.
    """
    ours = [("--data", config.data), ("--log", config.log), ("--state", config.state)]
    table = MountTable()
    # What is only read may lie on a volume that is mounted so.
    sources = [("--incoming", root) for root in config.incoming if not _is_only_read(root, config)]
    _make_all([*sources, *ours], table, _roots_of_batches(config))
    owner = _owner(config)
    claims = tuple(_claim_directory(root, config, table) for root in config.incoming)
    data_staging = _staging(config.data, config.state, owner, table)
    log_staging = _staging(config.log, config.state, owner, table)
    links = [_probe(claim, private_dir(config.data), table).links for claim in claims]
    if config.batch_source == "remove":
        links += [_probe(private_dir(root), private_dir(config.data), table).links for root in config.batches]
    else:
        links += [False for _ in config.batches]
    return Directories(
        incoming=config.roots,
        claims=(*claims, *("" for _ in config.batches)),
        links=tuple(links),
        batches=config.batches,
        data=config.data,
        log=config.log,
        state=config.state,
        data_staging=data_staging,
        log_staging=log_staging,
        locks=_private(config.log, OWN, "locks"),
        set_aside=_private(config.state, "set-aside"),
        state_staging=_private(config.state, "staging", owner),
        systems=_systems(table, *config.roots, *claims, config.data, config.log, config.state),
        part=config.part,
        root_names=tuple(_root_name(root, config.part) for root in config.roots),
    )


def _systems(table: MountTable, *paths: str) -> dict[str, str]:
    return {path: table.system_of(path) for path in paths if path}


def remove_leftovers(directories: Directories) -> None:
    """Remove the temporaries of earlier runs. Only for the owner of incoming, before work begins."""
    owner = os.path.basename(directories.state_staging)
    elsewhere = {os.path.join(path, OWN, "staging", owner) for path in (directories.data, directories.log)}
    for staging in directories.stagings | elsewhere:
        with contextlib.suppress(FileNotFoundError), os.scandir(staging) as entries:
            for entry in entries:
                os.unlink(entry.path)
    places = (directories.data, directories.log, directories.state, *directories.incoming, *directories.claims)
    own = [path for path in places if path]
    for path in own:
        home = private_dir(path)
        _remove_trials(home)
        if not directories.is_network(path):
            with contextlib.suppress(OSError):  # In use, or absent.
                os.rmdir(home)
    for home in filter(None, directories.claims):
        _remove_trials(home)


def _probe(source: str, target: str, table: MountTable) -> MoveSupport:
    """Probe moves between two directories. Private ones on a network file system stay, since another machine's kernel
    may still expect them.
    """
    homes = [os.path.dirname(path) for path in (source, target) if os.path.basename(path) == OWN]
    return probe_moves(source, target, stays=any(is_network_type(table.system_of(path)) for path in homes))


def _remove_trials(home: str) -> None:
    with contextlib.suppress(FileNotFoundError), os.scandir(home) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.name.startswith(COPYING) or is_leftover(entry):
                    os.unlink(entry.path)


def prepare_direct(data: str, log: str, state: str) -> Directories:
    """Prepare directories for `repack`, which has no incoming and needs no state, with staging of its own."""
    table = MountTable()
    _make_all([("--data", data), ("--log", log), *([("--state", state)] if state else [])], table)
    run = f"repack-{os.getpid()}-{secrets.token_hex(4)}"
    for path in (data, log, *([state] if state else [])):
        remove_killed_runs(path)
    return Directories(
        data=data,
        log=log,
        state=state,
        data_staging=_private(data, OWN, "staging", run),
        log_staging=_private(log, OWN, "staging", run),
        locks=_private(log, OWN, "locks"),
        set_aside=_private(state, "set-aside") if state else "",
        state_staging=_private(state, "staging", run) if state else "",
        systems=_systems(table, data, log, state),
    )


def remove_killed_runs(path: str) -> None:
    """Remove the staging directories of `repack` and `verify` runs that were killed more than a day ago."""
    for staging in (os.path.join(path, OWN, "staging"), os.path.join(path, "staging")):
        with contextlib.suppress(FileNotFoundError), os.scandir(staging) as entries:
            for entry in entries:
                if entry.name.startswith(("repack-", "verify-")) and time.time() - entry.stat().st_mtime > _DAY:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _roots_of_batches(config: Config) -> list[tuple[str, str, bool]]:
    """Return option and path of the directories of batches, and whether these are only read."""
    return [("--batches", root, config.batch_source == "keep") for root in config.batches]


def _make_all(named: list[tuple[str, str]], table: MountTable, batches: Sequence[tuple[str, str, bool]] = ()) -> None:
    problems = []
    read_only = {path for _, path, only_read in batches if only_read}
    named = [*named, *((option, path) for option, path, _ in batches)]
    for option, path in named:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            if is_transient(error):
                raise
            problems.append(_creation_error(option, path, error))
            continue
        problems += _access_errors(option, path, writes=path not in read_only)
        if not problems and os.path.isdir(private_dir(path)):  # As root's, where a command was given as root.
            problems += _access_errors(option, private_dir(path))
    if not problems:
        problems += aliases.overlaps(named, table)
    if problems:
        raise ConfigError(problems)


def _creation_error(option: str, path: str, error: OSError) -> str:
    """Return what prevents making `path`, with a remedy: it is the last line that a container prints before it ends."""
    above, why, remedy = path, error.strerror or "refused", "make it, or give one that can be written"
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if isinstance(error, PermissionError):
        why += f": '{above}' belongs to uid {os.stat(above).st_uid}, this process is uid {os.geteuid()}"
    elif not os.path.isdir(above):
        why, remedy = f"'{above}' is not a directory", "give a directory, or move what is there"
    elif error.errno == errno.EROFS:
        remedy = "mount a volume there that can be written"
    return f"{option}: cannot make '{path}' ({why}); {remedy}"


def _access_errors(option: str, path: str, *, writes: bool = True) -> list[str]:
    if not os.path.isdir(path):
        return [f"{option}: '{path}' is not a directory; give a directory"]
    if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if writes else 0)):
        owner = os.stat(path).st_uid
        who = f"it belongs to uid {owner}, this process is uid {os.geteuid()}"
        remedy = "run both under one uid, or change its owner or mode"
        what = "no permission to write in" if writes else "no permission to read in"
        return [f"{option}: {what} '{path}' ({who}); {remedy}"]
    return []


def _private(*parts: str) -> str:
    path = os.path.join(*parts)
    make_private(path)
    return path


def _owner(config: Config) -> str:
    """Return a name for this service's staging that no other live listener uses: a hash of the state directory's id and
    incoming.
    """
    path = os.path.join(config.state, "id")
    if not (os.path.isfile(path) and os.path.getsize(path)):  # A full volume or a power cut may have left it empty.
        fresh = f"{path}-{secrets.token_hex(4)}"
        try:
            with open(fresh, "x", encoding="utf-8") as file:
                file.write(secrets.token_hex(8))
                file.flush()
                sync.descriptors([file.fileno()])
            os.rename(fresh, path)
            sync.directories([config.state])  # With another id after a power cut, temporaries would be left behind.
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
    with open(path, encoding="utf-8", errors="replace") as file:
        identity = file.read()
    if config.part:  # Its state is its own; the host that goes on with it may mount incoming elsewhere.
        return short_hash(identity)
    return short_hash("\0".join((identity, *map(os.path.realpath, config.incoming or config.batches))))


def claim_directories(root: str, state: str, part: str = "") -> tuple[str, str]:
    """Return the two possible directories of claims of `root`: in the state directory, and in incoming itself. An
    earlier run, with other mounts, may have used the other one. Parts of a backfill share incoming.
    """
    return _claim_places(root, _root_name(root, part), state, part)


def _root_name(root: str, part: str) -> str:
    """Return a name for an incoming directory: of its path; for a part of its inode, which is the same on all hosts,
    while each may mount the volume elsewhere.
    """
    return f"{os.stat(root).st_ino:x}" if part else short_hash(os.path.realpath(root))


def _claim_places(root: str, name: str, state: str, part: str) -> tuple[str, str]:
    return os.path.join(state, "claim", name), os.path.join(root, OWN, "claim", f"{name}-{part}" if part else name)


def _is_only_read(root: str, config: Config) -> bool:
    return config.keep_source and os.path.isdir(root) and not os.access(root, os.W_OK)


def _claim_directory(root: str, config: Config, table: MountTable) -> str:
    state = config.state
    path, inside = claim_directories(root, state, config.part)
    if _is_only_read(root, config):  # No claim is made.
        return _private(path)
    if _probe(private_dir(root), _private(path), table).renames:
        orphans.record(state, os.path.basename(path), root)
        return path
    with contextlib.suppress(OSError):  # Not empty: claims of an earlier run.
        os.rmdir(path)
    return _private(inside)


def _staging(target: str, state: str, owner: str, table: MountTable) -> str:
    path = _private(state, "staging", owner)
    if _probe(path, private_dir(target), table).renames:
        return path
    return _private(target, OWN, "staging", owner)

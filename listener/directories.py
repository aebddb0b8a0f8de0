"""Where everything lives: the user's four directories, and our own claims, staging and locks, each where rename and
link work.

Never decided by st_dev: two mounts of one file system have the same one and still refuse to rename (EXDEV), so it is
tried.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from typing import NamedTuple

from listener.config import Config
from listener.errors import ConfigError
from listener.names import OWN, short_hash
from listener.retry import passes

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Directories:
    """Absolute paths. `claims` and `links` go with `incoming` by index; `links` says whether a claim can be hard linked
    into data, else bytes must be copied through `data_staging`.
    """

    incoming: tuple[str, ...]
    claims: tuple[str, ...]
    links: tuple[bool, ...]
    data: str
    log: str
    state: str
    data_staging: str
    log_staging: str
    locks: str
    set_aside: str
    state_staging: str

    @property
    def stagings(self) -> set[str]:
        """The directories that hold nothing but temporaries of ours."""
        return {one for one in (self.data_staging, self.log_staging, self.state_staging) if one}


class Trial(NamedTuple):
    """What works between two directories."""

    renames: bool
    links: bool


def prepare(config: Config) -> Directories:
    """Make what is missing and find out by trying where rename and link work.

    Raises ConfigError naming every directory that cannot be used.
    """
    ours = [("--data", config.data), ("--log", config.log), ("--state", config.state)]
    _make_all([*(("--incoming", one) for one in config.incoming), *ours])
    owner = _owner(config)
    claims = tuple(_claim_directory(root, config.state) for root in config.incoming)
    data_staging = _staging(config.data, config.state, owner)
    log_staging = _staging(config.log, config.state, owner)
    return Directories(
        incoming=config.incoming,
        claims=claims,
        links=tuple(try_moves(claim, config.data).links for claim in claims),
        data=config.data,
        log=config.log,
        state=config.state,
        data_staging=data_staging,
        log_staging=log_staging,
        locks=_private(config.log, OWN, "locks"),
        set_aside=_private(config.state, "set-aside"),
        state_staging=_private(config.state, "staging", owner),
    )


def tidy(directories: Directories) -> None:
    """Remove the temporaries that an earlier run of ours left; only for the owner of incoming, before work begins."""
    for staging in directories.stagings:
        with os.scandir(staging) as entries:
            for entry in entries:
                os.unlink(entry.path)
    own = (directories.data, directories.log, directories.state, *directories.incoming, *directories.claims)
    for home in (*(os.path.join(one, OWN) for one in own), *directories.claims):
        _forget_trials(home)


def _forget_trials(home: str) -> None:
    with contextlib.suppress(FileNotFoundError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.startswith(("trial-", ".trial-")):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def prepare_direct(data: str, log: str, state: str) -> Directories:
    """The same for `repack`, which has no incoming and needs no state: staging of its own below data and log."""
    _make_all([("--data", data), ("--log", log), *([("--state", state)] if state else [])])
    run = f"repack-{os.getpid()}-{secrets.token_hex(4)}"
    for path in (data, log, *([state] if state else [])):
        _forget_killed_runs(path)
    return Directories(
        incoming=("",),
        claims=("",),
        links=(True,),
        data=data,
        log=log,
        state=state,
        data_staging=_private(data, OWN, "staging", run),
        log_staging=_private(log, OWN, "staging", run),
        locks=_private(log, OWN, "locks"),
        set_aside=_private(state, "set-aside") if state else "",
        state_staging=_private(state, "staging", run) if state else "",
    )


def _forget_killed_runs(path: str) -> None:
    """Remove the staging directories of `repack` runs that were killed more than a day ago."""
    for staging in (os.path.join(path, OWN, "staging"), os.path.join(path, "staging")):
        with contextlib.suppress(FileNotFoundError), os.scandir(staging) as entries:
            for entry in entries:
                if entry.name.startswith("repack-") and time.time() - entry.stat().st_mtime > _DAY:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _make_all(named: list[tuple[str, str]]) -> None:
    problems = []
    for option, path in named:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            if passes(error):
                raise
            problems.append(
                f"{option}: cannot make '{path}' ({error.strerror}); make it, or give one that can be written"
            )
            continue
        problems += _unusable(option, path)
    if problems:
        raise ConfigError(problems)


def _unusable(option: str, path: str) -> list[str]:
    if not os.path.isdir(path):
        return [f"{option}: '{path}' is not a directory; give a directory"]
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        owner = os.stat(path).st_uid
        who = f"it belongs to uid {owner}, this process is uid {os.geteuid()}"
        remedy = "run both under one uid, or change its owner or mode"
        return [f"{option}: no permission to write in '{path}' ({who}); {remedy}"]
    return []


def _private(*parts: str) -> str:
    path = os.path.join(*parts)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def _owner(config: Config) -> str:
    """A name for this service's staging that no other live listener uses: of the state directory and its incoming."""
    path = os.path.join(config.state, "id")
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(8))
    with open(path, encoding="ascii", errors="replace") as file:
        identity = file.read()
    return short_hash("\0".join((identity, *map(os.path.realpath, config.incoming))))


def _claim_directory(root: str, state: str) -> str:
    name = short_hash(os.path.realpath(root))
    path = _private(state, "claim", name)
    if try_moves(root, path).renames:
        return path
    os.rmdir(path)
    return _private(root, OWN, "claim", name)


def _staging(target: str, state: str, owner: str) -> str:
    path = _private(state, "staging", owner)
    if try_moves(path, target).renames:
        return path
    return _private(target, OWN, "staging", owner)


def try_moves(source: str, target: str) -> Trial:
    """Whether a file can be renamed, and hard linked, from one directory into another.

    Tried in `.listener/` below each, where nobody looks; a kill in the middle leaves its files there for tidy().
    """
    name = f"trial-{secrets.token_hex(8)}"
    homes = [os.path.join(one, OWN) for one in (source, target)]
    first, linked, renamed = (
        os.path.join(homes[0], name),
        os.path.join(homes[1], name + "-l"),
        os.path.join(homes[1], name),
    )
    try:
        for home in homes:
            os.makedirs(home, mode=0o700, exist_ok=True)
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        links = _succeeds(os.link, first, linked)
        return Trial(renames=_succeeds(os.rename, first, renamed), links=links)
    finally:
        for path in (first, linked, renamed):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for home in homes:
            with contextlib.suppress(OSError):
                os.rmdir(home)


def _succeeds(operation: object, source: str, target: str) -> bool:
    try:
        operation(source, target)  # type: ignore[operator]
    except OSError:
        return False
    return True

"""The routes file as it lies there: read with its certificates, and again when it changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from listener.errors import ConfigError
from listener.network.association import Patience, Peer
from listener.network.stream import tls_context
from listener.route.routes_file import Routes, Target, read

#: Most bytes of a routes file.
_MOST_BYTES = 1_000_000


class Loaded(NamedTuple):
    """A routes file: what it says, its text, and the peer of each target that is not a directory."""

    routes: Routes
    text: str
    peers: Mapping[str, Peer]


class Look(NamedTuple):
    """What of a file tells that it changed, also by a link that was swapped. All 0: it cannot be seen."""

    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, path: str) -> Look:
        """Return how a file looks now."""
        try:
            about = os.stat(path)
        except OSError:
            return cls()
        return cls(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


def looks(path: str, routes: Routes) -> tuple[Look, ...]:
    """Return how a routes file looks now, and the certificates and keys that it names."""
    tls = [target.tls for target in routes.targets.values() if target.tls]
    return tuple(Look.of(one) for one in (path, *(file for files in tls for file in files if file)))


def load(path: str) -> Loaded:
    """Read a routes file and the certificates that it names. Raises ConfigError with every problem."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise ConfigError([f"'{path}' is a directory; name a file"])
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"'{path}' cannot be read ({error.strerror}); name a routes file"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"'{path}' is not UTF-8; write it anew"]) from None
    if len(text) > _MOST_BYTES:
        raise ConfigError([f"'{path}' has more than {_MOST_BYTES} characters; that is no routes file"])
    routes = read(text)
    problems: list[str] = []
    peers = {name: _peer(target, problems) for name, target in routes.targets.items() if not target.directory}
    if problems:
        raise ConfigError(problems)
    return Loaded(routes, text, peers)


def _peer(target: Target, problems: list[str]) -> Peer:
    context = None
    if target.tls:
        try:
            context = tls_context(target.tls.ca, target.tls.cert, target.tls.key)
        except OSError as error:
            kind = "workers" if target.is_worker else "destinations"
            why = getattr(error, "reason", "") or error.strerror or type(error).__name__
            problems.append(f"[{kind}.{target.name}]: tls: its files cannot be used ({why}); give PEM files")
    return Peer(target.host, target.port, target.aet, target.calling, context)


def patience_of(target: Target) -> Patience:
    """Return how long a target may take."""
    return Patience(response=target.response)

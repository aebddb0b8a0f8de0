"""PURE. Which set-aside files a request to put some back means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from listener.errors import ConfigError
from listener.planning.names import printable

#: Putting all of these back would let older data sets take the place of newer ones.
_SUPERSEDED = "superseded"


class Request(NamedTuple):
    """What to put back: files by `names` (exact, or shell patterns), of `reasons` (none: of all)."""

    names: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    every: bool = False
    dry_run: bool = False
    json: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Request:
        """From the command line. Raises ConfigError when nothing is selected."""
        names, reasons = tuple(arguments["names"]), tuple(arguments["reasons"] or ())
        if not names and not reasons and not arguments["all"]:
            raise ConfigError(["retry: nothing is selected; name files, or give --reason R or --all"])
        if names and arguments["all"]:
            raise ConfigError(["retry: --all and names exclude each other; give one of them"])
        return cls(names, reasons, arguments["all"], arguments["dry_run"], arguments["json"])


class Entry(NamedTuple):
    """One file in set-aside: its path, reason and original name, and the incoming directory that it came from ("" where
    its reason file does not tell).
    """

    path: str
    reason: str
    name: str
    incoming: str

    @property
    def names(self) -> frozenset[str]:
        """What it may be called: as it lies there, and as it arrived."""
        return frozenset((printable(self.path.rpartition("/")[2]), self.name))


class Choice(NamedTuple):
    """What a request means: files to put back, names that fit none, and how many superseded ones it left."""

    chosen: list[Entry]
    unknown: list[str]
    left: int


def choose(request: Request, entries: Iterable[Entry]) -> Choice:
    """What `request` means among `entries`. Superseded ones are only meant by their exact name or their reason."""
    chosen, left = [], 0
    unknown = dict.fromkeys(request.names)
    for entry in entries:
        fits = [name for name in request.names if _fits(name, entry)]
        for name in fits:
            unknown.pop(name, None)
        if request.names and not fits:
            continue
        meant = entry.reason != _SUPERSEDED or _SUPERSEDED in request.reasons or bool(entry.names & {*fits})
        if meant:
            chosen.append(entry)
        left += not meant
    return Choice(chosen, list(unknown), left)


def _fits(name: str, entry: Entry) -> bool:
    return printable(name) in entry.names or any(fnmatchcase(one, printable(name)) for one in entry.names)

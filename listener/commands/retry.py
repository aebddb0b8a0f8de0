"""Put set-aside files back into incoming, or give folders with an error their names back.

The service or `listener once` finds them there.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import orjson

from listener.commands import _batch_retry
from listener.commands._selection import add_acting, add_selection, check_acting, check_user, is_acting, reasons_of
from listener.config import Config
from listener.disk import files, json_file, moves, sync
from listener.disk.moves import rename_free
from listener.errors import ConfigError, LockHeld
from listener.planning.names import printable, short_hash
from listener.reasons import SET_ASIDE_REASONS
from listener.repacking import setaside

#: Putting all of these back would let older data sets take the place of newer ones.
_SUPERSEDED = "superseded"

EPILOG = (
    "superseded files go back only when named exactly or by --reason superseded: they would replace newer "
    "data sets; exit status: 0 all of them are back; 1 a name or reason is unknown, or a file stayed; 2 "
    "nothing is selected, or the configuration is wrong"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="a set-aside file's name, or a shell pattern of names")
    add_selection(parser)
    text = "give the refused folder of a batch (X.err) its name back: by the folder's name, or the batch's number"
    parser.add_argument("--batch", action="append", default=[], metavar="X", dest="batches_again", help=text)
    parser.add_argument("--all", action="store_true", help="all of them, but for superseded ones")
    add_acting(parser, acts=True)
    parser.add_argument("--json", action="store_true", help="one JSON object a file, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return is_acting(given, acts=True)


def run(config: Config, given: argparse.Namespace) -> int:
    """Put back what the command line selects. Return 0, or 1 when something stayed or is unknown."""
    check_acting(given, "retry")
    if given.batches_again:
        if given.names or given.all or given.reasons or given.sender or given.study:
            raise ConfigError(["retry: --batch takes folders again, and no set-aside files; give one of them"])
        return _batch_retry.retry(
            config, given.batches_again, dry_run=not is_acting(given, acts=True), as_json=given.json
        )
    return retry(config, Request.of(given))


class Request(NamedTuple):
    """What to put back: files by `names` (exact, or shell patterns), of `reasons` (none: of all), and of one `sender`
    or `study` ("": of any).
    """

    names: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    sender: str = ""
    study: str = ""
    every: bool = False
    dry_run: bool = False
    json: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> Request:
        """Read it from the command line. Raise ConfigError when nothing is selected, and UnknownReason."""
        names, reasons = tuple(given.names), reasons_of(given.reasons)
        if not (names or reasons or given.sender or given.study or given.all):
            raise ConfigError(
                ["retry: nothing is selected; name files, or give --reason R, --sender, --study or --all"]
            )
        if names and given.all:
            raise ConfigError(["retry: --all and names exclude each other; give one of them"])
        shows = not is_acting(given, acts=True)
        return cls(names, reasons, given.sender, given.study, every=given.all, dry_run=shows, json=given.json)


class Entry(NamedTuple):
    """One file in set-aside: its path, reason and original name; the incoming directory that it came from, its sender
    and its study ("" where its reason file has none).
    """

    path: str
    reason: str
    name: str
    incoming: str
    sender: str = ""
    study: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Return the names that select it: its name in set-aside, and that with which it arrived."""
        return frozenset((printable(self.path.rpartition("/")[2]), self.name))


class Choice(NamedTuple):
    """The files that a request selects, names that match none, and how many superseded files are `left`."""

    chosen: list[Entry]
    unknown: list[str]
    left: int


def choose(request: Request, entries: Iterable[Entry]) -> Choice:
    """Return what `request` selects. Superseded files are selected by exact name or by reason only."""
    chosen, left = [], 0
    unknown = dict.fromkeys(request.names)
    for entry in entries:
        if (request.sender and entry.sender != request.sender) or (request.study and entry.study != request.study):
            continue
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


def retry(config: Config, request: Request) -> int:
    """Put files back. Return 0, or 1 when a name is unknown or a file stayed."""
    _check_directories(config)
    if not request.dry_run:
        check_user(config)
    choice = choose(request, _entries(os.path.join(config.state, "set-aside"), request.reasons or SET_ASIDE_REASONS))
    for name in choice.unknown:
        _tell(f"listener: nothing of the name '{printable(name)}' is set aside")
    failed = sum([_one(entry, config.incoming, request) for entry in choice.chosen])
    _summary(choice, failed, request)
    return 1 if failed or choice.unknown else 0


def _check_directories(config: Config) -> None:
    named = [("--state", config.state), *(("--incoming", root) for root in config.incoming)]
    problems = [
        f"{option}: '{path}' is not a directory; give the directory that the service uses"
        for option, path in named
        if not os.path.isdir(path)
    ]
    if problems:
        raise ConfigError(problems)


def _entries(directory: str, reasons: tuple[str, ...]) -> Iterator[Entry]:
    """Yield the files set aside for these reasons, in order of reason and name."""
    for reason in reasons:
        for entry in sorted(setaside.entries(os.path.join(directory, reason)), key=lambda one: one.name):
            told = json_file.load_if_readable(setaside.reason_file(entry.path)) or {}
            name = str(told.get("name") or printable(entry.name))
            incoming, sender, study = (str(told.get(key, "")) for key in ("incoming", "sender", "StudyInstanceUID"))
            yield Entry(entry.path, reason, name, incoming, sender, study)


def _one(entry: Entry, roots: tuple[str, ...], request: Request) -> bool:
    """Put one file back and print the result. Return whether it failed."""
    told = {"name": entry.name, "reason": entry.reason}
    try:
        root = _root_of(entry, roots)
        if request.dry_run:
            told |= {"result": "would-go-back", "incoming": printable(root)}
        else:
            path = put_back(entry, root)
            told |= {"result": "back", "incoming": printable(root), "as": printable(os.path.basename(path))}
    except LockHeld:
        raise  # The others of this reason would wait for the same lock.
    except OSError as error:
        told |= {"result": "failed", "error": error.strerror or type(error).__name__}
    if request.json:
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
    else:
        more = told.get("error") or (f"as {told['as']}" if told.get("as", entry.name) != entry.name else "")
        print(f"{told['result']:14} {entry.name} ({entry.reason}){f': {more}' if more else ''}")
    return told["result"] == "failed"


def _root_of(entry: Entry, roots: tuple[str, ...]) -> str:
    if len(roots) == 1:
        return roots[0]
    for root in roots:
        if printable(root) == entry.incoming:
            return root
    raise OSError(errno.ENOENT, "it is not known which incoming directory it came from; give a single --incoming")


def put_back(entry: Entry, root: str) -> str:
    """Move a file from set-aside into `root`, then remove its reason file. Return its new path."""
    directory, name = os.path.split(entry.path)
    with files.locked(directory, ".lock"):
        try:
            target = rename_free(entry.path, root, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            target = _copy_back(entry.path, root, name)
        # On disk before the reason goes: a power cut must not leave a file there without its reason.
        sync.directories([root, directory])
        files.discard(setaside.reason_file(entry.path))
    return target


def _copy_back(path: str, root: str, name: str) -> str:
    # Rescans ignore dot files. The same name each time, so that a crash leaves only one.
    hidden = os.path.join(root, f".listener-retry-{short_hash(path)}")
    files.discard(hidden)
    moves.copy(path, hidden)
    target = rename_free(hidden, root, name)
    sync.directories([root])
    os.unlink(path)
    return target


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _summary(choice: Choice, failed: int, request: Request) -> None:
    sys.stdout.flush()
    count = len(choice.chosen) - failed
    what = "would go back into incoming" if request.dry_run else "back in incoming, for the service or 'listener once'"
    _tell(f"{count} {what}" + (f"; {failed} failed" if failed else ""))
    if choice.left:
        _tell(
            f"{choice.left} superseded left where they are: put back they would replace newer data sets; "
            "name them, or give --reason superseded"
        )

"""Do one part: list its files, repack them as `once` does, without a ledger, and write its account last of all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import IO, Any

from listener.backfill import account, volumes
from listener.backfill.account import About
from listener.backfill.faults import InHand, NotMounted, PartFailed
from listener.backfill.journal import Journal
from listener.backfill.listing import FileList, Names, walk_share
from listener.backfill.metric_rows import part_exposition
from listener.backfill.request import LOW, STDIN, PartRequest
from listener.config import Config
from listener.cpu import LAST, let_others_first
from listener.diagnostics import log
from listener.disk import files, orphans
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.errors import ConfigError, FatalFault, LockHeld, OwnedElsewhere
from listener.oneshot.once import work
from listener.oneshot.progress import Progress
from listener.planning.names import OWN, instant, printable
from listener.records import Outcome
from listener.repacking.context import PathKeys
from listener.service.engine import Engine, Lane
from listener.service.lock import IncomingLock
from listener.service.rescan import in_byte_order
from listener.status.snapshot import SnapshotFile
from listener.telemetry.events import Events

#: Seconds between two words of how far a part is.
_TOLD = 2.0

#: Patience for the lock of incoming, in seconds: another part's start may hold it for a moment.
_PATIENCE = 2.0


def run(config: Config, request: PartRequest) -> int:
    """Do a part, or say that it has ended. Return 0, or 1 when files were set aside or are left.

    Raises ConfigError, NotMounted, InHand, or PartFailed, after which the same part goes on where it was.
    """
    if not config.incoming:
        raise ConfigError(["--part: a part is one of incoming; give --incoming"])
    if request.priority == LOW:  # Its workers too: they inherit it.
        let_others_first(LAST)
    volumes.require_mounted(config)
    with _opened(request, config) as source:
        name = _name(request, source)
        folder = account.folder_of(config.state, name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(files.locked(folder, ".owner", timeout=0.0))
            except LockHeld as error:
                raise InHand(f"part {name}, {error.strerror}; wait, or end that process") from None
            return _once(replace(config, state=folder, part=name, batches=()), request, source, held)


@contextlib.contextmanager
def _opened(request: PartRequest, config: Config) -> Iterator[IO[bytes] | None]:
    """Open the list, if there is one; standard input is kept in a file without a name, to be read twice."""
    if not request.source:
        yield None
        return
    try:
        if request.source != STDIN:
            with open(request.source, "rb") as file:
                yield file
            return
        with TemporaryFile(dir=os.path.join(config.state, account.PARTS)) as file:
            while chunk := sys.stdin.buffer.read(2**20):
                file.write(chunk)
            yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != request.source:
            raise
        raise ConfigError([f"--files-from: cannot read '{request.source}' ({error.strerror}); name a list"]) from None


def _name(request: PartRequest, source: IO[bytes] | None) -> str:
    """Return the name of the part: that of its share, of its list, or of what the list on standard input holds."""
    if source is None:
        assert request.share
        return request.share.name
    if request.source == STDIN:
        source.seek(0)
        named = f"list-{_hash_of(source)}"
    else:
        named = account.name_of_list(request.source)
    return f"{named}-{request.share.name}" if request.share else named


def _hash_of(source: IO[bytes]) -> str:
    digest = blake2b(digest_size=8)
    while chunk := source.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def _once(config: Config, request: PartRequest, source: IO[bytes] | None, held: int) -> int:
    """Do the part unless it has ended; `held` is the descriptor of its lock."""
    ended = account.read(config.state)
    if ended and account.is_done(ended) and not request.again:
        log.info("part %s has ended: nothing to do (--again does it once more)", config.part)
        return _ended(ended, request)
    try:
        owner = IncomingLock(config.incoming, _PATIENCE, shared=True)
    except OwnedElsewhere as error:
        raise InHand(str(error)) from None
    try:
        part = _Part(config, request, source, [*owner.descriptors, held])
        try:
            return _ended(part.run(), request)
        finally:
            part.close()
    except (FatalFault, OSError) as error:
        text = str(error) if isinstance(error, FatalFault) else error.strerror or type(error).__name__
        raise PartFailed(text) from error
    finally:
        owner.close()


def _ended(ended: dict[str, Any], request: PartRequest) -> int:
    """Write metrics where that is wanted; return the exit status."""
    if request.textfile:
        try:
            account.write_metrics(request.textfile, part_exposition(ended))
        except OSError as error:  # The part has ended all the same.
            log.error("--textfile: the metrics cannot be written (%s)", error.strerror)
    return int(not account.is_done(ended) or bool(ended["set_aside"] and not request.tolerant))


class _Part:
    """One part that is done now. `config.state` is its own directory."""

    def __init__(
        self, config: Config, request: PartRequest, source: IO[bytes] | None, keep_open: Sequence[int]
    ) -> None:
        self._config = config
        self._request = request
        self._syncs = config.fsync != "none"
        self._keep_open = keep_open
        self._list = FileList(source, config.incoming, request.share) if source else None
        self._names: Names | None = None
        self._unread = 0
        self._directories = prepare(config)
        _require_all_incoming(self._directories)
        remove_leftovers(self._directories)
        self._staging = files.StagingDir(self._directories.state_staging, "account")
        self._keys = PathKeys(self._directories)
        self._journal = Journal(config.state, self._keys, syncs=self._syncs)
        self._live = SnapshotFile(config.state)
        self._told = 0.0
        events = Events(
            config.phi, None if sys.stdout.isatty() else sys.stdout.fileno(), waits=True, which=config.events
        )
        self._progress = _Progress(events, self._tell)
        self._claimed: set[bytes] = set()
        self._about = About("")

    def run(self) -> dict[str, Any]:
        """Do it; return its account."""
        self._claimed = self._journal.list_claims(_claims(self._directories))
        if self._list:
            self._names = self._list.check(self._journal.list)
        self._begin()
        lane = Lane(journal=self._journal.record)
        engine = Engine(self._config, self._directories, self._progress, self._keep_open, lane)
        try:
            work(engine, self._config, self._paths(), self._absent)
            self._progress.held_up(engine.held_up.shown(time.monotonic()))
        finally:
            engine.close()
        ended = self._account()
        account.write(self._config.state, ended, self._staging, syncs=self._syncs)
        self._progress.summary(ended["left"])
        return ended

    def _begin(self) -> None:
        """Say what this part is. Raises ConfigError if it was begun as another one, and NotMounted for a list of a
        source that is empty.
        """
        digest = self._names.digest if self._names else ""
        known = account.about(self._config.state)
        if known and known.digest != digest:
            raise ConfigError(
                [f"--files-from: part {self._config.part} was begun with another list; give this list another name"]
            )
        if self._names and self._names.names and not self._journal.ends().counts and not self._claimed:
            _require_files(self._config.incoming)
        self._about = known or About(instant(time.time_ns()), digest)
        if not known:
            account.write_about(self._config.state, self._about, self._staging, syncs=self._syncs)

    def _paths(self) -> Iterator[tuple[int, str]]:
        """Yield index of the incoming directory and path of each file of this part."""
        if self._list:
            yield from self._list
            return
        share = self._request.share
        assert share
        for index, root in enumerate(self._directories.incoming):
            links = not self._directories.is_network(root)
            walked = walk_share(root, share, self._note_unread, counts_links=links)
            # All are listed before the first one is done, so that it is known how many there are.
            for path in in_byte_order(root, self._listed(index, walked)):
                yield index, path

    def _listed(self, root: int, paths: Iterator[str]) -> Iterator[str]:
        for path in paths:
            self._journal.list(root, path)
            yield path

    def _note_unread(self, error: OSError) -> None:
        if error.filename in self._directories.incoming:
            raise NotMounted(f"--incoming cannot be listed ({error.strerror}); is its volume mounted?")
        self._unread += 1
        log.error("a directory below incoming cannot be listed (%s); the files in it are left", error.strerror)

    def _absent(self, root: int, path: str) -> None:
        """Give an end to a listed file that is gone, unless it has one or is claimed; forget what is a directory."""
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            if not self._journal.has_ended(root, path) and self._keys.of(root, path) not in self._claimed:
                now = time.time_ns()
                gone = Outcome("vanished", path, root, now, now)
                self._journal.record([gone])
                self._progress.finished([gone])
            return
        if is_directory:
            self._journal.unlist(root, path)

    def _account(self) -> dict[str, Any]:
        more = {
            "set_aside_reasons": dict(self._progress.reasons),
            "series": self._journal.series,
            "unread": self._unread,
        }
        return account.account(self._config.part, self._about, self._journal.ends(), self._names, more)

    def _tell(self, now: float) -> None:
        """Say how far it is, every two seconds. An error there is ignored: the account says it at last."""
        if now - self._told >= _TOLD:
            self._told = now
            with contextlib.suppress(OSError):
                self._live.write({**self._account(), "ended": None, "time_ns": time.time_ns()})

    def close(self) -> None:
        """Close the files."""
        self._live.close()
        self._journal.close()


class _Progress(Progress):
    """Progress that also tells others how far it is."""

    def __init__(self, events: Events, tell: Callable[[float], None]) -> None:
        super().__init__(events, sys.stderr)
        self._tell = tell

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes, write their events, and tell how far it is."""
        super().finished(outcomes)
        self._tell(time.monotonic())


def _claims(directories: Directories) -> Iterator[str]:
    for index in range(len(directories.incoming)):
        for home in directories.claim_places(index):
            with contextlib.suppress(FileNotFoundError), os.scandir(home) as entries:
                yield from (entry.path for entry in entries)


def _require_all_incoming(directories: Directories) -> None:
    """Raise ConfigError if two incoming directories cannot be told apart, or this part has claims of another one."""
    if len(set(directories.root_names)) < len(directories.root_names):
        text = "two of these directories are the same to all hosts (one inode number); give each to parts of its own"
        raise ConfigError([f"--incoming: {text}, with a --state of their own"])
    ours = {place for index in range(len(directories.incoming)) for place in directories.claim_places(index)}
    stray = orphans.find(directories.state, ours, lambda _: False)
    if stray:
        texts = [f"--incoming: {one.text()}; give this part that directory, too" for one in stray]
        raise ConfigError(texts)


def _require_files(roots: tuple[str, ...]) -> None:
    """Raise NotMounted if none of the incoming directories holds anything."""
    for root in roots:
        with os.scandir(root) as entries:
            if any(entry.name != OWN for entry in entries):
                return
    named = ", ".join(f"'{printable(root)}'" for root in roots)
    raise NotMounted(f"--incoming {named} is empty while a list names files in it; is its volume mounted?")

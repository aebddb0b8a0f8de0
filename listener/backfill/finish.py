"""`listener once --finish`: when all parts have ended, the ledger gets what they brought, and the collection their
set-aside files. Killed at any moment it is begun again: each step changes nothing that is done.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from listener.backfill import account, parts, volumes
from listener.backfill.faults import InHand, PartFailed
from listener.backfill.journal import series_of
from listener.backfill.prepared import PreparedDocuments
from listener.config import Config
from listener.diagnostics import log
from listener.disk import files, json_file, moves
from listener.errors import LedgerFault, LockHeld
from listener.ledger.batches import Account, BatchKey, BatchState, FileError
from listener.ledger.maintenance import LedgerRepair
from listener.planning import documents
from listener.planning.names import printable, short_hash
from listener.repacking.setaside import entries, reason_file
from listener.service.other_listeners import OtherListeners
from listener.status import snapshot
from listener.status.document import is_running
from listener.status.formatting import count, several, span

#: Seconds between two lines that say how far it is.
_TOLD = 10.0


class FinishRequest(NamedTuple):
    """How a backfill is finished: the name of its batch, and whether consumers are told of its series."""

    batch: str = "backfill"
    announces: bool = False


def run(config: Config, request: FinishRequest) -> int:
    """Finish. Return 0, or 1 when a part has not ended, is missing or left files: then nothing is done."""
    volumes.require_mounted(config)
    home = os.path.join(config.state, account.PARTS)
    try:
        with files.locked(home, ".finish", timeout=0.0):
            found = account.parts(config.state)
            stands = parts.document(found, (), time.time_ns())
            if not parts.is_complete(stands):
                sys.stderr.write(f"{parts.summary(stands)}\nnothing is finished before all parts have ended\n")
                return 1
            _Finish(config, request, [part.account or {} for part in found]).run()
            return 0
    except LockHeld as error:
        raise InHand(f"finishing, {error.strerror}; wait, or end that process") from None
    except (LedgerFault, OSError) as error:
        raise PartFailed(str(error) if isinstance(error, LedgerFault) else error.strerror or "") from error


class _Finish:
    def __init__(self, config: Config, request: FinishRequest, accounts: Sequence[Mapping[str, Any]]) -> None:
        self._config = config
        self._request = request
        self._accounts = accounts
        self._key = BatchKey("", os.fsencode(request.batch))
        self._documents = PreparedDocuments(config)
        self._told = time.monotonic()

    @property
    def _signature(self) -> str:
        """Return what tells these accounts from those of a later backfill of the same name."""
        told = "\0".join(f"{one['part']} {one['ended']} {one['listed']}" for one in self._accounts)
        return blake2b(told.encode(), digest_size=16).hexdigest()

    def run(self) -> None:
        """Take over set-aside files, then make rows of series, then end the batch."""
        for name, folder in account.folders(self._config.state):
            take_over(folder, name, self._config.state, self._request.batch)
        is_worked_on = OtherListeners(self._config.state).work_on
        with contextlib.closing(LedgerRepair(self._config, self._documents, is_worked_on)) as repair:
            batch = repair.begin_batch(self._key, self._signature, time.time_ns())
            if batch is None:
                log.info("this backfill has been finished: batch %s", self._request.batch)
                return
            series = self._series()
            begun = time.monotonic()
            for done, uid in enumerate(series):
                self._bring(repair, uid, batch)
                self._tell(done, len(series), begun)
            if not self._is_served():  # A running service finds them itself, half a minute later.
                repair.find_set_aside(time.time_ns())
            listed = sum(int(one["listed"]) for one in self._accounts)
            repair.end_batch(self._key, Account(listed, (), self._errors(), self._signature), time.time_ns())
        text = f"{several(len(series), 'series', 'series')} in the ledger, in {span(time.monotonic() - begun)}"
        sys.stderr.write(f"{text}; batch {printable(self._request.batch)}\n")

    def _series(self) -> list[str]:
        """Return the series of all parts, each once."""
        found: dict[str, None] = {}
        for _, folder in account.folders(self._config.state):
            found.update(dict.fromkeys(series_of(folder)))
        return list(found)

    def _errors(self) -> list[FileError]:
        """Return one error a reason: each file has a row of its own among those that are set aside."""
        totals: Counter[str] = Counter()
        for one in self._accounts:
            totals.update(one["set_aside_reasons"])
        return [FileError("", reason, several(number, "file")) for reason, number in sorted(totals.items())]

    def _bring(self, repair: LedgerRepair, uid: str, batch: BatchState) -> None:
        """Make the rows of one series. A running listener, which writes to the same ledger, gets as much time between
        two transactions as one took.
        """
        for is_last in self._documents.prepare(uid, repair.recorded(uid)):
            begun = time.monotonic()
            repair.bring(uid, batch, ends=is_last, tells=self._request.announces)
            time.sleep(time.monotonic() - begun)

    def _is_served(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return is_running(snapshot.read(self._config.state), time.time_ns())
        return False

    def _tell(self, done: int, total: int, begun: float) -> None:
        now = time.monotonic()
        if now - self._told >= _TOLD:
            self._told = now
            left = span((total - done) * (now - begun) / max(1, done))
            sys.stderr.write(f"{count(done)} of {count(total)} series, {left} left\n")


def take_over(folder: str, part: str, state_dir: str, batch: str) -> int:
    """Move the set-aside files of a part to those of the collection, each with its reason file, which says by which
    batch it came; return how many.

    The reason file goes first, so that after a kill between the two the file finds its own there.
    """
    moved = 0
    staging = files.StagingDir(folder, ".reason")
    home = os.path.join(folder, "set-aside")
    for reason in _names(home):
        target = os.path.join(state_dir, "set-aside", reason)
        os.makedirs(target, mode=0o700, exist_ok=True)
        for entry in list(entries(os.path.join(home, reason))):
            _mark(reason_file(entry.path), batch, staging)
            with files.locked(target, ".lock"):
                _move(entry.path, target, part)
            moved += 1
    return moved


def _mark(path: str, batch: str, staging: files.StagingDir) -> None:
    """Say in a reason file by which batch its file came."""
    record, shown = json_file.load(path), printable(batch)
    if record is not None and record.get("batch") != shown:
        files.write_document(staging, path, documents.encode({**record, "batch": shown}), syncs=True)


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except FileNotFoundError:
        return []


def _move(source: str, directory: str, part: str) -> None:
    began = not os.path.lexists(reason_file(source))  # Its reason file went before a kill.
    for name in _candidates(os.path.basename(source), part):
        target = os.path.join(directory, name)
        has_reason = os.path.lexists(reason_file(target))
        if os.path.lexists(target) or has_reason != began:
            continue
        if not began:
            moves.rename_new(reason_file(source), reason_file(target))
        moves.rename_new(source, target)
        return
    # A file without a reason file, as a crash of the part may leave one.
    moves.rename_free(source, directory, os.path.basename(source))


def _candidates(name: str, part: str) -> Iterator[str]:
    yield name
    for salt in range(100):
        yield files.cut_name("", name, f"-{short_hash(f'{part}/{name}/{salt}')}")

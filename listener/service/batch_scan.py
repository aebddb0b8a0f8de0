"""Scans the directories of batches: which folders there are, which got their names by a rename, which changed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from math import inf

from listener.diagnostics import log
from listener.ledger import batch_recorder as steps
from listener.ledger.batch_recorder import FolderAccount
from listener.planning.names import OWN
from listener.service import folder_walk
from listener.service.batch_folder import FOLDER_GONE, REST, WAITS, BatchFolder
from listener.service.batch_registry import FolderRegistry
from listener.service.folders import FINAL, UNFINISHED, standing

#: Entries of a directory that are looked at in one slice.
_SLICE = 50

#: Names and mtimes of folders without a final name, by directory and inode.
_Unfinished = dict[tuple[int, int], tuple[str, int]]


class FolderScan:
    """Scans, one every `interval` seconds, in slices. `looked`: all directories were scanned at least once."""

    def __init__(self, registry: FolderRegistry, interval: float) -> None:
        self._registry = registry
        self._interval = interval
        self._slices: Iterator[None] | None = None
        self._next = 0.0
        self._unfinished: _Unfinished = {}
        self._scanned_at = -inf
        self._seen: set[str] = set()
        self._told: set[tuple[int, str]] = set()
        self.looked = False

    @property
    def unfinished(self) -> int:
        """Return how many folders have no final name yet."""
        return sum(standing(name) == UNFINISHED for name, _ in self._unfinished.values())

    def next_wake(self) -> float:
        """Return when there is something to scan, on the monotonic clock; 0: at once."""
        return 0.0 if self._slices is not None else self._next

    def step(self, now: float) -> bool:
        """Do the next slice of a scan; return False if none is under way or due."""
        if self._slices is None:
            if now < self._next:
                return False
            self._slices = self._scan(now)
        try:
            next(self._slices)
        except StopIteration:
            self._slices = None
            self._next = time.monotonic() + self._interval
            self.looked = True
        return True

    def _scan(self, now: float) -> Iterator[None]:
        unfinished: _Unfinished = {}
        for index, root in enumerate(self._registry.roots, self._registry.first):
            self._seen = set()
            try:
                with os.scandir(root) as found:
                    for number, entry in enumerate(found):
                        self._see(index, entry, unfinished)
                        if number % _SLICE == 0:
                            yield
            except OSError as error:
                self._tell(index, f"a directory of --batches cannot be read ({error.strerror})")
                continue
            self._drop_gone(index)
            yield
        self._forget_unfinished(unfinished)
        self._unfinished, self._scanned_at = unfinished, now
        if not self.looked:
            self._end_absent()

    def _tell(self, index: int, text: str) -> None:
        """Log a text once for each directory."""
        if (index, text) not in self._told:
            self._told.add((index, text))
            log.warning("%s", text)

    def _see(self, index: int, entry: os.DirEntry[str], unfinished: _Unfinished) -> None:
        name = entry.name
        if name == OWN:
            return
        if not entry.is_dir(follow_symlinks=False):
            if not name.startswith("."):
                self._tell(index, "files and links directly in a directory of --batches are left; put them in a folder")
            return
        if standing(name) == FINAL:
            self._see_final(index, entry)
            return
        with contextlib.suppress(FileNotFoundError):
            unfinished[(index, entry.inode())] = name, entry.stat(follow_symlinks=False).st_mtime_ns
        if standing(name) == UNFINISHED and self._unfinished.get((index, entry.inode()), ("", 0))[0] != name:
            self._registry.change(steps.SEEN, BatchFolder.key_of(self._registry.root(index), name))

    def _see_final(self, index: int, entry: os.DirEntry[str]) -> None:
        self._seen.add(entry.name)
        folder = self._registry.meet(index, entry.name, entry.inode())
        if folder.moved_at < self._scanned_at and self._was_unfinished(index, entry):
            folder.note_move(time.monotonic())
            self._registry.poke(folder)
        elif folder.phase in (WAITS, REST) and folder_walk.is_changed(folder.directories):
            self._registry.poke(folder)

    def _was_unfinished(self, index: int, entry: os.DirEntry[str]) -> bool:
        """Return whether a folder had another name when it was scanned last. Another one may have its inode since, but
        not its mtime too, which a rename leaves.
        """
        was = self._unfinished.get((index, entry.inode()))
        if was is None or was[0] == entry.name:
            return False
        with contextlib.suppress(OSError):
            return entry.stat(follow_symlinks=False).st_mtime_ns == was[1]
        return False

    def _drop_gone(self, index: int) -> None:
        for folder in self._registry:
            if folder.root_index == index and folder.name not in self._seen and folder.phase in (WAITS, REST):
                self._registry.drop(folder)

    def _forget_unfinished(self, now: _Unfinished) -> None:
        """Let the ledger forget the unfinished folders that are gone, or have another name; at the first scan those of
        an earlier run.
        """
        key_of, root = BatchFolder.key_of, self._registry.root
        there = {key_of(root(index), name) for (index, _), (name, _) in now.items()}
        before = {key_of(root(index), name) for (index, _), (name, _) in self._unfinished.items()}
        if not self.looked:
            before |= {key for key, state in self._registry.known.items() if state.state == "new"}
        for key in before - there:
            if self._registry.of_key(key) is None:
                self._registry.change(steps.GONE, key)

    def _end_absent(self) -> None:
        """End the batches that an earlier run left unended and whose folders are gone."""
        for key, state in self._registry.known.items():
            unended = state.state in ("queue", "processing") and not state.has_ended_files
            if unended and self._registry.of_key(key) is None:
                account = FolderAccount(errors=[("", "vanished", FOLDER_GONE, ("", ""))])
                self._registry.change(steps.FILES_ENDED, key, account)

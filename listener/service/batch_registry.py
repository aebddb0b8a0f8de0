"""The folders that are known, by name and by batch, how many are in each phase, and which story is told on when."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import inf

from listener.ledger import batch_recorder as steps
from listener.ledger.batch_recorder import Change, FolderAccount
from listener.ledger.batches import BatchKey, BatchState
from listener.ledger.thread import LedgerThread
from listener.service.batch_folder import REST, WAITS, BatchFolder, Story


class FolderRegistry:
    """Folders with final names below `roots`, the first of which has the index `first`. `story` begins that of a new
    one. `known`: how batches stand in the ledger.
    """

    def __init__(
        self, roots: Sequence[str], first: int, ledger: LedgerThread, story: Callable[[BatchFolder], Story]
    ) -> None:
        self.roots = roots
        self.first = first
        self.known: dict[BatchKey, BatchState] = {}
        self._ledger = ledger
        self._story = story
        self._folders: dict[tuple[int, str], BatchFolder] = {}
        self._by_key: dict[BatchKey, BatchFolder] = {}
        self._phases: Counter[str] = Counter()
        self._due: list[tuple[float, int, BatchFolder]] = []
        self._serial = itertools.count()

    def __iter__(self) -> Iterator[BatchFolder]:
        return iter(list(self._folders.values()))

    def __len__(self) -> int:
        return len(self._folders)

    def root(self, index: int) -> str:
        """Return the directory of this index."""
        return self.roots[index - self.first]

    def of_path(self, path: str, index: int) -> BatchFolder | None:
        """Return the folder of a file below a directory; None if it is not known."""
        return self._folders.get((index, path[len(self.root(index)) + 1 :].partition("/")[0]))

    def of_key(self, key: BatchKey) -> BatchFolder | None:
        """Return the folder of a batch; None if it is not known."""
        return self._by_key.get(key)

    def count(self, *phases: str) -> int:
        """Return how many folders are in one of these phases."""
        return sum(self._phases[phase] for phase in phases)

    def enter(self, folder: BatchFolder, phase: str) -> None:
        """Let a folder enter a phase."""
        self._phases[folder.phase] -= 1
        self._phases[phase] += 1
        folder.phase = phase

    def change(self, step: str, key: BatchKey, account: FolderAccount | None = None, state: str = "") -> None:
        """Hand a change of a batch to the ledger."""
        self._ledger.change_batches([Change(step, key, time.time_ns(), account, state)])

    def meet(self, index: int, name: str, inode: int) -> BatchFolder:
        """Return the folder with a final name, a new one if it was not known or another one came under this name."""
        folder = self._folders.get((index, name))
        if folder and folder.inode != inode and folder.phase in (WAITS, REST):
            self.drop(folder)
            folder = None
        if folder is None:
            folder = BatchFolder(self.root(index), index, name, inode)
            folder.state = self.known.get(folder.key)
            folder.story = self._story(folder)
            self._folders[(index, name)] = self._by_key[folder.key] = folder
            self._phases[folder.phase] += 1
            self.poke(folder)
        return folder

    def drop(self, folder: BatchFolder) -> None:
        """Forget a folder that is gone."""
        if folder.story is None:
            return
        folder.story = None
        self._phases[folder.phase] -= 1
        if folder.phase == WAITS and folder.state is None:
            self.change(steps.GONE, folder.key)
        del self._folders[(folder.root_index, folder.name)]
        del self._by_key[folder.key]

    # -- stories -----------------------------------------------------------------------------------------------------

    def poke(self, folder: BatchFolder) -> None:
        """Let a folder's story go on soon."""
        self._schedule(folder, 0.0)

    def _schedule(self, folder: BatchFolder, due: float) -> None:
        folder.due = due
        if due < inf:
            heapq.heappush(self._due, (due, next(self._serial), folder))

    def next_due(self) -> float:
        """Return when the next story is told on, on the monotonic clock; inf: none is."""
        return self._due[0][0] if self._due else inf

    def tell_one(self, now: float) -> bool:
        """Go on with the story that is due first; return whether there was one."""
        while self._due and self._due[0][0] <= now:
            due, _, folder = heapq.heappop(self._due)
            if folder.story is None or folder.due != due:
                continue
            folder.due = inf
            try:
                wake = next(folder.story)
            except StopIteration:
                self.drop(folder)
            else:
                # It may have been poked meanwhile.
                if wake < folder.due:
                    self._schedule(folder, wake)
            return True
        return False

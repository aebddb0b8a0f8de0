"""One folder that is a batch: what is known of it, and what became of its files."""

from __future__ import annotations

import os
from collections.abc import Generator
from math import inf

from listener.ledger.batch_recorder import FolderAccount
from listener.ledger.batches import BatchKey, BatchState
from listener.planning.names import printable
from listener.records import Outcome
from listener.service.folders import FileEntry, Signature

#: Where the story of a folder is: looked at until it is finished; in the queue; its files are under way; then its
#: source; until everybody has taken it; ended, and looked at for something new.
WAITS, QUEUE, PROCESSING, SETTLING, ENDING, REST = "waits", "queue", "processing", "settling", "ending", "rest"

#: A story yields when it is to be told on: a moment on the monotonic clock, 0 for soon, inf for once it is poked.
Story = Generator[float, None, None]

_FILE_GONE = "the file was taken away before it was read"
FOLDER_GONE = "the folder was taken away before its files were read"

#: Ends of files that have passed.
_PASSED = ("published", "duplicate")


class BatchFolder:
    """A folder with a final name. `state`: how its batch stands in the ledger (None: not known there); `directories`:
    the mtime of each as last looked at; `changed_ns`: when it was finished or last changed; `in_flight`: marks of files
    that the engine has, by path; `marks`: of those that have passed; `account`: of its generation; `trouble`: "" or
    what the system refused to do with it.
    """

    def __init__(self, root: str, root_index: int, name: str, inode: int) -> None:
        self.key = self.key_of(root, name)
        self.root_index = root_index
        self.name = name
        self.path = f"{root}/{name}"
        self.inode = inode
        self.phase = WAITS
        self.story: Story | None = None
        self.due = inf
        self.state: BatchState | None = None
        self.was_moved = False
        self.moved_at = -inf
        self.was_looked_at = False
        self.changed_ns = 0
        self.directories: dict[str, int] = {}
        self.in_flight: dict[str, int] = {}
        self.marks: set[int] = set()
        self.account = FolderAccount()
        self.trouble = ""
        #: Whether a file of this generation was published that had no second name in the tree before.
        self.has_news = False
        self._alone: set[int] = set()
        self._signature = self._failed = Signature()

    @staticmethod
    def root_text(root: str) -> str:
        """Return a directory of batches as the ledger has it."""
        return printable(root)

    @classmethod
    def key_of(cls, root: str, name: str) -> BatchKey:
        """Return the key of the batch of a folder."""
        return BatchKey(cls.root_text(root), os.fsencode(name))

    @property
    def has_ended(self) -> bool:
        """Return whether its batch has ended."""
        return self.state is not None and self.state.state in ("done", "empty")

    @property
    def has_failed(self) -> bool:
        """Return whether its batch had an error."""
        return self.state is not None and self.state.errors > 0

    @property
    def is_under_way(self) -> bool:
        """Return whether its batch was in the queue or being processed when the ledger was read last."""
        return self.state is not None and self.state.state in ("queue", "processing")

    @property
    def is_recorded(self) -> bool:
        """Return whether the ledger has the account of its files."""
        return self.state is not None and self.state.has_ended_files

    @property
    def known_signature(self) -> str:
        """Return the signature of what is left of a batch that has ended; "" if nothing is, or it has not ended."""
        return self.state.signature if self.state and self.has_ended else ""

    @property
    def may_be_rest(self) -> bool:
        """Return whether it may be the rest of a folder whose removal was interrupted: the same one, of a batch
        that has ended without an error.
        """
        state = self.state
        return state is not None and not state.errors and state.inode == self.inode and not self.was_moved

    def is_in(self, phase: str) -> bool:
        """Return whether it is in this phase now."""
        return self.phase == phase

    def is_moved(self) -> bool:
        """Return whether it got its name by a rename that was not taken note of yet."""
        return self.was_moved

    def take_move(self, now_ns: int) -> None:
        """Take note that it is finished: as old as that, if it got its name by a rename."""
        if self.was_moved or not self.changed_ns:
            self.changed_ns = now_ns
        self.was_moved = False

    def note_move(self, now: float) -> None:
        """Record that it got its name by a rename (`now`: monotonic): it is finished."""
        self.was_moved, self.moved_at = True, now

    def is_back(self, signature: str) -> bool:
        """Return whether it is the folder with an error that got another name, and its name back while nobody looked
        (`mv X.err X`, `listener retry --batch`): with what was left in it.
        """
        state = self.state
        if state is None or not (self.has_ended and self.has_failed) or not state.renamed:
            return False
        return bool(signature) and (state.inode, state.signature) == (self.inode, signature) and not self.was_looked_at

    def begin(self) -> None:
        """Begin a generation: nothing has become of its files yet."""
        self.account = FolderAccount(inode=self.inode)
        self.in_flight, self.marks = {}, set()
        self._signature, self._failed = Signature(), Signature()
        self.trouble = ""
        self.has_news, self._alone = False, set()
        self.changed_ns = 0
        self.was_looked_at = True

    def offer(self, entry: FileEntry) -> None:
        """Record that the engine has a file."""
        mark = entry.mark
        self.in_flight[entry.path] = mark
        self._signature.add(mark)
        self.account.files += 1
        if entry.names == 1:
            self._alone.add(mark)

    def end_file(self, outcome: Outcome) -> bool:
        """Record how a file ended; return False if it was not under way."""
        mark = self.in_flight.pop(outcome.path, None)
        if mark is None:
            return False
        series = outcome.SeriesInstanceUID, outcome.StudyInstanceUID
        if outcome.kind in _PASSED:
            numbers = self.account.passed.setdefault(series, [0, 0])
            numbers[0] += 1
            numbers[1] += outcome.size
            self.marks.add(mark)
            self.has_news |= outcome.kind == "published" and mark in self._alone
        else:
            below = printable(outcome.path[len(self.path) + 1 :])
            reason = outcome.reason or outcome.kind
            text = outcome.error or _FILE_GONE
            self.account.errors.append((below, reason, text, series))
            self._failed.add(mark)
        return True

    def end_files(self, *, removes: bool) -> None:
        """Complete the account: all files have an end. Its signature is that of what stays in the folder."""
        self.account.signature = str(self._failed if removes else self._signature)

    def add_trouble(self, below: str, error: OSError) -> None:
        """Record a directory that cannot be read as an error of the batch."""
        text = f"the directory cannot be read ({error.strerror})"
        self.account.errors.append((printable(below) or ".", "unreadable", text, ("", "")))

    def refused_by(self, error: OSError) -> None:
        """Record what the system refused to do with the folder."""
        self.trouble = error.strerror or type(error).__name__

"""Taking a series out of tree and logs, for `listener prune`, while workers go on publishing.

In this order, so that no reader ever meets a document whose instance is gone, nor an instance that a sender was told of
a moment ago goes: documents of instances are moved away, then instances, then what they shared. Each instance is looked
at under the lock under which workers decide that another file is its duplicate or replaces it (`place.locked_place`);
both leave a mark (its time of change, or another inode), and what bears one stays, with its document. A worker that
publishes the instance anew finds neither file nor document. What instances share is removed under the lock of the
series, once its directory of documents is gone: a worker that must make that directory holds the same lock, and looks
again (`shared.Shared.renew`). docs/reliability.md has the whole argument.

What is moved away lies in staging directories until it is on disk that it is gone; `recover` ends what was interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from listener.disk import files, json_file, sync
from listener.disk.json_file import Signature
from listener.disk.moves import rename_new
from listener.planning import documents
from listener.planning.names import document_name
from listener.repacking.context import WorkerContext
from listener.repacking.describe import locked, locked_series
from listener.repacking.place import locked_place

#: So young a change of an instance may be unknown to the ledger yet, in nanoseconds.
_LEDGER_LAG_NS = 60 * 10**9

OUTSIDE = "outside --data"
IRREGULAR = "not a regular file"
FRESH = "changed within the last minute"
OTHER = "not the file that the ledger knows; see 'listener verify'"
UNDESCRIBED = "without a document in --log that tells of it; see 'listener verify --repair'"
ABSENT = "not there; see 'listener verify --repair'"


class Instance(NamedTuple):
    """An instance as the ledger has it: `folder` below the data directory (absolute: elsewhere), `arrived_ns` when."""

    SOPInstanceUID: str
    folder: str
    name: str
    size: int
    arrived_ns: int


class Series(NamedTuple):
    """A series of a study, which ended at `changed_ns`."""

    uid: str
    study: str
    changed_ns: int


class Marks(NamedTuple):
    """By what a file is known to be the same, and untouched."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Removable(NamedTuple):
    """An instance that is there and may go: where it and its document lie, and what both were when looked at."""

    instance: Instance
    path: str
    marks: Marks
    document: str
    signature: Signature | None


class Survey(NamedTuple):
    """What there is of a series: instances that may `go`, those that are `absent`, those that are `left` and why, and
    the studies that its documents tell of.
    """

    go: list[Removable]
    absent: list[Instance]
    left: list[tuple[Instance, str]]
    studies: set[str]


class Remover:
    """Works for one run of `prune`, with staging directories of its own."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._data = context.directories.data.rstrip("/")
        self._log = context.directories.log
        self._serial = itertools.count()

    # -- looking -------------------------------------------------------------------------------------------------------

    def survey(self, series: Series, instances: Iterable[Instance], now_ns: int) -> Survey:
        """Look at what there is of a series. Nothing is changed."""
        found = Survey([], [], [], set())
        for one in instances:
            path = os.path.normpath(os.path.join(self._data, one.folder, one.name))
            if not path.startswith(f"{self._data}/"):
                found.left.append((one, OUTSIDE))
                continue
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                found.absent.append(one)
                continue
            document = f"{self._log}/{documents.instance_path(series.uid, one.name)}"
            # Its signature first: what is written afterwards is another document.
            there = Removable(one, path, _marks(status), document, json_file.signature(document))
            told = json_file.load_if_readable(document) or {}
            studies = set(_studies(told))
            why = _reason_to_stay(status, one, series.changed_ns, now_ns)
            why = why or ("" if documents.location(told) == path else UNDESCRIBED)
            why = why or (OTHER if studies and series.study and series.study not in studies else "")
            found.studies.update(studies)
            if why:
                found.left.append((one, why))
            else:
                found.go.append(there)
        return found

    # -- removing ------------------------------------------------------------------------------------------------------

    def remove(self, survey: Survey, goes_on: Callable[[], bool]) -> list[Instance]:
        """Take the instances away, as long as `goes_on`; those that are gone. Raises LockHeld, OSError."""
        moved: dict[Removable, str] = {}
        gone: list[tuple[Removable, str]] = []
        try:
            for one in survey.go:
                if not goes_on():
                    break
                self._take_document(one, moved)
            self._sync({os.path.dirname(one.document) for one in moved})
            for one in list(moved):
                if not goes_on():
                    break
                self._take_instance(one, moved, gone)
        finally:
            for one, document in moved.items():
                self._put_back(one, document, gone)
            self._sync({os.path.dirname(one.path) for one, _ in gone})
        for _, aside in gone:
            files.discard(aside)
        for folder in {os.path.dirname(one.path) for one, _ in gone}:
            remove_empty(folder, self._data)
        return [one.instance for one, _ in gone]

    def _take_document(self, one: Removable, moved: dict[Removable, str]) -> None:
        with locked_place(one.path, self._context):
            if _marks_of(one.path) != one.marks:
                return
            with locked(one.document, self._context):
                if json_file.signature(one.document) == one.signature:
                    staged = self._context.log_staging.name()
                    os.rename(one.document, staged)
                    moved[one] = staged

    def _take_instance(self, one: Removable, moved: dict[Removable, str], gone: list[tuple[Removable, str]]) -> None:
        """Move it away, if it is still that file and nobody described it anew; then its document goes for good."""
        if self._move_away(one, gone):
            files.discard(moved.pop(one))

    def _move_away(self, one: Removable, gone: list[tuple[Removable, str]]) -> bool:
        with locked_place(one.path, self._context):
            if _marks_of(one.path) != one.marks or self._is_described(one):
                return False
            aside = f"{self._context.directories.data_staging}/{_staged_name(one.marks)}-{next(self._serial):x}"
            try:
                os.rename(one.path, aside)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                os.unlink(one.path)  # A directory of the tree that is a link to another file system.
            else:
                if not _is_staged(aside):  # Somebody put another file there who takes no lock.
                    rename_new(aside, one.path)
                    return False
            gone.append((one, aside))
            return True

    def _is_described(self, one: Removable) -> bool:
        """Whether its document tells of it: one that came meanwhile with another name of the patient has the same."""
        return documents.location(json_file.load_if_readable(one.document) or {}) == one.path

    def _put_back(self, one: Removable, document: str, gone: list[tuple[Removable, str]]) -> None:
        """The document of an instance that stays, unless another file is there, which its worker describes. What came
        meanwhile for another place has taken the document, and finds the instance nowhere: then it is removed indeed.
        """
        there = _marks_of(one.path)
        if there is None or there[:2] != one.marks[:2]:
            files.discard(document)
        elif not self._give_back(document, one.document) and not self._is_described(one):
            self._move_away(one, gone)

    def _give_back(self, staged: str, document: str) -> bool:
        """False where there is a document by now."""
        try:
            files.with_parents(rename_new, staged, document, 0o755, self._context.syncs)
        except FileExistsError:
            files.discard(staged)
            return False
        return True

    def forget(self, uid: str, studies: Iterable[str]) -> bool:
        """Remove what the instances of a series shared, unless an instance of it is described; whether that went."""
        images = os.path.dirname(f"{self._log}/{documents.instance_path(uid, 'x')}")
        shared = [documents.study_series_path(study, uid) for study in sorted(studies)]
        paths = [f"{self._log}/{name}" for name in (*shared, documents.pack_path(uid), documents.series_path(uid))]
        with locked_series(uid, self._context):
            try:
                os.rmdir(images)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
            for path in paths:
                with locked(path, self._context):
                    files.discard(path)
            self._sync({os.path.dirname(path) for path in paths})
        for name in shared:
            remove_empty(os.path.dirname(f"{self._log}/{name}"), f"{self._log}/studyData")
        return True

    def drop_document(self, uid: str, one: Instance) -> None:
        """Remove the document of an instance that is absent, if it tells of that one and it still is."""
        path = os.path.normpath(os.path.join(self._data, one.folder, one.name))
        document = f"{self._log}/{documents.instance_path(uid, one.name)}"
        if not os.path.lexists(document):
            return
        with locked_place(path, self._context), locked(document, self._context):
            told = documents.location(json_file.load_if_readable(document) or {})
            if told == path and not os.path.lexists(path):
                files.discard(document)

    def _sync(self, directories: Iterable[str]) -> None:
        for path in directories if self._context.syncs else ():
            with contextlib.suppress(FileNotFoundError):
                sync.directories([path])

    # -- after a crash -------------------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """End what an interrupted run left in staging: documents of instances that are there go back, the rest goes.
        Paths of files there that are not what was to be removed: nobody knows where they belong.
        """
        for path in _files_in(self._context.directories.log_staging):
            told = json_file.load_if_readable(path) or {}
            location = os.path.normpath(documents.location(told))
            if location.startswith(f"{self._data}/") and os.path.isfile(location):
                self._recover_instance(path, next(iter(told)), location)
            else:
                files.discard(path)
        strange = []
        for path in _files_in(self._context.directories.data_staging):
            if _is_staged(path):
                files.discard(path)
            else:
                strange.append(path)
        return strange

    def _recover_instance(self, staged: str, uid: str, path: str) -> None:
        """Give an instance its document back. Where it came again for another place meanwhile, that has the document;
        nobody was told of this one since, and it was to be removed.
        """
        document = f"{self._log}/{documents.instance_path(uid, os.path.basename(path))}"
        with locked_series(uid, self._context):
            if self._give_back(staged, document):
                return
        with locked_place(path, self._context):
            now = documents.location(json_file.load_if_readable(document) or {})
            if now not in ("", path) and os.path.isfile(now):
                files.discard(path)
        remove_empty(os.path.dirname(path), self._data)


def _reason_to_stay(status: os.stat_result, one: Instance, changed_ns: int, now_ns: int) -> str:
    """Why an instance is not to go; "" for the file that the ledger knows, and of which nobody was told since."""
    if not stat.S_ISREG(status.st_mode):
        return IRREGULAR
    if status.st_ctime_ns <= changed_ns:
        return ""
    if now_ns - status.st_ctime_ns < _LEDGER_LAG_NS:
        return FRESH
    # Touched since its series ended: owner, mode and links may have changed, what was written may not.
    return "" if status.st_size == one.size and status.st_mtime_ns <= one.arrived_ns else OTHER


def _marks(status: os.stat_result) -> Marks:
    return Marks(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _marks_of(path: str) -> Marks | None:
    try:
        return _marks(os.lstat(path))
    except FileNotFoundError:
        return None


def _staged_name(marks: Marks) -> str:
    """A name that tells whether a file is what was to be removed (a rename changes the time of change)."""
    return f"{marks.inode:x}-{marks.size:x}-{marks.modified_ns:x}"


def _is_staged(path: str) -> bool:
    return os.path.basename(path).rpartition("-")[0] == _staged_name(_marks(os.lstat(path)))


def _studies(document: Mapping[str, object]) -> Iterator[str]:
    for entry in document.values():
        study = entry.get("StudyInstanceUID") if isinstance(entry, dict) else None
        if isinstance(study, str) and study:
            yield study


def studies_of(log: str, uids: Iterable[str]) -> dict[str, set[str]]:
    """The studies that have a document of one of these series, by series: one pass over all studies, since a series
    that was moved to another study is in both.
    """
    wanted = {f"{document_name(uid)}-meta.json": uid for uid in uids}
    found: dict[str, set[str]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{log}/studyData") as entries:
        for entry in entries:
            if entry.name.endswith("-series") and entry.is_dir(follow_symlinks=False):
                for name in wanted.keys() & set(os.listdir(entry.path)):
                    found.setdefault(wanted[name], set()).add(entry.name.removesuffix("-series"))
    return found


def remove_empty(folder: str, root: str) -> None:
    """Remove a directory, and those above it up to `root`, while they are empty."""
    with contextlib.suppress(OSError):
        while folder.startswith(f"{root.rstrip('/')}/"):
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def _files_in(directory: str) -> list[str]:
    try:
        return sorted(os.path.join(directory, name) for name in os.listdir(directory))
    except FileNotFoundError:
        return []

"""Remove a series from tree and logs, for `listener prune`, while workers go on publishing.

The order: documents of instances are moved away, then instances, then shared documents. So no reader meets a document
without its instance, and no instance goes of which a sender was told a moment ago. Each instance is checked under the
lock under which workers decide that another file is its duplicate or replaces it (`WorkerContext.locked_place`); both
leave a mark (ctime, or another inode), and a marked instance stays, with its document. A worker that publishes the
instance anew finds neither file nor document. Shared documents are removed under the lock of the series, once its
directory of documents is gone: a worker that must make that directory takes the same lock and checks again
(`describe.SharedDocuments.ensure`). docs/reliability.md has the whole argument.

Files moved away lie in staging until their removal is on disk; `recover` ends an interrupted run.
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
from listener.repacking.document_files import locked, locked_series

#: Nanoseconds within which a change of an instance may not be in the ledger yet.
LEDGER_LAG_NS = 60 * 10**9

OUTSIDE = "outside --data"
IRREGULAR = "not a regular file"
FRESH = "changed within the last minute"
OTHER = "not the file that the ledger knows; see 'listener verify'"
UNDESCRIBED = "without a document in --log that tells of it; see 'listener verify --repair'"
ABSENT = "not there; see 'listener verify --repair'"


class Instance(NamedTuple):
    """An instance in the ledger: `folder` below the data directory (absolute: elsewhere), arrival in nanoseconds."""

    SOPInstanceUID: str
    folder: str
    name: str
    size: int
    arrived_ns: int


class Series(NamedTuple):
    """A series of a study that completed at `changed_ns`."""

    uid: str
    study: str
    changed_ns: int


class Marks(NamedTuple):
    """Status fields by which a file is known to be the same and untouched."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Removable(NamedTuple):
    """An instance that may go: its path and document, and the state of both when surveyed."""

    instance: Instance
    path: str
    marks: Marks
    document: str
    signature: Signature | None


class Survey(NamedTuple):
    """The instances of a series: to `go`, `absent`, and `left` with the reason; and the studies that its documents
    name.
    """

    go: list[Removable]
    absent: list[Instance]
    left: list[tuple[Instance, str]]
    studies: set[str]


class Remover:
    """Removes series in one run of `prune`, with staging directories of its own."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._data = context.directories.data.rstrip("/")
        self._log = context.directories.log
        self._serial = itertools.count()

    # -- looking -------------------------------------------------------------------------------------------------------

    def survey(self, series: Series, instances: Iterable[Instance], now_ns: int) -> Survey:
        """Check which instances of a series may go. Changes nothing."""
        survey = Survey([], [], [], set())
        for instance in instances:
            path = os.path.normpath(os.path.join(self._data, instance.folder, instance.name))
            if not path.startswith(f"{self._data}/"):
                survey.left.append((instance, OUTSIDE))
                continue
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                survey.absent.append(instance)
                continue
            document = f"{self._log}/{documents.instance_path(series.uid, instance.name)}"
            # The signature first: a document written afterwards then differs from it.
            removable = Removable(instance, path, _marks(status), document, json_file.signature(document))
            content = json_file.load_if_readable(document) or {}
            studies = set(_studies(content))
            why = _reason_to_stay(status, instance, series.changed_ns, now_ns)
            why = why or ("" if documents.location(content) == path else UNDESCRIBED)
            why = why or (OTHER if studies and series.study and series.study not in studies else "")
            survey.studies.update(studies)
            if why:
                survey.left.append((instance, why))
            else:
                survey.go.append(removable)
        return survey

    # -- removing ------------------------------------------------------------------------------------------------------

    def remove(self, survey: Survey, goes_on: Callable[[], bool]) -> list[Instance]:
        """Remove the surveyed instances as long as `goes_on()`; return those removed. Raises LockHeld, OSError."""
        moved: dict[Removable, str] = {}
        gone: list[tuple[Removable, str]] = []
        try:
            for item in survey.go:
                if not goes_on():
                    break
                self.take_document(item, moved)
            self._sync({os.path.dirname(item.document) for item in moved})
            for item in list(moved):
                if not goes_on():
                    break
                self.take_instance(item, moved, gone)
        finally:
            for item, document in moved.items():
                self.put_back(item, document, gone)
            self._sync({os.path.dirname(item.path) for item, _ in gone})
        for _, aside in gone:
            files.discard(aside)
        for folder in {os.path.dirname(item.path) for item, _ in gone}:
            remove_empty(folder, self._data)
        return [item.instance for item, _ in gone]

    def take_document(self, item: Removable, moved: dict[Removable, str]) -> None:
        """Move an instance's document to staging if both are unchanged."""
        with self._context.locked_place(item.path):
            if _marks_of(item.path) != item.marks:
                return
            with locked(item.document, self._context):
                if json_file.signature(item.document) == item.signature:
                    staged = self._context.log_staging.name()
                    os.rename(item.document, staged)
                    moved[item] = staged

    def take_instance(self, item: Removable, moved: dict[Removable, str], gone: list[tuple[Removable, str]]) -> None:
        """Move an instance away if it is unchanged and was not described anew; then delete its document."""
        if self._move_away(item, gone):
            files.discard(moved.pop(item))

    def _move_away(self, item: Removable, gone: list[tuple[Removable, str]]) -> bool:
        with self._context.locked_place(item.path):
            if _marks_of(item.path) != item.marks or self._is_described(item):
                return False
            aside = f"{self._context.directories.data_staging}/{_staged_name(item.marks)}-{next(self._serial):x}"
            try:
                os.rename(item.path, aside)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                os.unlink(item.path)  # A directory of the tree that is a link to another file system.
            else:
                if not _is_staged(aside):  # A program that takes no lock put another file there.
                    rename_new(aside, item.path)
                    return False
            gone.append((item, aside))
            return True

    def _is_described(self, item: Removable) -> bool:
        """Return whether the document names this path: under a changed patient's name the same document names another
        one.
        """
        return documents.location(json_file.load_if_readable(item.document) or {}) == item.path

    def put_back(self, item: Removable, document: str, gone: list[tuple[Removable, str]]) -> None:
        """Give an instance that stays its document back, unless another file is there, which its worker describes. If
        the document now belongs to another place, remove the instance after all.
        """
        there = _marks_of(item.path)
        if there is None or there[:2] != item.marks[:2]:
            files.discard(document)
        elif not self._give_back(document, item.document) and not self._is_described(item):
            self._move_away(item, gone)

    def _give_back(self, staged: str, document: str) -> bool:
        """Give a staged document its name back; return False where a newer one is there."""
        try:
            files.with_parents(rename_new, staged, document, 0o755, self._context.syncs)
        except FileExistsError:
            files.discard(staged)
            return False
        return True

    def forget(self, uid: str, studies: Iterable[str]) -> bool:
        """Remove the shared documents of a series and return True; False while an instance of it is described."""
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

    def drop_document(self, uid: str, instance: Instance) -> None:
        """Remove the document of an absent instance, if it names that one and the file still is absent."""
        path = os.path.normpath(os.path.join(self._data, instance.folder, instance.name))
        document = f"{self._log}/{documents.instance_path(uid, instance.name)}"
        if not os.path.lexists(document):
            return
        with self._context.locked_place(path), locked(document, self._context):
            location = documents.location(json_file.load_if_readable(document) or {})
            if location == path and not os.path.lexists(path):
                files.discard(document)

    def _sync(self, directories: Iterable[str]) -> None:
        for path in directories if self._context.syncs else ():
            with contextlib.suppress(FileNotFoundError):
                sync.directories([path])

    # -- after a crash -------------------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Finish an interrupted run: documents whose instances are there go back, the rest is deleted. Return paths of
        staged files that are not what was to be removed.
        """
        for path in _files_in(self._context.directories.log_staging):
            content = json_file.load_if_readable(path) or {}
            location = os.path.normpath(documents.location(content))
            if location.startswith(f"{self._data}/") and os.path.isfile(location):
                self._recover_instance(path, next(iter(content)), location)
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
        """Give an instance its document back. Where the document now belongs to another place, remove the instance: it
        was to be removed, and no sender was told of it since.
        """
        document = f"{self._log}/{documents.instance_path(uid, os.path.basename(path))}"
        with locked_series(uid, self._context):
            if self._give_back(staged, document):
                return
        with self._context.locked_place(path):
            now = documents.location(json_file.load_if_readable(document) or {})
            if now not in ("", path) and os.path.isfile(now):
                files.discard(path)
        remove_empty(os.path.dirname(path), self._data)


def _reason_to_stay(status: os.stat_result, instance: Instance, changed_ns: int, now_ns: int) -> str:
    """Return why an instance must stay; "" for the file that the ledger knows, unchanged since its series completed."""
    if not stat.S_ISREG(status.st_mode):
        return IRREGULAR
    if status.st_ctime_ns <= changed_ns:
        return ""
    if now_ns - status.st_ctime_ns < LEDGER_LAG_NS:
        return FRESH
    # Changed since its series completed: owner, mode and links may differ, content may not.
    return "" if status.st_size == instance.size and status.st_mtime_ns <= instance.arrived_ns else OTHER


def _marks(status: os.stat_result) -> Marks:
    return Marks(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _marks_of(path: str) -> Marks | None:
    try:
        return _marks(os.lstat(path))
    except FileNotFoundError:
        return None


def _staged_name(marks: Marks) -> str:
    """Return a name that identifies the file to be removed (a rename changes ctime, so that is not in it)."""
    return f"{marks.inode:x}-{marks.size:x}-{marks.modified_ns:x}"


def _is_staged(path: str) -> bool:
    return os.path.basename(path).rpartition("-")[0] == _staged_name(_marks(os.lstat(path)))


def _studies(document: Mapping[str, object]) -> Iterator[str]:
    for entry in document.values():
        study = entry.get("StudyInstanceUID") if isinstance(entry, dict) else None
        if isinstance(study, str) and study:
            yield study


def studies_of(log: str, uids: Iterable[str]) -> dict[str, set[str]]:
    """Return the studies that have a document of one of these series, by series, in one pass over all studies: a series
    that moved to another study is in both.
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

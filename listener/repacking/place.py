"""Give an instance its place in the tree: link it there, or settle with the instance that has the name already.

A link cannot overwrite, and claim and target exist side by side until the claim is released, so every later step can be
repeated. Bytes are copied only where links cannot work, or where a name outside the tree could still be written to.
"""

from __future__ import annotations

import contextlib
import os
import stat

from listener.disk import files, json_file
from listener.planning import documents
from listener.planning.plan import Plan
from listener.reasons import Conflict
from listener.repacking import dataset, link, setaside
from listener.repacking.context import COPY, LINK, WorkerContext
from listener.repacking.dataset import compare
from listener.repacking.job import Instance, NotYet, Placed, Source

#: Attempts to place an instance while others come and go at its name.
_MOST_TRIES = 5

#: Why a data set is in set-aside as superseded.
_REPLACED = setaside.Why("superseded", setaside.SUPERSEDED_TEXT)

#: Results of settling with an instance that is present: decided; the new one needs another name; the present one went.
_SETTLED, _BESIDE, _GONE = "settled", "beside", "gone"


def prepare(source: Source, plan: Plan, context: WorkerContext) -> None:
    """Set the target and, where the source cannot be linked, copy it. Runs before the first barrier."""
    source.target = context.target(plan)
    outside_name = source.claimed.links > 1 and not _is_same(source.target, source.claimed.inode)
    if context.mode == COPY or outside_name or not context.directories.links[source.arrival.root_index]:
        link.copy(source, context, context.data_staging)
    mode = context.config.file_mode
    if mode is not None and not source.copy:
        os.fchmod(source.descriptor, mode)


def descriptors_to_sync(source: Source) -> list[int]:
    """Return the descriptors whose data must be on disk before they get names."""
    return [source.copy_descriptor if source.copy else source.descriptor, *source.opened]


def place(source: Source, instance: Instance, plan: Plan, context: WorkerContext) -> Placed:
    """Link the instance to its target, or settle with the one there; return where it is. Raises Conflict by policy,
    NotYet where instances come and go at that name.
    """
    attempt = _Placing(source, instance, plan, context)
    for _ in range(_MOST_TRIES):
        if attempt.succeeds():
            return attempt.placed()
    raise NotYet


def remove_replaced(placed: Placed, context: WorkerContext) -> list[str]:
    """Remove replaced instances from their old places, now that the document points at the new one; leave what another
    worker has put there since. Return the directories that changed. Raises LockHeld.
    """
    for path, inode in placed.leaves:
        with context.locked_place(path):
            if _is_same(path, inode):
                files.discard(path)
    return [os.path.dirname(path) for path, _ in placed.leaves]


class _Placing:
    """An instance whose place is being decided. What becomes of a present instance, and of this one beside it, is
    decided under the lock of that place.
    """

    def __init__(self, source: Source, instance: Instance, plan: Plan, context: WorkerContext) -> None:
        self._source = source
        self._inode = source.claimed.inode
        self._instance = instance
        self._plan = plan
        self._context = context
        self._replaces = context.config.on_conflict == "replace"
        self._document = context.document(instance.series, plan.name)
        self._signature: json_file.Signature | None = None
        self._duplicated, self._present_size = "", 0
        self._superseded = ""
        self._leaves: list[tuple[str, tuple[int, int]]] = []

    def placed(self) -> Placed:
        """Return what was decided."""
        source = self._source
        target = self._duplicated or source.target
        replays = source.arrival.claim or self._context.mode == LINK
        if replays and source.claimed.links > 1:  # A replay: its last step may be missing.
            still = setaside.still_in_tree(self._plan.name, self._context)
            self._leaves += [(path, _inode(path)) for path in still if path != target]
        return Placed(
            "duplicate" if self._duplicated else "published",
            target,
            self._plan,
            self._document,
            self._signature,
            self._present_size,
            self._superseded,
            tuple(self._leaves),
        )

    def succeeds(self) -> bool:
        """Link the instance or settle with the present one; return False where that went meanwhile (`prune`): try
        again.
        """
        known = self._described_elsewhere()
        if not known and link.link_or_false(self._source, self._context):
            return True
        if known and self._is_taken():
            verdict = self._settle(self._source.target)
            if verdict == _SETTLED and not self._duplicated:
                self._replace_elsewhere(known)
        else:
            verdict = self._settle(known or self._source.target)
        return self._keep_both() if verdict == _BESIDE else verdict == _SETTLED

    def _described_elsewhere(self) -> str:
        """Return where this instance's document says it lies, if that is another place in this tree and a file is there
        (its path moves with a corrected PatientName), else "".
        """
        if not os.access(self._document, os.F_OK):  # The usual case, and cheaper than an exception.
            return ""
        self._signature = json_file.signature(self._document)
        location = os.path.normpath(documents.location(json_file.load(self._document) or {}))
        # Another program may have written it for its own data directory: touch nothing outside ours.
        inside = location.startswith(f"{self._context.directories.data}/")
        return location if inside and location != self._source.target and os.path.isfile(location) else ""

    def _is_taken(self) -> bool:
        """Return whether another data set to be replaced is at the target: one of another sender, which its worker is
        about to describe.
        """
        target = self._source.target
        return self._replaces and os.path.lexists(target) and not _is_same(target, self._inode)

    def _replace_elsewhere(self, known: str) -> None:
        """Replace the instance at `known`, which is described still: it was to be replaced by the one that this one
        replaced.
        """
        with self._context.locked_place(known):
            if (
                os.path.lexists(known)
                and not _is_same(known, self._inode)
                and compare(self._instance, known, self._context) != "other-instance"
            ):
                self._keep(known)
                self._leaves.append((known, _inode(known)))

    def _settle(self, present: str) -> str:
        """Settle with the file at `present`: a replay, a duplicate or a conflict. Return _SETTLED, _BESIDE (the new one
        needs another name) or _GONE.
        """
        with self._context.locked_place(present):
            try:
                return self._settle_locked(present)
            except FileNotFoundError:
                if os.path.lexists(present):
                    raise
                return _GONE  # Its worker removed it after describing its replacement.

    def _settle_locked(self, present: str) -> str:
        source, context = self._source, self._context
        if not os.path.lexists(present):
            return _GONE
        if _is_same(present, self._inode):
            if present != source.target and not _is_same(source.target, self._inode):
                link.link(source, context)
            _change_ctime(present)
            return _SETTLED
        verdict = compare(self._instance, present, context)
        replayed = source.claimed.links > 1 and setaside.was_superseded(self._inode, context)
        if verdict == "equal" or replayed:
            self._duplicate(present)
            return _SETTLED
        if verdict == "other-instance" or context.config.on_conflict == "set-aside":
            raise Conflict
        return self._replace(present) if self._replaces else _BESIDE

    def _duplicate(self, present: str) -> None:
        """Record that the instance duplicates `present`, which stays in the tree. Call under the lock of `present`."""
        self._present_size = os.stat(present).st_size
        _change_ctime(present)
        self._duplicated, self._source.target = present, ""

    def _keep_both(self) -> bool:
        """Place the instance beside the present one as `<stem>-<8 hex of the digest>.dcm`, in tree and document name.
        Return False where the instance with that name went meanwhile.
        """
        source, context = self._source, self._context
        suffix = f"-{dataset.digest(self._instance)[:8]}.dcm"
        if not self._plan.name.endswith(suffix):
            self._plan = Plan(self._plan.directory, f"{self._plan.name.removesuffix('.dcm')}{suffix}")
        source.target = context.target(self._plan)
        self._document = context.document(self._instance.series, self._plan.name)
        self._signature = json_file.signature(self._document)
        if link.link_or_false(source, context):
            return True
        with context.locked_place(source.target):
            if not os.path.lexists(source.target):
                return False
            if _is_same(source.target, self._inode):
                _change_ctime(source.target)
            else:
                self._duplicate(source.target)
            return True

    def _replace(self, present: str) -> str:
        """Give the new instance the name, after the old one is kept in set-aside as `superseded`. Return _SETTLED, or
        _GONE where its place was taken meanwhile by another instance that is to be replaced.
        """
        source, target = self._source, self._source.target
        linked = _is_same(target, self._inode)  # A replay: an earlier attempt came this far.
        if present != target and not linked and os.path.lexists(target):
            if compare(self._instance, target, self._context) == "other-instance":
                raise Conflict
            return _GONE
        self._superseded = self._keep(present)
        if present == target:
            link.replace(source, self._context)
            return _SETTLED
        if not linked and not link.link_or_false(source, self._context):
            return _GONE
        self._leaves.append((present, _inode(present)))
        return _SETTLED

    def _keep(self, present: str) -> str:
        """Keep a second name of a replaced instance in set-aside; return it."""
        digest = dataset.digest_of(present, self._context)
        return setaside.keep(present, self._context, _REPLACED, self._source.arrival.root_index, digest)


def _change_ctime(present: str) -> None:
    """Change st_ctime of an instance that a sender was told of again, so that `prune` leaves it. Setting the same mode
    does that, but needs the owner; another user's file stays unmarked.
    """
    with contextlib.suppress(PermissionError):
        os.chmod(present, stat.S_IMODE(os.stat(present).st_mode))


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _is_same(path: str, inode: tuple[int, int]) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == inode


def withdraw(source: Source) -> None:
    """Remove the name in the tree of a file that is set aside after all: it is never in both places."""
    if is_placed(source):
        os.unlink(source.target)


def take_back(source: Source, document: str, context: WorkerContext) -> None:
    """Remove the name in the tree of a file that must wait, unless its `document` names it. Takes the lock of the
    place, since another worker may be about to describe it as the instance that its own file duplicates.
    """
    if is_placed(source) and not _is_described(source, document):
        with context.locked_place(source.target):
            if not _is_described(source, document):
                os.unlink(source.target)


def is_placed(source: Source) -> bool:
    """Return whether this attempt, or an earlier interrupted one, gave the file its name in the tree."""
    if not source.target or not (source.linked or source.claim):
        return False
    inode = source.claimed.inode
    if source.copy:
        status = os.fstat(source.copy_descriptor)
        inode = (status.st_dev, status.st_ino)
    try:
        return _is_same(source.target, inode)
    except OSError:  # Unknown; a claim with a single name is in no tree.
        return source.linked or (not source.copy and source.claimed.links > 1)


def _is_described(source: Source, document: str) -> bool:
    """Return whether the instance's document names the target; where it cannot be read, whether an earlier attempt
    linked it.
    """
    try:
        return os.path.normpath(documents.location(json_file.load(document) or {})) == source.target
    except OSError:
        return not source.linked

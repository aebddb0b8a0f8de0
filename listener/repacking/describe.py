"""The document of an instance, and what must be there before it."""

from __future__ import annotations

import os
from collections.abc import Callable

from listener.disk import files, json_file, sync
from listener.disk.moves import rename_new
from listener.planning import documents
from listener.planning.plan import Plan
from listener.repacking.context import WorkerContext
from listener.repacking.document_files import displace_directory, locked, locked_series
from listener.repacking.job import Instance, NotYet, Placed, Resources, SharedContent, StagedDocument
from listener.repacking.shared_documents import SharedDocuments


def stage(instance: Instance, plan: Plan, context: WorkerContext, resources: Resources) -> StagedDocument:
    """Write the instance's document into staging, before the first barrier."""
    document = documents.instance(
        instance.header, plan, f"{context.directories.data}/{plan.directory}", instance.header.size
    )
    data = documents.encode(document)
    return StagedDocument(_write_beside(data, context, resources), data, plan.name)


def _write_beside(data: bytes, context: WorkerContext, resources: Resources) -> str:
    path, descriptor = context.log_staging.write(data)
    resources.temporaries.append(path)
    resources.opened.append(descriptor)
    return path


def describe(
    instance: Instance,
    placed: Placed,
    staged: StagedDocument,
    content: SharedContent | None,
    shared: SharedDocuments,
    resources: Resources,
) -> SharedContent | None:
    """Put the documents in place: the shared ones, made of `content` (None: they are there, or awaited), then the
    instance's own.

    Return what shared documents were made of, also if they went meanwhile. Raises Overtaken or NotYet where another
    worker was faster.
    """
    content = content or shared.read_awaited(instance)
    if content:
        shared.write_missing(instance, content, os.path.dirname(placed.target))
    own = _OwnDocument(instance, placed, content, shared)
    path = own.describe_present(resources) if placed.kind == "duplicate" else own.describe_new(staged, resources)
    if path:
        resources.temporaries.remove(path)
    return own.content


class Overtaken(NotYet):
    """Another worker has described another data set of this instance since its place was decided: one of the two would
    be in the tree without a document.
    """


class _OwnDocument:
    """The document of one instance while it gets its name. `content` is what shared documents were made of."""

    def __init__(
        self, instance: Instance, placed: Placed, content: SharedContent | None, shared: SharedDocuments
    ) -> None:
        self.content = content
        self._instance = instance
        self._placed = placed
        self._path = placed.document
        self._shared = shared
        self._context = shared.context

    def describe_new(self, staged: StagedDocument, resources: Resources) -> str:
        """Rename the staged document into place; return where it was staged."""
        if self._placed.plan.name != staged.name:  # keep-both renamed the instance
            staged = stage(self._instance, self._placed.plan, self._context, resources)
            if self._context.syncs:
                sync.descriptors(resources.opened[-1:])
        self._give_name(staged.path, staged.data)
        return staged.path

    def _give_name(self, path: str, data: bytes) -> None:
        """Rename the staged document into place, over the same document too: another worker that has read that one, to
        replace the instance it then described, must see that it was overtaken.
        """
        if self._placed.signature is None:
            try:
                self._move_in(rename_new, path)
            except FileExistsError:
                self._refuse_other(data)
            else:
                return
        with locked(self._path, self._context):
            # Under the lock: a command that found the document without an instance may be about to remove it.
            displace_directory(self._path, self._context)
            self._refuse_other(data)
            if _rename_or_false(path, self._path):
                return
        self._move_in(os.rename, path)

    def _refuse_other(self, data: bytes) -> None:
        """Raise NotYet where another document is there than when the place was decided, and it is not `data`: Overtaken
        where there was none.
        """
        signature = self._placed.signature
        if json_file.signature(self._path) in (signature, None) or _is_identical(self._path, data):
            return
        if signature:
            raise NotYet
        if json_file.load(self._path) is not None:
            raise Overtaken

    def _move_in(self, operation: Callable[[str, str], None], path: str) -> None:
        """Give a staged document its name by `operation`.

        A missing directory means that this is the first document of its series, or that `prune` removed the others:
        then the shared documents are ensured first, under the series' lock, so that no reader meets an instance without
        them.
        """
        try:
            operation(path, self._path)
        except FileNotFoundError:
            os.lstat(path)
            base = os.path.dirname(self._placed.target)
            with locked_series(self._instance.series, self._context):
                files.make_directories(os.path.dirname(self._path), 0o755, syncs=self._context.syncs)
                self.content = self._shared.ensure(self._instance, self.content, base)
                operation(path, self._path)

    def describe_present(self, resources: Resources) -> str:
        """Describe a duplicate: keep the document of the instance in the tree if it names that file and its size, else
        write it. Return where it was staged, "" if it was kept. Raises NotYet where the instance was withdrawn or
        replaced meanwhile.
        """
        target, size, context = self._placed.target, self._placed.present_size, self._context
        if documents.describes(json_file.load(self._path) or {}, target, size):
            return ""
        displace_directory(self._path, context)
        base, name = os.path.split(target)
        document = documents.instance(self._instance.header, Plan("", name), base, size)
        path = _write_beside(documents.encode(document), context, resources)
        if context.syncs:
            sync.descriptors(resources.opened[-1:])
        with context.locked_place(target):
            with locked(self._path, context):
                # Another worker may have replaced the instance and removed it from the tree.
                changed = (
                    json_file.signature(self._path) not in (self._placed.signature, None)
                    and json_file.load(self._path) is not None
                )
                if changed or not os.path.lexists(target):
                    raise NotYet
                done = _rename_or_false(path, self._path)
            if not done:
                self._move_in(os.rename, path)
        return path


def _rename_or_false(path: str, document: str) -> bool:
    """Rename; return False where the directory is missing."""
    try:
        os.rename(path, document)
    except FileNotFoundError:
        return False
    return True


def _is_identical(path: str, data: bytes) -> bool:
    """Return whether the document at `path` holds exactly `data`."""
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False

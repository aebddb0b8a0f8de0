"""What `listener verify --repair` does about each difference.

Documents are rebuilt from the tree, or changed where they are, under the locks that publishing takes. No instance is
touched, and nothing is deleted: what must go is moved to ``<log>/.listener/removed/``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from listener.disk import loading
from listener.errors import FileFault
from listener.planning import documents
from listener.planning.documents import Document
from listener.repacking import shared
from listener.repacking.desk import Desk
from listener.repacking.revision import Revision, revise
from listener.repacking.shared import locked, locked_series, update
from listener.verification.differences import Difference
from listener.verification.inventory import base_directory, part_with
from listener.verification.listing import names_in
from listener.verification.places import Places
from listener.verification.rebuild import Rebuilder

Way = Callable[[Difference], bool]


class Repairer:
    """Mends differences one by one; says which it could not."""

    def __init__(self, desk: Desk, places: Places) -> None:
        self._desk = desk
        self._places = places
        self._log = desk.directories.log
        self._rebuilder = Rebuilder(desk)
        self._ways: dict[str, Way] = {
            "moved": self._follow,
            "no-instance": self._remove_dangling,
            "bad-document": self._describe_anew,
            "wrong-document": self._describe_anew,
            "size": self._tell_size,
            "no-shared-document": lambda one: self._rebuilder.share(one.other),
            "bad-shared-document": self._share_anew,
            "study-list": lambda one: self._rebuilder.share(one.other),
            "outdated": self._renew,
            "left-over": self._drop,
            "base-dir": lambda one: self._rewrite(one.path, "SeriesBaseDir", os.path.dirname(one.other)),
            "no-instances": self._forget,
            "foreign-in-log": lambda one: self._remove(one.path),
        }

    def mend(self, difference: Difference) -> bool:
        """Try; whether the difference is gone."""
        try:
            way = self._ways.get(difference.word)
            return way is not None and way(difference)
        except (FileFault, OSError):
            return False

    def describe(self, paths: list[str]) -> list[bool]:
        """Write the documents of these instances of the tree; for each, whether that worked."""
        return self._rebuilder.describe(paths)

    def _remove(self, path: str) -> bool:
        """Move something out of the logs, where nobody reads it and nothing is lost."""
        shared.remove(path, self._desk)
        return True

    def _remove_dangling(self, one: Difference) -> bool:
        """The document of an instance that is not there, unless that is there by now: a worker that finds its document
        word for word leaves it, and looks under the same lock.
        """
        with locked(one.path, self._desk):
            told = documents.location(loading.load_if_readable(one.path) or {})
            place = self._places.find(os.path.dirname(told)).path
            return os.path.isfile(f"{place}/{os.path.basename(told)}") or self._remove(one.path)

    def _describe_anew(self, one: Difference) -> bool:
        """Out of the way. Without an instance that it is known to be of, the tree will tell what belongs there."""
        return self._remove(one.path) and (not one.other or self._rebuilder.describe([one.other])[0])

    def _share_anew(self, one: Difference) -> bool:
        return self._remove(one.path) and self._rebuilder.share(one.other)

    def _tell_size(self, one: Difference) -> bool:
        """Only of an instance that is whole: the document may be right, and the instance cut."""
        size = self._rebuilder.whole_size(one.other)
        return size >= 0 and self._rewrite(one.path, "size", size)

    def _follow(self, one: Difference) -> bool:
        """Let every document of a series point to where its instances are now."""
        studies = set()
        for name in names_in(one.path):
            path = f"{one.path}/{name}"
            document = loading.load_if_readable(path) or {}
            studies.add(str(part_with(document, "StudyInstanceUID").get("StudyInstanceUID", "")))
            told = documents.location(document)
            place = self._places.find(os.path.dirname(told))
            if told and place.moved:
                self._rewrite(path, "FSlocation", f"{place.path}/{os.path.basename(told)}")
        for study in studies:
            path = f"{self._log}/{documents.study_series_path(study, one.series)}"
            place = self._places.find(base_directory(loading.load_if_readable(path) or {}))
            if place.moved:
                self._rewrite(path, "SeriesBaseDir", place.path)
        return True

    def _renew(self, one: Difference) -> bool:
        revise(Revision(one.series, renews=True), self._desk, [])
        return True

    def _drop(self, one: Difference) -> bool:
        """What tells of a study that a series, or a patient, is not in any more."""
        if one.document != "patient":
            return self._remove(one.path)

        def without(there: Document | None) -> Document | None:
            changed = (documents.without_study(there or {}, patient, one.study) for patient in there or {})
            return next((document for document in changed if document), None)

        shared.update(one.path, self._desk, without)
        return True

    def _rewrite(self, path: str, key: str, value: object) -> bool:
        """Change one value of a document; whatever else another program wrote there stays."""
        update(path, self._desk, lambda there: None if there is None else _with_value(there, key, value))
        return True

    def _forget(self, one: Difference) -> bool:
        """A series without instances: its documents go out of the way; what other programs wrote of it stays."""
        if one.study:
            return self._remove(one.path)
        path = f"{self._log}/{documents.series_path(one.series)}"
        study = str(part_with(loading.load_if_readable(path) or {}, "StudyInstanceUID").get("StudyInstanceUID", ""))
        names = [documents.series_path(one.series), documents.pack_path(one.series)]
        names += [documents.study_series_path(study, one.series)] if study else []
        with locked_series(one.series, self._desk):
            try:
                os.rmdir(one.path)
            except OSError as error:  # It may never have had any; what lies in it by now needs the others.
                if error.errno != errno.ENOENT:
                    return False
            for name in names:
                self._remove(f"{self._log}/{name}")
        return True


def _with_value(document: Document, key: str, value: object) -> Document:
    """`document` with `key` set wherever it stands; of an instance's document, its one image gets it."""
    changed: dict[str, Any] = {}
    for name, part in document.items():
        if name == key:
            changed[name] = value
        elif isinstance(part, dict) and name != "DICOM":
            changed[name] = _with_value(part, key, value)
        else:
            changed[name] = part
    return changed

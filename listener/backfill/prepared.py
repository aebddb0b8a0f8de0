"""Documents of one series at a time, read before a transaction begins: no listener waits for a disk meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from listener.config import Config
from listener.ledger.evidence import DocumentReader, Identity, Instance
from listener.records import SeriesHeader

_T = TypeVar("_T")

#: New instances in one transaction.
_AT_ONCE = 500


class PreparedDocuments(DocumentReader):
    """A DocumentReader that answers for the series that was prepared last from memory. It shows a share of its new
    instances at a time.
    """

    def __init__(self, config: Config, at_once: int = _AT_ONCE) -> None:
        super().__init__(config)
        self._at_once = at_once
        self._shown: list[str] | None = None
        self._known: dict[tuple[Any, ...], Any] = {}

    def prepare(self, uid: str, recorded: set[str]) -> Iterator[bool]:
        """Read what is new of a series, a share at a time: yield after each, True after the last one. `recorded`: names
        of its instances that the ledger has.
        """
        self._known, self._shown = {}, None
        there = super().names(uid) or []
        fresh = [name for name in there if name not in recorded]
        self._shown = [name for name in there if name in recorded]
        for start in range(0, max(1, len(fresh)), self._at_once):
            share = fresh[start : start + self._at_once]
            for name in share:
                self.instance(uid, name)
            self._read_about(uid, share)
            self._shown += share
            yield start + self._at_once >= len(fresh)

    def _read_about(self, uid: str, names: list[str]) -> None:
        """Read what a transaction asks for the first instance of each study."""
        firsts: dict[str, Instance] = {}
        for instance in filter(None, (self.instance(uid, name) for name in names)):
            firsts.setdefault(instance.StudyInstanceUID, instance)
        for study, instance in firsts.items():
            self.identity(uid, instance)
            self.header(study, uid)
        self.promise(uid, (-1, -1))

    def _remembered(self, key: tuple[Any, ...], read: Callable[[], _T]) -> _T:
        if key not in self._known:
            self._known[key] = read()
        found: _T = self._known[key]
        return found

    def names(self, uid: str) -> list[str] | None:
        """Return the names that are shown of the prepared series."""
        return super().names(uid) if self._shown is None else list(self._shown)

    def instance(self, uid: str, name: str) -> Instance | None:
        """Return an instance by its document; None if that cannot be read or has no location."""
        return self._remembered(("instance", uid, name), lambda: super(PreparedDocuments, self).instance(uid, name))

    def identity(self, uid: str, instance: Instance) -> Identity:
        """Return the identity in the header of an instance; empty if it is of another series or cannot be read."""
        key = ("identity", uid, instance.StudyInstanceUID)
        return self._remembered(key, lambda: super(PreparedDocuments, self).identity(uid, instance))

    def header(self, study: str, uid: str) -> SeriesHeader | None:
        """Return the header of a series of a study from its document with the whole header; None without one."""
        return self._remembered(("header", study, uid), lambda: super(PreparedDocuments, self).header(study, uid))

    def promise(self, uid: str, seen: tuple[int, int]) -> tuple[tuple[int, int], dict[str, Any] | None]:
        """Return stamp and content of the promise, as it was when the series was prepared."""
        return self._remembered(("promise", uid, seen), lambda: super(PreparedDocuments, self).promise(uid, seen))

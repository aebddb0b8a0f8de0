"""Ends of generations: decided by the book, confirmed by the documents that readers see, recorded, and then told."""

from __future__ import annotations

from collections.abc import Sequence

from listener.ledger import turns
from listener.ledger.access import Access
from listener.ledger.opening import transaction
from listener.ledger.posting import Posting
from listener.ledger.proofs import Proofs
from listener.ledger.states import Book, Completion, Standing


class Ending:
    """`ended` is what is to be told: at least once, whatever happens between here and there."""

    def __init__(self, book: Book, proofs: Proofs, access: Access) -> None:
        self._book = book
        self._proofs = proofs
        self._access = access
        self.ended: list[Completion] = []

    def end(self, due: Sequence[Standing], posting: Posting | None, now: float, now_ns: int) -> None:
        """End these series, all in one transaction. Without a ledger they end all the same, and are told."""
        connection = self._access.connection
        if not connection or not posting:
            self._end_unrecorded(due, now)
            return
        ended: list[Completion] = []
        with self._access.minding(now):
            with transaction(connection):
                for one in due:
                    completion = self._confirmed(posting, one, now, now_ns)
                    if completion and turns.end(connection, one.id, completion, now_ns):
                        ended.append(completion)
            self.ended += ended
            for completion in ended:
                self._book.drop(completion.SeriesInstanceUID, completion.StudyInstanceUID)

    def _confirmed(self, posting: Posting, one: Standing, now: float, now_ns: int) -> Completion | None:
        """How a series ends, if it still does when its documents are counted."""
        described = self._proofs.count(one.SeriesInstanceUID)
        counted: Standing | None = one
        if not one.id or described not in (None, one.instances):
            found = posting.recount(one.SeriesInstanceUID, now, now_ns)
            counted = next((other for other in found if other.StudyInstanceUID == one.StudyInstanceUID), None)
        if counted is None:  # Never recorded, and gone; or what was expected is known by its study now.
            self._book.drop(*one.key)
            return None
        result = self._book.verdict(counted, now)
        return self._book.completion(counted, result) if result else None

    def _end_unrecorded(self, due: Sequence[Standing], now: float) -> None:
        shared = self._book.shared()
        for one in due:
            uid, study = one.key
            one.instances = self._proofs.count_of(uid, study) if uid in shared else self._proofs.count(uid) or 0
            result = self._book.verdict(one, now)
            if result:
                self.ended.append(self._book.completion(one, result))
                self._book.drop(uid, study)

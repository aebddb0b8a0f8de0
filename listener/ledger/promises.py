"""What other programs say of open series: how many instances there will be; and what other listeners bring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from listener.ledger.proofs import Proofs
from listener.ledger.states import Standing, promised

#: A series that has less than was promised, and got nothing for so long (seconds), may have got it from another one.
_IDLE = 1.0


class Promises:
    """Looks at files only when their looks changed."""

    def __init__(self, proofs: Proofs) -> None:
        self._proofs = proofs

    def read(self, series: Iterable[Standing]) -> list[Standing]:
        """Take over what `<series>-retrieve.json` promises; the series whose expected number changed by it. What a
        person said (`listener expect`) is not changed by a program.
        """
        changed = []
        for one in series:
            one.promise, document = self._proofs.promise(one.SeriesInstanceUID, one.promise)
            if document is None or one.expected_by == "expect":
                continue
            number = promised(document, one.StudyInstanceUID)
            if number != one.expected:
                one.expected, one.expected_by = number, "retrieve" if number else ""
                changed.append(one)
        return changed

    def elsewhere(self, series: Iterable[Standing], now: float) -> Iterator[str]:
        """Series that have less than was promised, and more documents than instances that we know of."""
        for one in series:
            if one.instances < one.expected and now - one.touched >= _IDLE:
                changed = self._proofs.changed(one.SeriesInstanceUID)
                if changed != one.documents:
                    one.documents = changed
                    if (self._proofs.count(one.SeriesInstanceUID) or 0) > one.instances:
                        yield one.SeriesInstanceUID

"""PURE. What waits until the ledger can be written: outcomes, and series to be counted again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from listener.records import Outcome

#: Outcomes that wait at most; beyond that only their series are kept, to be recounted.
MAX_PENDING = 50_000


class PendingOutcomes:
    """Outcomes that are not recorded yet, and series to be recounted from their documents.

    Bounded: the series of more than `limit` outcomes are recounted instead.
    """

    def __init__(self, limit: int = MAX_PENDING) -> None:
        self.limit = limit
        self._recounts: dict[str, bool] = {}
        self.outcomes: list[Outcome] = []

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Add outcomes."""
        self.outcomes += outcomes
        if len(self.outcomes) > self.limit:
            self.give_up()

    def give_up(self) -> None:
        """Drop the outcomes; recount their series."""
        self.recount(
            (outcome.SeriesInstanceUID for outcome in self.outcomes if outcome.kind == "published"), arrived=True
        )
        self.outcomes.clear()

    def recount(self, series: Iterable[str], *, arrived: bool = False) -> None:
        """Recount these series, whose rows may lack something. `arrived`: instances came whose end was not announced,
        so that the series is open, also if `verify --repair` was faster and recorded it as ended.
        """
        for uid in series:
            if uid:
                self._recounts[uid] = arrived or self._recounts.get(uid, False)

    @property
    def has_recounts(self) -> bool:
        """Return whether a series is to be recounted."""
        return bool(self._recounts)

    def next_recount(self) -> tuple[str, bool]:
        """Remove and return the next series to be recounted, and whether instances of it arrived."""
        uid = next(iter(self._recounts))
        return uid, self._recounts.pop(uid)

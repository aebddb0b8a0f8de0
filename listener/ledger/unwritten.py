"""PURE. What is to be written to the ledger: outcomes that wait, and series that are to be counted again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from listener.records import Outcome

#: Outcomes that wait at most; of more, only their series are remembered.
MOST = 50_000


class Unwritten:
    """Bounded: where there is no room for outcomes, their series' documents tell the same later."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._again: dict[str, None] = {}
        self.outcomes: list[Outcome] = []

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """These wait, too."""
        self.outcomes += outcomes
        if len(self.outcomes) > self._most:
            self.give_up()

    def give_up(self) -> None:
        """Forget the outcomes; their series are counted again."""
        self.again(outcome.SeriesInstanceUID for outcome in self.outcomes if outcome.kind == "published")
        self.outcomes.clear()

    def again(self, series: Iterable[str]) -> None:
        """These series' rows may lack something."""
        self._again.update(dict.fromkeys(uid for uid in series if uid))

    @property
    def lacking(self) -> bool:
        """Whether a series is still to be counted again."""
        return bool(self._again)

    def next(self) -> str:
        """The series that is counted again now; it is one no more."""
        uid = next(iter(self._again))
        del self._again[uid]
        return uid

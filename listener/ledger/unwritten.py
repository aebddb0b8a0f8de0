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
        self._again: dict[str, bool] = {}
        self.outcomes: list[Outcome] = []

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """These wait, too."""
        self.outcomes += outcomes
        if len(self.outcomes) > self._most:
            self.give_up()

    def give_up(self) -> None:
        """Forget the outcomes; their series are counted again."""
        self.again((one.SeriesInstanceUID for one in self.outcomes if one.kind == "published"), arrived=True)
        self.outcomes.clear()

    def again(self, series: Iterable[str], *, arrived: bool = False) -> None:
        """The rows of these series may lack something. `arrived`: instances came whose end nobody was told of yet, so
        that the series is open, also where `verify --repair` was faster and recorded it as an old one.
        """
        for uid in series:
            if uid:
                self._again[uid] = arrived or self._again.get(uid, False)

    @property
    def lacking(self) -> bool:
        """Whether a series is still to be counted again."""
        return bool(self._again)

    def next(self) -> tuple[str, bool]:
        """The series that is counted again now (and is one no more), and whether instances of it arrived."""
        uid = next(iter(self._again))
        return uid, self._again.pop(uid)

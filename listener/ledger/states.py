"""PURE. When a generation of a series ends: the expected number was reached, or nothing new came for a while.

Kept here are the series that are open, as the ledger's writer knows them while it runs. How long nothing came is
measured on the monotonic clock, which no jump of the wall clock moves; time that passed while nobody looked does not
count, so that a restart with a long backlog ends no series too early. Time is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from listener.records import Outcome

#: How a generation's end came about; `late` is a later generation than the first. Metric label and event field.
RESULTS = ("expected", "quiet", "late", "incomplete")


#: Series Instance UID and Study Instance UID: one series UID may be in two studies.
Key = tuple[str, str]

#: A promise beyond this is as good as this: what sqlite and JavaScript count exactly.
_MOST = 2**53 - 1


class Completion(NamedTuple):
    """A series was taken for complete (or incomplete). `expected` is 0 where nobody said how many there will be."""

    SeriesInstanceUID: str
    StudyInstanceUID: str
    generation: int
    instances: int
    expected: int
    result: str

    @property
    def state(self) -> str:
        """The state of the series that it makes."""
        return "incomplete" if self.result == "incomplete" else "complete"

    @property
    def event(self) -> str:
        """What consumers call it."""
        return f"series-{self.state}"


@dataclass(slots=True)
class Standing:
    """One series, open unless it was met again after its end. `id` is its row's (0: the ledger does not have it),
    `touched` when it last got an instance, on the clock of `now`; `promise` and `documents` are the looks of its
    promise and its documents when last read.
    """

    SeriesInstanceUID: str
    StudyInstanceUID: str = ""
    Modality: str = ""
    id: int = 0
    generation: int = 1
    instances: int = 0
    expected: int = 0
    expected_by: str = ""
    is_open: bool = True
    touched: float = 0.0
    promise: tuple[int, int] = (0, 0)
    documents: int = 0

    @property
    def key(self) -> Key:
        """By what it is known: its series, and its study ("" while nothing came)."""
        return self.SeriesInstanceUID, self.StudyInstanceUID


class Rules(NamedTuple):
    """`quiet` maps a modality to the seconds without a new instance after which a series is complete, "" being any
    other; `timeout` is the same for one that was promised more instances than came: it is incomplete then.
    """

    quiet: Mapping[str, float]
    timeout: float

    def verdict(self, one: Standing, idle: float) -> str:
        """How the series ends after so many seconds without a new instance; "" when it goes on."""
        if one.expected:
            if one.instances >= one.expected:
                return "expected" if one.generation == 1 else "late"
            return "incomplete" if idle >= self.timeout else ""
        if idle < self.quiet.get(one.Modality, self.quiet[""]):
            return ""
        return "quiet" if one.generation == 1 else "late"


class Book:
    """The open series."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._open: dict[Key, Standing] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Standing]:
        return iter(list(self._open.values()))

    def get(self, uid: str, study: str) -> Standing | None:
        """An open series of a study."""
        return self._open.get((uid, study))

    def shared(self) -> set[str]:
        """The Series Instance UIDs that open series of more than one study have."""
        times = Counter(uid for uid, _ in self._open)
        return {uid for uid, number in times.items() if number > 1}

    def keep(self, one: Standing) -> Standing:
        """A series is open."""
        self._open[one.key] = one
        return one

    def remember(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Keep the series of what was published, while the ledger cannot."""
        for outcome in outcomes:
            uid = outcome.SeriesInstanceUID
            if outcome.kind == "published" and uid:
                study = outcome.StudyInstanceUID
                one = self._open.get((uid, study)) or Standing(uid, study, outcome.Modality)
                one.touched = now
                self.keep(one)

    def drop(self, uid: str, study: str) -> None:
        """It is not any more."""
        self._open.pop((uid, study), None)

    def renew(self, rows: Iterable[Standing], now: float, *, keeping: bool = False) -> list[str]:
        """The open series as the ledger has them, which others write to as well: what changed there got something just
        now. Returns the series that only the book had, and has no more; with `keeping` it still has them, as series
        that the ledger does not have.
        """
        before, self._open = self._open, {}
        for one in rows:
            known = before.pop(one.key, None)
            one.touched = now
            if known:
                one.promise, one.documents = known.promise, known.documents
                if (known.instances, known.generation) == (one.instances, one.generation):
                    one.touched = known.touched
            self.keep(one)
        for one in before.values() if keeping else ():
            one.id = 0
            self.keep(one)
        return [uid for uid, _ in before]

    def verdict(self, one: Standing, now: float) -> str:
        """How a series ends at `now`; "" when it goes on."""
        return self._rules.verdict(one, now - one.touched)

    def completion(self, one: Standing, result: str) -> Completion:
        """What is told of its end."""
        return Completion(
            one.SeriesInstanceUID, one.StudyInstanceUID, one.generation, one.instances, one.expected, result
        )


def promised(document: Mapping[str, object], study: str = "") -> int:
    """NumberOfSeriesRelatedInstances of pypx's flat document; it may be a text. 0 where there is none, or where the
    document tells that it means another study than `study`.
    """
    if study and str(document.get("StudyInstanceUID") or study) != study:
        return 0
    try:
        return min(_MOST, max(0, int(str(document.get("NumberOfSeriesRelatedInstances", 0)))))
    except ValueError:
        return 0

"""PURE. When a generation of a series ends: the expected number was reached, or nothing new came for a while.

Kept here are the series that are open, as the ledger's writer knows them while it runs. How long nothing came is
measured on the clock of quiet.py, which no jump of the wall clock moves, and which stands while files wait. Time is an
argument.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from listener.records import Outcome

#: How a generation's end came about; `late` is a later generation than the first. Metric label and event field.
RESULTS = ("expected", "quiet", "late", "incomplete")


#: Series Instance UID and Study Instance UID: one series UID may be in two studies.
Key = tuple[str, str]

#: A promise beyond this is as good as this: what sqlite and JavaScript count exactly.
_MOST = 2**53 - 1

#: Moments in the book's queue that are out of date, beside one for each open series.
MOST_STALE = 10_000


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
class SeriesState:
    """One series, open unless it was met again after its end. `id` is its row's (0: the ledger does not have it),
    `root` the incoming directory that it came from ("": unknown), `began` how many instances it had when its generation
    began (0 where the one before lacked some), `touched` when it last got an instance, on the clock of quiet.py;
    `promise` and `documents` are the looks of its promise and its documents when last read; `due` when it is looked at
    next.
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
    last_activity: float = 0.0
    root: str = ""
    began: int = 0
    promise: tuple[int, int] = (0, 0)
    documents: int = 0
    due: float = inf
    PatientID: str = ""

    @property
    def key(self) -> Key:
        """By what the book knows it."""
        return self.SeriesInstanceUID, self.StudyInstanceUID

    @property
    def has_reached(self) -> bool:
        """Whether what was expected has come in this generation. Of one that had it all before (the promise was too
        low, or instances are replaced) nobody knows how much more will come.
        """
        return 0 < self.expected <= self.instances and (self.generation == 1 or self.began < self.expected)


class CompletionRules(NamedTuple):
    """`quiet` maps a modality to the seconds without a new instance after which a series is complete, "" being any
    other; `timeout` is the same for one that was promised more instances than came: it is incomplete then.
    """

    quiet: Mapping[str, float]
    timeout: float

    def due(self, one: SeriesState) -> float:
        """When the series ends if nothing comes before."""
        if one.has_reached:
            return -inf
        if one.instances < one.expected:
            return one.last_activity + self.timeout
        return one.last_activity + self.quiet.get(one.Modality, self.quiet[""])

    def verdict(self, one: SeriesState, horizon: float) -> str:
        """How the series ends when everything that came before `horizon` is done; "" when it goes on."""
        if horizon < self.due(one):
            return ""
        if one.instances < one.expected:
            return "incomplete"
        if one.generation > 1:
            return "late"
        return "expected" if one.expected else "quiet"


class OpenSeries:
    """The open series. Each is in `_queue` under the moment at which it is looked at next, so that those that nothing
    happens to cost nothing; moments that are out of date stay there until their time, but for MOST_STALE of them.
    """

    def __init__(self, rules: CompletionRules) -> None:
        self._rules = rules
        self._open: dict[Key, SeriesState] = {}
        self._queue: list[tuple[float, Key]] = []
        self._turns: list[Key] = []

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[SeriesState]:
        return iter(list(self._open.values()))

    def get(self, uid: str, study: str) -> SeriesState | None:
        """An open series."""
        return self._open.get((uid, study))

    def shared(self) -> set[str]:
        """The Series Instance UIDs that open series of more than one study have."""
        times = Counter(uid for uid, _ in self._open)
        return {uid for uid, number in times.items() if number > 1}

    def keep(self, one: SeriesState) -> SeriesState:
        """A series is open, or something of it has changed."""
        self._open[one.key] = one
        self._look_at(one, self._rules.due(one))
        return one

    def _look_at(self, one: SeriesState, moment: float) -> None:
        # One that got something is looked at when it would have been: only then is a later moment found.
        if moment < one.due:
            one.due = moment
            heapq.heappush(self._queue, (moment, one.key))
            if len(self._queue) > 2 * len(self._open) + MOST_STALE:
                self._queue = [(other.due, key) for key, other in self._open.items()]
                heapq.heapify(self._queue)

    def due(self, horizon: float) -> list[SeriesState]:
        """The series that end when everything that came before `horizon` is done; those that are not dropped, nor put
        off, are found again the next time.
        """
        found = []
        while self._queue and self._queue[0][0] <= horizon:
            moment, key = heapq.heappop(self._queue)
            one = self._open.get(key)
            if one is None or one.due != moment:
                continue
            one.due = inf
            if self.verdict(one, horizon):
                found.append(one)
            else:
                self._look_at(one, self._rules.due(one))
        for one in found:
            self._look_at(one, self._rules.due(one))
        return found

    def put_off(self, one: SeriesState, moment: float) -> None:
        """Look at a series again at `moment`, or when it changes."""
        one.due = inf
        self._look_at(one, moment)

    def in_turn(self, most: int) -> list[SeriesState]:
        """The next `most` series: all of them have their turn before one has it again."""
        found: list[SeriesState] = []
        if not self._turns:
            self._turns = list(self._open)
        while self._turns and len(found) < most:
            one = self._open.get(self._turns.pop())
            if one:
                found.append(one)
        return found

    def remember(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Keep the series of what was published, while the ledger cannot."""
        for outcome in outcomes:
            uid = outcome.SeriesInstanceUID
            if outcome.kind == "published" and uid:
                study = outcome.StudyInstanceUID
                one = self._open.get((uid, study)) or SeriesState(uid, study, outcome.Modality)
                one.last_activity = now
                self.keep(one)

    def drop(self, uid: str, study: str) -> None:
        """It is not any more."""
        self._open.pop((uid, study), None)

    def renew(self, rows: Iterable[SeriesState], now: float, *, keeping: bool = False) -> list[str]:
        """The open series as the ledger has them, which others write to as well: what changed there got something just
        now. Returns the series that only the book had, and has no more; with `keeping` it still has them, as series
        that the ledger does not have.
        """
        before, self._open = self._open, {}
        for one in rows:
            known = before.pop(one.key, None)
            self.keep(follow(known, one, now) if known else one)
        for one in before.values() if keeping else ():
            one.id = 0
            self.keep(one)
        return [uid for uid, _ in before]

    def verdict(self, one: SeriesState, horizon: float) -> str:
        """How a series ends at `horizon`; "" when it goes on."""
        return self._rules.verdict(one, horizon)

    def completion(self, one: SeriesState, result: str) -> Completion:
        """What is told of its end."""
        return Completion(
            one.SeriesInstanceUID, one.StudyInstanceUID, one.generation, one.instances, one.expected, result
        )


def follow(known: SeriesState, row: SeriesState, now: float) -> SeriesState:
    """A series that the book has, as its row says it is. What makes it wait longer begins at `now`: instances that
    another one recorded, or a number that it has not reached.
    """
    grew = (known.instances, known.generation) != (row.instances, row.generation)
    awaits = row.expected != known.expected and row.instances < row.expected
    row.last_activity = now if grew or awaits else known.last_activity
    row.promise, row.documents = known.promise, known.documents
    # What is queued under the old moment is found for the new one, too.
    row.due = known.due
    return row


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

"""PURE. When a generation of a series ends: the expected number was reached, or nothing new came for a while.

A series is *quiet* when no instance arrived for a while although intake flowed. That is measured on the quiet clock
(Flow): seconds in which files could come in and be published. Jumps of the wall clock do not move it, and it stands
while files wait (the system refuses, a long backlog, a rescan that is not complete). A series ends when its quiet time
lies before the clock's horizon, the moment before which everything that was noticed is done. Time is an argument.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from listener.ledger.waiting_studies import WaitingStudies
from listener.records import Outcome

#: Why a generation ended; `late` is a later generation than the first. Metric label and event field.
RESULTS = ("expected", "quiet", "late", "incomplete")


#: Series Instance UID and Study Instance UID: one series UID may be in two studies.
SeriesKey = tuple[str, str]

#: Larger expected numbers are cut to this: what sqlite and JavaScript count exactly.
_LARGEST_EXPECTED = 2**53 - 1

#: Outdated moments in the queue of OpenSeries at most, beside one for each open series.
MAX_STALE = 10_000


class Completion(NamedTuple):
    """The end of a generation of a series. `expected` is 0 where the number of instances was not known beforehand."""

    SeriesInstanceUID: str
    StudyInstanceUID: str
    generation: int
    instances: int
    expected: int
    result: str

    @property
    def state(self) -> str:
        """Return the state of the series after this end."""
        return "incomplete" if self.result == "incomplete" else "complete"

    @property
    def event(self) -> str:
        """Return the name of the event for consumers."""
        return f"series-{self.state}"

    @property
    def announced_as(self) -> str:
        """Return the name of the event on standard output."""
        return "series-complete"


class StudyEnd(NamedTuple):
    """The end of a generation of a study: its series, those of them that are complete, and what came altogether."""

    StudyInstanceUID: str
    generation: int
    series: int
    complete: int
    instances: int
    bytes: int
    result: str

    @property
    def event(self) -> str:
        """Return the name of the event for consumers."""
        return f"study-{self.result}"

    @property
    def announced_as(self) -> str:
        """Return the name of the event on standard output."""
        return "study-complete"


#: What is announced.
End = Completion | StudyEnd


def study_result(states: Iterable[str]) -> str:
    """Return how a study stands whose series have ended so."""
    return "incomplete" if "incomplete" in states else "complete"


@dataclass(slots=True)
class SeriesState:
    """One series in memory. `id` is its row's (0: not in the ledger), `last_activity` when it last got an instance and
    `check_at` when it is checked next (both on the quiet clock, seconds), `root` its incoming directory ("": unknown),
    `began_with` its instances when this generation began (0 where the one before was incomplete). `promise_stamp` is
    (mtime_ns, size) of `-retrieve.json`, `documents_ns` the mtime of the `-img` directory, both as last read.
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
    began_with: int = 0
    promise_stamp: tuple[int, int] = (0, 0)
    documents_ns: int = 0
    check_at: float = inf
    PatientID: str = ""

    @property
    def key(self) -> SeriesKey:
        """Return what identifies the series."""
        return self.SeriesInstanceUID, self.StudyInstanceUID

    @property
    def has_reached(self) -> bool:
        """Return whether the expected number came in this generation. False if it was there when the generation began
        (the promise was too low, or instances are replaced): then the number says nothing.
        """
        return 0 < self.expected <= self.instances and (self.generation == 1 or self.began_with < self.expected)


class CompletionRules(NamedTuple):
    """When series end. `quiet` maps a modality ("": any other) to the seconds without a new instance after which a
    series is complete; `timeout` is the same for a series that lacks expected instances: then it is incomplete.
    `study_quiet` is the same for a study whose series have ended; 0: it ends with the last of them.
    """

    quiet: Mapping[str, float]
    timeout: float
    study_quiet: float = 300.0

    def due(self, series: SeriesState) -> float:
        """Return when the series ends if nothing more comes; -inf if it may end now."""
        if series.has_reached:
            return -inf
        if series.instances < series.expected:
            return series.last_activity + self.timeout
        return series.last_activity + self.quiet.get(series.Modality, self.quiet[""])

    def verdict(self, series: SeriesState, horizon: float) -> str:
        """Return how the series ends (one of RESULTS) once all that came before `horizon` is done; "" if it goes on."""
        if horizon < self.due(series):
            return ""
        if series.instances < series.expected:
            return "incomplete"
        if series.generation > 1:
            return "late"
        return "expected" if series.expected else "quiet"


class OpenSeries:
    """The open series of the ledger in memory, in a queue by the moment at which each is checked next: idle series cost
    nothing. Outdated moments stay in the queue until their time, at most MAX_STALE of them. `studies` are those of
    which a series has ended.
    """

    def __init__(self, rules: CompletionRules) -> None:
        self._rules = rules
        self.studies = WaitingStudies(rules.study_quiet)
        self._open: dict[SeriesKey, SeriesState] = {}
        self._queue: list[tuple[float, SeriesKey]] = []
        self._turn: list[SeriesKey] = []

    def __len__(self) -> int:
        return len(self._open)

    def follow(self, rules: CompletionRules) -> None:
        """Follow other rules from now on, also for what is open."""
        self._rules = rules
        for series in self._open.values():
            self._schedule(series, rules.due(series))
        self.studies.follow(rules.study_quiet)

    def __iter__(self) -> Iterator[SeriesState]:
        return iter(list(self._open.values()))

    def get(self, uid: str, study: str) -> SeriesState | None:
        """Return an open series; None if there is none."""
        return self._open.get((uid, study))

    def uids_in_several_studies(self) -> set[str]:
        """Return the Series Instance UIDs that open series of more than one study have."""
        times = Counter(uid for uid, _ in self._open)
        return {uid for uid, number in times.items() if number > 1}

    def keep(self, series: SeriesState) -> SeriesState:
        """Add an open series, or reschedule one that changed; return it."""
        self._open[series.key] = series
        self._schedule(series, self._rules.due(series))
        return series

    def _schedule(self, series: SeriesState, moment: float) -> None:
        # A moment that moved later is not queued: the series is checked at the earlier one and scheduled again then.
        if moment < series.check_at:
            series.check_at = moment
            heapq.heappush(self._queue, (moment, series.key))
            if len(self._queue) > 2 * len(self._open) + MAX_STALE:
                self._queue = [(other.check_at, key) for key, other in self._open.items()]
                heapq.heapify(self._queue)

    def due(self, horizon: float) -> list[SeriesState]:
        """Return the series that end once all that came before `horizon` is done. Those that are neither dropped nor
        postponed are returned again the next time.
        """
        ended = []
        while self._queue and self._queue[0][0] <= horizon:
            moment, key = heapq.heappop(self._queue)
            series = self._open.get(key)
            if series is None or series.check_at != moment:
                continue
            series.check_at = inf
            if self.verdict(series, horizon):
                ended.append(series)
            else:
                self._schedule(series, self._rules.due(series))
        for series in ended:
            self._schedule(series, self._rules.due(series))
        return ended

    def postpone(self, series: SeriesState, moment: float) -> None:
        """Check a series again at `moment`, or when it changes."""
        series.check_at = inf
        self._schedule(series, moment)

    def next_in_turn(self, limit: int) -> list[SeriesState]:
        """Return up to `limit` series, round robin over all open ones."""
        batch: list[SeriesState] = []
        if not self._turn:
            self._turn = list(self._open)
        while self._turn and len(batch) < limit:
            series = self._open.get(self._turn.pop())
            if series:
                batch.append(series)
        return batch

    def remember(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Keep the series of published files open in memory while the ledger cannot be written."""
        for outcome in outcomes:
            uid = outcome.SeriesInstanceUID
            if outcome.kind == "published" and uid:
                study = outcome.StudyInstanceUID
                series = self._open.get((uid, study)) or SeriesState(uid, study, outcome.Modality)
                series.last_activity = now
                self.keep(series)

    def drop(self, uid: str, study: str) -> None:
        """Remove a series."""
        self._open.pop((uid, study), None)

    def refresh(self, rows: Iterable[SeriesState], now: float, *, keeping: bool = False) -> list[str]:
        """Replace the open series by `rows` of the ledger, which others write too; a changed one counts as active now.
        Return the UIDs of series that were only in memory. They are removed, or with `keeping` kept with id 0.
        """
        before, self._open = self._open, {}
        for series in rows:
            known = before.pop(series.key, None)
            self.keep(updated_state(known, series, now) if known else series)
        for series in before.values() if keeping else ():
            series.id = 0
            self.keep(series)
        return [uid for uid, _ in before]

    def verdict(self, series: SeriesState, horizon: float) -> str:
        """Return how a series ends at `horizon`; "" if it goes on."""
        return self._rules.verdict(series, horizon)

    def completion(self, series: SeriesState, result: str) -> Completion:
        """Return the record of a series' end."""
        return Completion(
            series.SeriesInstanceUID,
            series.StudyInstanceUID,
            series.generation,
            series.instances,
            series.expected,
            result,
        )


def updated_state(known: SeriesState, row: SeriesState, now: float) -> SeriesState:
    """Return `row` with what only the known state has. It is active at `now` if another process recorded instances, or
    an expected number that is not reached.
    """
    grew = (known.instances, known.generation) != (row.instances, row.generation)
    awaits = row.expected != known.expected and row.instances < row.expected
    row.last_activity = now if grew or awaits else known.last_activity
    row.promise_stamp, row.documents_ns = known.promise_stamp, known.documents_ns
    # The entry in the queue is under the old moment.
    row.check_at = known.check_at
    return row


def expected_count(document: Mapping[str, object], study: str = "") -> int:
    """Return NumberOfSeriesRelatedInstances (number or text) of pypx's flat document; 0 if there is none, or if the
    document is of another study than `study`.
    """
    if study and str(document.get("StudyInstanceUID") or study) != study:
        return 0
    try:
        return min(_LARGEST_EXPECTED, max(0, int(str(document.get("NumberOfSeriesRelatedInstances", 0)))))
    except ValueError:
        return 0


#: Seconds that count at most between two turns of the loop, which comes once a second: longer ones mean that the
#: process was stopped, or the machine slept.
LONGEST_GAP = 2.0


class Flow(NamedTuple):
    """State of intake at `at` (seconds, monotonic), and with it the quiet clock. `elapsed`: seconds in which intake
    flowed so far; `lag`: all that was noticed more than `lag` seconds ago is done; `flows`: work is handed out; `held`:
    the series with a file that waits while others go on.
    """

    at: float
    elapsed: float = 0.0
    lag: float = 0.0
    flows: bool = True
    held: frozenset[str] = frozenset()

    def next(self, now: float, lag: float, *, flows: bool, held: frozenset[str] = frozenset()) -> Flow:
        """Return the state at `now`."""
        return Flow(now, self.moment(now), lag, flows, held)

    def moment(self, now: float) -> float:
        """Return the reading of the quiet clock at `now` (monotonic)."""
        return self.elapsed + (min(max(0.0, now - self.at), LONGEST_GAP) if self.flows else 0.0)

    @property
    def horizon(self) -> float:
        """Return the moment on the quiet clock before which everything that came is done."""
        return self.elapsed - self.lag


#: Before all of incoming was seen, and for a command that ends by itself: no series is quiet.
UNSEEN = Flow(0.0, lag=inf, flows=False)


class Moment(NamedTuple):
    """One moment on every clock: monotonic in seconds, wall in nanoseconds, quiet clock and its horizon in seconds."""

    now: float
    now_ns: int
    quiet: float
    horizon: float

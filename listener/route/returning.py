"""What comes back from workers: looked at, given to whom it belongs or held, and looked at again; and what never came.

Everything is done in the transaction of the caller, the loop's: a kill leaves a result not yet taken (the cursor stands
before it), or taken with all that follows from it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.dicom.references import References, read_references
from listener.errors import LedgerFault
from listener.ledger.feed import FeedRow
from listener.ledger.reader import reading
from listener.reasons import FileFault
from listener.route.returns import HELD, Arrived, Given, Verdict, judge, workers_of
from listener.route.routes_file import Routes, is_inside
from listener.route.schema import PRIORITIES
from listener.telemetry.metric_rows import Numbers

_PATIENT = Wanted.of(("PatientID",))

#: UIDs of what an orphan refers to that are kept: one of the images that it was made of is enough.
_MOST_HINTS = 20

#: References that are looked up, of each kind.
_MOST_LOOKED_UP = 500

#: Held results that are looked at again in one turn.
_AT_ONCE = 200

#: Held for what the routes file said: looked at again when it changes.
_BY_FILE = ("unknown-sender", "route-gone")

_INSTANCE = """
SELECT i.id, i.SOPInstanceUID, s.SeriesInstanceUID, s.StudyInstanceUID, f.path || '/' || i.name, i.sender
FROM instances i JOIN series s ON s.id = i.series_id JOIN folders f ON f.id = i.folder_id WHERE i.id = ?
"""
_IS_ORIGINAL = """
SELECT EXISTS (SELECT 1 FROM instances i JOIN sends w ON w.instance_id = i.id
    WHERE i.SOPInstanceUID = ? AND w.kind <> 'result')
"""
_IS_OURS = """
SELECT EXISTS (SELECT 1 FROM instances i JOIN sends w ON w.instance_id = i.id
    WHERE i.SOPInstanceUID = ?1 AND w.kind = 'result')
OR EXISTS (SELECT 1 FROM instances i JOIN held h ON h.instance_id = i.id WHERE i.SOPInstanceUID = ?1)
"""
# The routes' studies behind a UID: of a study, of a series, of an instance that was sent, or that came back.
_OF_STUDY = "SELECT id FROM studies WHERE StudyInstanceUID = ?1"
_OF_SERIES = """
SELECT t.id FROM series s JOIN studies t ON t.StudyInstanceUID = s.StudyInstanceUID WHERE s.SeriesInstanceUID = ?1
"""
_OF_INSTANCE = """
SELECT t.id FROM instances i JOIN series s ON s.id = i.series_id JOIN studies t ON
    t.StudyInstanceUID = s.StudyInstanceUID WHERE i.SOPInstanceUID = ?1
UNION SELECT w.study_id FROM instances i JOIN sends w ON w.instance_id = i.id AND w.kind = 'result' AND w.study_id > 0
    WHERE i.SOPInstanceUID = ?1
"""
_STUDY = "SELECT route, StudyInstanceUID, worker FROM studies WHERE id = ?"
_MOVES = "SELECT origin, stored FROM moves WHERE study_id = ?"
_SENT = "SELECT count(*), min(id), max(id) FROM sends WHERE study_id = ? AND kind = 'worker'"
_PATH = """
SELECT f.path || '/' || i.name FROM sends w JOIN instances i ON i.id = w.instance_id
JOIN folders f ON f.id = i.folder_id WHERE w.id = ?
"""
_QUEUE = """
INSERT INTO sends (instance_id, study_id, kind, target, priority, queued_ns) VALUES (?, ?, 'result', ?, ?, ?)
ON CONFLICT DO UPDATE SET state = 'pending', round = round + 1, attempts = 0, next_ns = 0, status = -1, error = '',
    comment = '', queued_ns = excluded.queued_ns, settled_ns = 0 WHERE state <> 'pending'
"""
_ANSWERED = "UPDATE studies SET results = results + 1, result_ns = ? WHERE route = ? AND StudyInstanceUID = ?"
_HOLD = """
INSERT INTO held (instance_id, why, detail, worker, at_ns) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET why = excluded.why, detail = excluded.detail, worker = excluded.worker,
    at_ns = excluded.at_ns, settled_ns = 0, outcome = ''
"""
_KNOWN_HINTS = f"""
SELECT DISTINCT held_id FROM hints h WHERE EXISTS ({_OF_STUDY.replace("?1", "h.uid")})
OR EXISTS ({_OF_SERIES.replace("?1", "h.uid")}) OR EXISTS ({_OF_INSTANCE.replace("?1", "h.uid")}) LIMIT ?
"""
_NEWEST = "SELECT (SELECT ifnull(max(id), 0) FROM studies), (SELECT ifnull(max(id), 0) FROM instances)"
#: Open held results by reason; studies that turned out unanswered since a moment, and still are.
HELD_COUNTS = "SELECT why, count(*) FROM held WHERE settled_ns = 0 GROUP BY why"
UNANSWERED_SINCE = "SELECT count(*) FROM studies WHERE unanswered_ns > ? AND results = 0"
DAY_NS = 86_400 * 10**9
_OVERDUE = """
SELECT id, route, StudyInstanceUID, worker FROM studies
WHERE awaits_result = 1 AND results = 0 AND unanswered_ns = 0 AND last_ns < ? AND worker <> '' ORDER BY last_ns LIMIT ?
"""


class Told(NamedTuple):
    """An event that is to be written once the transaction stands."""

    event: str
    fields: dict[str, Any]


class _Instance(NamedTuple):
    id: int
    SOPInstanceUID: str
    SeriesInstanceUID: str
    StudyInstanceUID: str
    path: str
    sender: str


class Places(NamedTuple):
    """The state directory of the collection, and the data directory that paths are relative to."""

    state: str
    data: str


class Returns:
    """The return path, on the connection of the loop. `answered(route, StudyInstanceUID)` is called for each result
    that came; after `answer_within` seconds without any a study is unanswered.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        places: Places,
        answer_within: float,
        answered: Callable[[str, str], None],
    ) -> None:
        self._connection, self._places = connection, places
        self._answer_within_ns = int(answer_within * 1e9)
        self._answered = answered
        self._routes = Routes({}, {})
        self._is_new_file = False
        self._seen = (0, 0)
        #: Destinations for which something was queued; to be cleared.
        self.touched: set[str] = set()
        #: What came since measure(): originals, studies that turned out unanswered, and results by route.
        self.originals = self.unanswered = 0
        self.results: dict[str, int] = {}

    def use(self, routes: Routes) -> None:
        """Go by another routes file from now on."""
        self._routes, self._is_new_file = routes, True

    def is_ours(self, uid: str) -> bool:
        """Return whether an instance that comes from outside came from a worker before: it is not routed again."""
        return bool(self._one(_IS_OURS, uid)) and not self._one(_IS_ORIGINAL, uid)

    def take(self, row: FeedRow, instance_id: int, now_ns: int) -> list[Told]:
        """Within a transaction: look at an instance that came into an inside root, and do what follows."""
        instance = _Instance(*self._connection.execute(_INSTANCE, (instance_id,)).fetchone())
        return self._look(instance._replace(sender=row.sender), now_ns, was_there=row.kind == "duplicate")

    def turn(self, now_ns: int) -> list[Told]:
        """Within a transaction: look again at what is held where something new may decide it, and tell of studies of
        which nothing came.
        """
        told: list[Told] = []
        for held_id in self._again():
            row = self._connection.execute("SELECT instance_id FROM held WHERE id = ?", (held_id,)).fetchone()
            told += self._look(_Instance(*self._connection.execute(_INSTANCE, row).fetchone()), now_ns, was_there=False)
        return told + list(self._unanswered(now_ns))

    def measure(self, metrics: Numbers, now_ns: int) -> None:
        """Count what came since the last time, and set what lies there."""
        metrics.add("route_originals_total", self.originals)
        metrics.add("route_unanswered_total", self.unanswered)
        for route in self.results.keys() & self._routes.routes.keys():
            metrics.add("route_results_total", self.results[route], route)
        self.originals, self.unanswered, self.results = 0, 0, {}
        counts = dict(self._connection.execute(HELD_COUNTS).fetchall())
        for reason in HELD:
            metrics.set("route_held_results", counts.get(reason, 0), reason)
        metrics.set("route_unanswered_studies", self._one(UNANSWERED_SINCE, now_ns - DAY_NS))

    # -- look ----------------------------------------------------------------------------------------------------------

    def _look(self, instance: _Instance, now_ns: int, *, was_there: bool) -> list[Told]:
        is_original = bool(self._one(_IS_ORIGINAL, instance.SOPInstanceUID))
        workers = workers_of(instance.sender, self._routes.targets)
        patient, references = self._read(instance.path) if workers and not is_original else ("", References())
        arrived = Arrived(instance.sender, patient, was_there, is_original)
        given = list(self._given(self._studies(instance, references), workers))
        verdict = judge(arrived, workers, given, self._routes.routes)
        if verdict.kind == "original":
            self.originals += 1
            return []
        if verdict.kind == "held":
            return self._hold(instance, verdict, references, now_ns)
        return self._give(instance, verdict, now_ns)

    def _read(self, path: str) -> tuple[str, References]:
        """Return PatientID and references of a file; nothing of one that is gone or cannot be read."""
        try:
            fd = os.open(os.path.join(self._places.data, path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return "", References()
        try:
            size = os.fstat(fd).st_size
            return read_header(fd, size, _PATIENT, Limits()).get("PatientID"), read_references(fd, size, Limits())
        except (OSError, FileFault):
            return "", References()
        finally:
            os.close(fd)

    def _studies(self, instance: _Instance, references: References) -> list[int]:
        """Return the ids of the studies that an instance is of: its own, or else those that it refers to."""
        own = self._ids(_OF_STUDY, [instance.StudyInstanceUID])
        if own:
            return own
        studies, series, instances = (uids[:_MOST_LOOKED_UP] for uids in references)
        found = self._ids(_OF_STUDY, [*studies, *instances]) + self._ids(_OF_SERIES, series)
        return sorted({*found, *self._ids(_OF_INSTANCE, instances)})

    def _ids(self, question: str, uids: Iterable[str]) -> list[int]:
        return [number for uid in uids for (number,) in self._connection.execute(question, (uid,))]

    def _given(self, studies: Iterable[int], workers: frozenset[str]) -> Iterator[Given]:
        for number in studies:
            route, study, worker = self._connection.execute(_STUDY, (number,)).fetchone()
            count, first, last = self._connection.execute(_SENT, (number,)).fetchone()
            having = {worker: True}
            for origin, stored in self._connection.execute(_MOVES, (number,)):
                having.setdefault(origin, stored >= count)
            is_theirs = not workers.isdisjoint(having)
            patients = self._patients(study, {first, last} - {None}) if is_theirs else frozenset[str]()
            for name, had_all in having.items():
                yield Given(route, study, name, had_all, patients)

    def _patients(self, study: str, sends: Iterable[int]) -> frozenset[str]:
        """Return the PatientIDs of a study's originals: of their files, or if these were removed, of the ledger."""
        paths = [self._one(_PATH, number) for number in sends]
        found = {self._read(str(path))[0] for path in paths} - {""}
        if found:
            return frozenset(found)
        try:
            with reading(self._places.state) as reader:
                known = reader.study(study)
                rows = reader.series_of(known) if known else []
        except LedgerFault:
            rows = []
        return frozenset(row.PatientID for row in rows if not is_inside(self._routes, row.root))

    # -- do ------------------------------------------------------------------------------------------------------------

    def _give(self, instance: _Instance, verdict: Verdict, now_ns: int) -> list[Told]:
        """Queue a result for each destination of its route."""
        found = (verdict.route, verdict.StudyInstanceUID)
        (study_id,) = self._connection.execute(
            "SELECT id FROM studies WHERE route = ? AND StudyInstanceUID = ?", found
        ).fetchone()
        priority = PRIORITIES[self._routes.routes[verdict.route].priority]
        for name in verdict.destinations:
            self._connection.execute(_QUEUE, (instance.id, study_id, name, priority, now_ns))
            self.touched.add(name)
        self._connection.execute(_ANSWERED, (now_ns, *found))
        self._settle(instance, now_ns)
        self._answered(*found)
        self.results[verdict.route] = self.results.get(verdict.route, 0) + 1
        about = {"route": verdict.route, "worker": verdict.worker, "of": verdict.StudyInstanceUID}
        return [Told("returned", {**_uids(instance), **about, "destinations": list(verdict.destinations)})]

    def _settle(self, instance: _Instance, now_ns: int) -> None:
        """Hold an instance no longer."""
        self._connection.execute(
            "UPDATE held SET outcome = 'returned', settled_ns = ? WHERE instance_id = ? AND settled_ns = 0",
            (now_ns, instance.id),
        )
        self._connection.execute(
            "DELETE FROM hints WHERE held_id IN (SELECT id FROM held WHERE instance_id = ?)", (instance.id,)
        )

    def _hold(self, instance: _Instance, verdict: Verdict, references: References, now_ns: int) -> list[Told]:
        known = self._one("SELECT why FROM held WHERE instance_id = ? AND settled_ns = 0", instance.id)
        if known == verdict.reason:
            return []
        of = " ".join(f"{word} {value}" for word, value in _about(verdict).items())
        values = (instance.id, verdict.reason, of, verdict.worker, now_ns)
        self._settle(instance, now_ns)
        self._connection.execute(_HOLD, values)
        if verdict.reason == "orphan":
            held_id = self._one("SELECT id FROM held WHERE instance_id = ?", instance.id)
            hints = [instance.StudyInstanceUID, *references.studies, *references.series, *references.instances]
            self._connection.executemany(
                "INSERT OR IGNORE INTO hints VALUES (?, ?)", [(uid, held_id) for uid in hints[:_MOST_HINTS]]
            )
        about = {"reason": verdict.reason, "sender": instance.sender, **_about(verdict), "error": HELD[verdict.reason]}
        return [Told("held", {**_uids(instance), **about})]

    # -- again ---------------------------------------------------------------------------------------------------------

    def _again(self) -> list[int]:
        """Return the ids of held results of which something new may decide."""
        seen = self._connection.execute(_NEWEST).fetchone()
        found: list[int] = []
        if seen != self._seen:
            found = [number for (number,) in self._connection.execute(_KNOWN_HINTS, (_AT_ONCE,))]
            self._seen = seen
        if self._is_new_file:
            marks = ", ".join("?" * len(_BY_FILE))
            question = f"SELECT id FROM held WHERE settled_ns = 0 AND why IN ({marks}) ORDER BY id"
            found += [number for (number,) in self._connection.execute(question, _BY_FILE)]
            self._is_new_file = False
        return found

    def _unanswered(self, now_ns: int) -> Iterator[Told]:
        overdue = self._connection.execute(_OVERDUE, (now_ns - self._answer_within_ns, _AT_ONCE)).fetchall()
        self.unanswered += len(overdue)
        for number, route, study, worker in overdue:
            self._connection.execute("UPDATE studies SET unanswered_ns = ? WHERE id = ?", (now_ns, number))
            yield Told("unanswered", {"StudyInstanceUID": study, "route": route, "worker": worker})

    def _one(self, question: str, *values: Any) -> Any:
        """Return the first value of the first row, None if there is none."""
        row = self._connection.execute(question, values).fetchone()
        return row[0] if row else None


def _uids(instance: _Instance) -> dict[str, str]:
    return {"SOPInstanceUID": instance.SOPInstanceUID, "StudyInstanceUID": instance.StudyInstanceUID}


def _about(verdict: Verdict) -> dict[str, str]:
    """Return what is known of whose result it is."""
    named = {"route": verdict.route, "worker": verdict.worker, "of": verdict.StudyInstanceUID}
    return {word: value for word, value in named.items() if value}

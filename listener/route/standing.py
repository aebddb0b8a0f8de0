"""How route stands, by what its state says alone: targets, routes, studies, dead letters, held results, the unclaimed.

One shape for the words of the command line, the page and the API: JSON values, without patient data.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from listener.errors import ConfigError
from listener.planning.names import instant
from listener.route import routes_file
from listener.route.returning import DAY_NS, HELD_COUNTS, UNANSWERED_SINCE
from listener.route.returns import HELD
from listener.route.routes_file import Routes, Target
from listener.route.schema import COPY, ROUTE, STATES, WORKER
from listener.route.studies import live_of
from listener.stages.database import open_reader, translated

#: States of a study for people: its worker is still to be found, has to get something, is to answer; or nothing is due.
WAITING, SENDING, ASKED, ANSWERED, UNANSWERED, DONE = ("waiting", "sending", "asked", "answered", "unanswered", "done")

_TARGETS = "SELECT name, paused, state, since_ns, cause, detail, stored_ns FROM targets ORDER BY name"
# By the indexes of what waits, which hold nothing else.
_OF_TARGETS = "SELECT target, count(*), min(id) FROM sends WHERE state = '{}' GROUP BY target"
_STUDY = """
SELECT id, route, StudyInstanceUID, worker, awaits_result, sender, root, began_ns, last_ns, results, result_ns,
    unanswered_ns
FROM studies
"""
_NEWEST = f"{_STUDY} ORDER BY last_ns DESC LIMIT ?"
_OF_UID = f"{_STUDY} WHERE StudyInstanceUID = ? ORDER BY began_ns"
_SENDS = "SELECT kind, state, count(*) FROM sends WHERE study_id = ? GROUP BY kind, state"
_DESTINATIONS = """
SELECT target, state, count(*) FROM sends WHERE study_id = ? AND kind = 'result' GROUP BY target, state ORDER BY target
"""
_MOVES = "SELECT at_ns, origin, worker, reason FROM moves WHERE study_id = ? ORDER BY at_ns"
_RESULTS = """
SELECT i.SOPInstanceUID, i.sender, i.arrived_ns, w.target, w.state, w.settled_ns, w.error
FROM sends w JOIN instances i ON i.id = w.instance_id WHERE w.study_id = ? AND w.kind = 'result' ORDER BY w.id LIMIT ?
"""
_DEAD = """
SELECT i.SOPInstanceUID, s.StudyInstanceUID, ifnull(t.route, ''), w.kind, w.target, w.status, w.error, w.attempts,
    w.settled_ns
FROM sends w JOIN instances i ON i.id = w.instance_id JOIN series s ON s.id = i.series_id
LEFT JOIN studies t ON t.id = w.study_id WHERE w.state = 'dead' ORDER BY w.settled_ns DESC LIMIT ?
"""
_HELD = """
SELECT h.id, h.why, h.detail, h.worker, h.at_ns, i.SOPInstanceUID, s.StudyInstanceUID, i.sender
FROM held h JOIN instances i ON i.id = h.instance_id JOIN series s ON s.id = i.series_id
WHERE h.settled_ns = 0 ORDER BY h.id DESC LIMIT ?
"""
_UNCLAIMED = """
SELECT sender, root, count(*), max(at_ns) FROM unclaimed GROUP BY sender, root ORDER BY max(at_ns) DESC LIMIT ?
"""


def read(state_dir: str, question: Callable[[Standing], Any]) -> Any:
    """Return the answer to a question about the state of a collection. Raises StageMissing, StageFault."""
    with closing(open_reader(state_dir, ROUTE)) as connection, translated():
        return question(Standing(connection, time.time_ns()))


class Standing:
    """Questions on a connection, at a moment."""

    def __init__(self, connection: sqlite3.Connection, now_ns: int) -> None:
        self._connection, self._now_ns = connection, now_ns
        #: The routes file that the service uses, or used last.
        self.routes = _routes(connection)

    def _ask(self, question: str, *values: Any) -> list[Any]:
        return self._connection.execute(question, values).fetchall()

    def summary(self) -> dict[str, Any]:
        """Return totals, targets, routes, and the unclaimed by sender and root."""
        targets, unclaimed = self.targets(), self.unclaimed()
        return {
            "pending": sum(one["pending"] for one in targets),
            "dead": sum(one["dead"] for one in targets),
            "held": dict.fromkeys(HELD, 0) | dict(self._ask(HELD_COUNTS)),
            "unclaimed": sum(one["instances"] for one in unclaimed),
            "unanswered": int(self._ask(UNANSWERED_SINCE, self._now_ns - DAY_NS)[0][0]),
            "targets": targets,
            "routes": self.route_list(),
            "unclaimed_by": unclaimed,
        }

    def targets(self) -> list[dict[str, Any]]:
        """Return workers and destinations, in the order of the routes file, and those of which it tells no more."""
        counts: dict[str, dict[str, int]] = {}
        oldest: dict[str, int] = {}
        for state in ("pending", "dead", "held"):
            for name, number, first in self._ask(_OF_TARGETS.format(state)):
                counts.setdefault(name, {})[state] = number
                if state == "pending":
                    oldest[name] = self._ask("SELECT queued_ns FROM sends WHERE id = ?", first)[0][0]
        rows = {name: row for name, *row in self._ask(_TARGETS)}
        names = [*self.routes.targets, *sorted((rows.keys() | counts.keys()) - self.routes.targets.keys())]
        never = (0, "", 0, "", "", 0)
        return [self._target(name, rows.get(name, never), counts.get(name, {}), oldest.get(name, 0)) for name in names]

    def _target(self, name: str, row: Any, counts: Mapping[str, int], oldest_ns: int) -> dict[str, Any]:
        paused, state, since_ns, cause, detail, stored_ns = row
        known = self.routes.targets.get(name)
        is_worker = bool(known and known.is_worker)
        return {
            "name": name,
            "kind": kind_of(known) if name else "to be found",
            "address": _address(known) if known else "",
            "aet": known.aet if known else "",
            "state": state,
            "paused": bool(paused),
            "since": _instant(since_ns),
            "cause": cause,
            "error": detail,
            "pending": counts.get("pending", 0),
            "oldest": _instant(oldest_ns),
            "dead": counts.get("dead", 0),
            "held": counts.get("held", 0),
            "live": len(live_of(self._connection, name, self._now_ns)) if is_worker else None,
            "stored": _instant(stored_ns),
        }

    def route_list(self) -> list[dict[str, Any]]:
        """Return the routes, in the order of the file."""
        return [
            {**one._asdict(), "only": {keyword: list(values) for keyword, values in one.only}}
            for one in self.routes.routes.values()
        ]

    def studies(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return studies on routes, those first of which something came or was sent last."""
        return [self._study(row) for row in self._ask(_NEWEST, limit)]

    def study(self, uid: str, limit: int = 200) -> list[dict[str, Any]]:
        """Return a study, once for each route, with its moves and what came back; none if route does not know it."""
        return [
            {
                **self._study(row),
                "moves": [
                    {"at": _instant(at_ns), "from": origin, "to": worker, "reason": reason}
                    for at_ns, origin, worker, reason in self._ask(_MOVES, row[0])
                ],
                "results": [
                    {
                        "SOPInstanceUID": sop,
                        "sender": sender,
                        "came": _instant(came_ns),
                        "destination": target,
                        "state": state,
                        "settled": _instant(settled_ns),
                        "error": error,
                    }
                    for sop, sender, came_ns, target, state, settled_ns, error in self._ask(_RESULTS, row[0], limit)
                ],
            }
            for row in self._ask(_OF_UID, uid)
        ]

    def _study(self, row: Any) -> dict[str, Any]:
        number, route, uid, worker, awaits, sender, root, began_ns, last_ns, results, result_ns, unanswered_ns = row
        sends: dict[str, dict[str, int]] = {}
        for kind, state, count in self._ask(_SENDS, number):
            sends.setdefault(kind, dict.fromkeys(STATES, 0))[state] = count
        to_worker, copies = (sends.get(kind, dict.fromkeys(STATES, 0)) for kind in (WORKER, COPY))
        waits = to_worker["pending"] + copies["pending"]
        destinations: dict[str, dict[str, int]] = {}
        for target, state, count in self._ask(_DESTINATIONS, number):
            destinations.setdefault(target, {})[state] = count
        state = WAITING if to_worker["pending"] and not worker else SENDING if waits else ""
        return {
            "StudyInstanceUID": uid,
            "route": route,
            "state": state or _answer(results, awaits, unanswered_ns),
            "sender": sender,
            "root": root,
            "worker": worker,
            "instances": sum(to_worker.values()),
            "sent": to_worker["delivered"],
            "dead": sum(one["dead"] for one in sends.values()),
            "came_back": results,
            "destinations": destinations,
            "began": _instant(began_ns),
            "last": _instant(last_ns),
            "answered": _instant(result_ns),
        }

    def dead(self, limit: int = 200) -> list[dict[str, Any]]:
        """Return dead letters, the newest first: what a target refused for good, or what could not be sent."""
        names = (
            "SOPInstanceUID",
            "StudyInstanceUID",
            "route",
            "kind",
            "target",
            "status",
            "error",
            "attempts",
            "since",
        )
        rows = (
            (*row[:5], f"{row[5]:04X}" if row[5] >= 0 else "", *row[6:-1], _instant(row[-1]))
            for row in self._ask(_DEAD, limit)
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def held(self, limit: int = 200) -> list[dict[str, Any]]:
        """Return what came from workers and goes to nobody, the newest first, with its reason in words."""
        return [
            {
                "id": number,
                "reason": why,
                "error": HELD.get(why, ""),
                "of": detail,
                "worker": worker,
                "sender": sender,
                "SOPInstanceUID": sop,
                "StudyInstanceUID": study,
                "since": _instant(at_ns),
            }
            for number, why, detail, worker, at_ns, sop, study, sender in self._ask(_HELD, limit)
        ]

    def unclaimed(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return of how many instances no route was found, by sender and root."""
        return [
            {"sender": sender, "root": root, "instances": number, "last": _instant(at_ns)}
            for sender, root, number, at_ns in self._ask(_UNCLAIMED, limit)
        ]


def kind_of(target: Target | None) -> str:
    """Return what people call a target: worker, destination, or gone where the routes file has it no more."""
    return "gone" if target is None else "worker" if target.is_worker else "destination"


def _routes(connection: sqlite3.Connection) -> Routes:
    row = connection.execute("SELECT value FROM meta WHERE name = 'routes'").fetchone()
    try:
        return routes_file.read(row[0]) if row else Routes({}, {})
    except ConfigError:  # Another version wrote it: what it means now is not known.
        return Routes({}, {})


def _address(target: Target) -> str:
    return target.directory or f"{f'[{target.host}]' if ':' in target.host else target.host}:{target.port}"


def _instant(at_ns: int) -> str:
    return instant(at_ns) if at_ns else ""


def _answer(results: int, awaits: int, unanswered_ns: int) -> str:
    """Return the state of a study that was sent: by the number of its results, and whether one is awaited."""
    if results:
        return ANSWERED
    if unanswered_ns:
        return UNANSWERED
    return ASKED if awaits else DONE

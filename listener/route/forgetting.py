"""What route.sqlite forgets, so that it does not grow for ever: studies, and instances that nobody waits for, so many
days after the last thing happened to them.
"""

from __future__ import annotations

from listener.route.queue import Queue
from listener.route.studies import Studies

#: Most instances that are looked at in one turn.
_AT_ONCE = 1000

_INSTANCES = """
SELECT i.id, i.series_id, i.folder_id, i.arrived_ns, i.arrived_ns < ?2
    AND NOT EXISTS (SELECT 1 FROM sends w WHERE w.instance_id = i.id)
    AND NOT EXISTS (SELECT 1 FROM unclaimed u WHERE u.instance_id = i.id)
    AND NOT EXISTS (SELECT 1 FROM held h WHERE h.instance_id = i.id)
FROM instances i WHERE i.id > ?1 ORDER BY i.id LIMIT ?3
"""
_SERIES = "DELETE FROM series WHERE id = ?1 AND open = 0 AND NOT EXISTS (SELECT 1 FROM instances WHERE series_id = ?1)"
_FOLDER = "DELETE FROM folders WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM instances WHERE folder_id = ?1)"
_JUDGED = "DELETE FROM judged WHERE series_id = ?1 AND NOT EXISTS (SELECT 1 FROM series WHERE id = ?1)"
_FORGOTTEN = """
INSERT INTO meta VALUES ('forgotten_ns', ?1)
ON CONFLICT DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(?1 AS INTEGER))
"""

#: What people and commands decided, and results that a person sent.
_DECIDED = (
    "DELETE FROM requests WHERE done_ns > 0 AND done_ns < ?",
    "DELETE FROM held WHERE settled_ns > 0 AND settled_ns < ?",
    "DELETE FROM sends WHERE study_id = 0 AND kind = 'result' AND state = 'delivered' AND settled_ns < ?",
)


class Forgetting:
    """Called within queue.writing(). What is pending, dead or held stays, with all that belongs to it, however old.

    The newest arrival that was forgotten is kept (meta's `forgotten_ns`): of what the ledger has, nothing that came
    before is missed; see settling.missing.
    """

    def __init__(self, queue: Queue, studies: Studies, remember: float) -> None:
        self._queue, self._studies, self._remember = queue, studies, remember
        self._after = 0

    def turn(self, now: float) -> bool:
        """Forget some of what is old, `now` in seconds since the epoch; return whether there may be more."""
        before_ns = int((now - self._remember) * 1e9)
        if self._after:
            return self._forget_instances(before_ns)
        if self._studies.forget(now):
            return True
        self._queue.forget_unclaimed(before_ns)
        for statement in _DECIDED:
            self._queue.connection.execute(statement, (before_ns,))
        return self._forget_instances(before_ns)

    def _forget_instances(self, before_ns: int) -> bool:
        """Go on along the instances, the oldest first; return False at the first that are all too new."""
        connection = self._queue.connection
        rows = connection.execute(_INSTANCES, (self._after, before_ns, _AT_ONCE)).fetchall()
        old = [row for row in rows if row[4]]
        if old:
            numbers, series, folders, arrived, _ = zip(*old, strict=True)
            connection.executemany("DELETE FROM instances WHERE id = ?", [(number,) for number in numbers])
            for ids, statements in ((series, (_SERIES, _JUDGED)), (folders, (_FOLDER,))):
                for statement in statements:
                    connection.executemany(statement, [(number,) for number in {*ids}])
            connection.execute(_FORGOTTEN, (str(max(arrived)),))
            self._queue.forget_ids()
        is_over = len(rows) < _AT_ONCE or all(row[3] >= before_ns for row in rows)
        self._after = 0 if is_over else rows[-1][0]
        return not is_over

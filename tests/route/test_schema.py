"""The tables of route."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from listener.route.schema import ROUTE
from listener.stages.database import open_writer


def test_route_s_tables_are_made(tmp_path: Path) -> None:
    with contextlib.closing(open_writer(str(tmp_path), ROUTE)) as connection:
        assert connection.execute("SELECT * FROM cursor").fetchall() == [(1, 0, 0, 0)]
        connection.execute("INSERT INTO sends (instance_id, study_id, kind, target) VALUES (1, 1, 'worker', 'a')")
        with pytest.raises(sqlite3.IntegrityError):  # Moved or not: a worker gets an instance of a study once.
            connection.execute("INSERT INTO sends (instance_id, study_id, kind, target) VALUES (1, 1, 'worker', 'b')")
        connection.execute("INSERT INTO sends (instance_id, study_id, kind, target) VALUES (1, 1, 'copy', 'a')")
        connection.execute("INSERT INTO sends (instance_id, study_id, kind, target) VALUES (1, 1, 'copy', 'b')")
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM sends WHERE target = 'a' AND state = 'pending' ORDER BY priority, id"
        ).fetchall()
        assert "sends_due" in plan[0][3]
        assert len(plan) == 1, "no sorting"
    assert os.listdir(tmp_path / "route") == ["route.sqlite"]

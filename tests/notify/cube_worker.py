"""CUBE's worker, as a Celery application of the tests' own: it registers a series as the real one was seen to.

It acknowledges before it works, counts the files that end in .dcm below the path, refuses more than it was told of,
waits for a while where there are fewer, and refuses a series that it has. Variables: CUBE_STORAGE (its files),
CUBE_DATABASE (what it has, an SQLite file), CUBE_PATIENCE (seconds to wait for files), CUBE_HOLD (a file; while it is
there, a task that began stays where it is), CUBE_READY (a file that is made when tasks are taken).
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-untyped]
from celery.signals import worker_ready  # type: ignore[import-untyped]

app = Celery("cube", broker=os.environ.get("CUBE_BROKER", "redis://127.0.0.1"))
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (pacs_name, SeriesInstanceUID, path, ndicom, UNIQUE (pacs_name, SeriesInstanceUID));
CREATE TABLE IF NOT EXISTS calls (SeriesInstanceUID, refused, PRIMARY KEY (SeriesInstanceUID, refused));
CREATE TABLE IF NOT EXISTS begun (SeriesInstanceUID);
"""


def database(path: str) -> sqlite3.Connection:
    """What CUBE has; each statement is its own transaction."""
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    connection.executescript(SCHEMA)
    return connection


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: Any) -> None:
    """Tell that tasks are taken."""
    Path(os.environ["CUBE_READY"]).touch()


@app.task(name="pacsfiles.tasks.register_pacs_series", ignore_result=True)  # type: ignore[untyped-decorator]
def register_pacs_series(**told: Any) -> None:
    """Register a series, or refuse it."""
    cube = database(os.environ["CUBE_DATABASE"])
    uid = told["SeriesInstanceUID"]
    cube.execute("INSERT INTO begun VALUES (?)", (uid,))
    while os.path.exists(os.environ["CUBE_HOLD"]):
        time.sleep(0.02)
    why = _refused(told)
    if not why:
        row = (told["pacs_name"], uid, told["path"], told["ndicom"])
        try:
            cube.execute("INSERT INTO series VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            why = "it is there"
    if why:
        cube.execute("INSERT OR IGNORE INTO calls VALUES (?, ?)", (uid, why))
    cube.close()


def _refused(told: dict[str, Any]) -> str:
    if not told["path"].startswith(f"SERVICES/PACS/{told['pacs_name']}/") or not told["PatientID"]:
        return "a value"
    folder = Path(os.environ["CUBE_STORAGE"]) / told["path"]
    deadline = time.monotonic() + float(os.environ["CUBE_PATIENCE"])
    while (there := sum(1 for _ in folder.rglob("*.dcm"))) < told["ndicom"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return "" if there == told["ndicom"] else "counts differ"

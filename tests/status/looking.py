"""A real service with files for it and its status; and the pages of a ledger of any size without one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from listener.ledger.connection import open_writer, path_of, transaction
from listener.service.monitor import SnapshotWriter
from listener.status.history import SLOTS
from listener.status.routes import Shows, StatusRoutes
from listener.telemetry.metric_rows import Numbers
from listener.telemetry.server import Server
from tests.instances import uid, write_instance
from tests.service_process import Places, Service
from tests.waiting import until

MINUTE_NS = 60 * 10**9

#: What the UIDs of a filled ledger begin with.
ROOT = "1.2.826.0.1.3680043.10.1470"


def bring(places: Places, count: int, number: int = 0, **more: Any) -> str:
    """A series of new files in incoming; its UID."""
    made = [
        write_instance(places.base / f"{number}-{one}", series=number, number=one, **more)
        for one in range(1, count + 1)
    ]
    for path in made:  # All at once: the series must not be quiet between two of them.
        path.rename(places.incoming / path.name)
    return str(uid("series", 0, 0, number))


def status(running: Service) -> dict[str, Any]:
    answer = running.get("/api/v1/status")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def status_until(running: Service, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status, as soon as it is as wanted."""
    told: dict[str, Any] = {}

    def there() -> bool:
        told.update(status(running))
        return wanted(told)

    until(there, 10)
    return told


def fill(state: Path, studies: int, each: int = 2) -> None:
    """A ledger of so many studies with so many series each, a minute apart; the newest are open, one is incomplete."""
    state.mkdir(parents=True, exist_ok=True)
    row = (
        "INSERT INTO series (SeriesInstanceUID, StudyInstanceUID, Modality, sender, root, state, result, instances, "
        "bytes, first_ns, last_ns, changed_ns) VALUES (?, ?, ?, ?, 'incoming', ?, ?, ?, ?, ?, ?, ?)"
    )
    now_ns = time.time_ns()

    def made(number: int, one: int) -> tuple[object, ...]:
        state_ = "open" if number > studies - 3 else "incomplete" if number == 0 else "complete"
        came = now_ns - (studies - number) * MINUTE_NS + one
        modality, sender = ("MR", "CT", "US")[number % 3], ("SCANNER1", "A SENDER OF SIX")[one % 2]
        result = {"complete": "quiet", "incomplete": "incomplete"}.get(state_, "")
        uids = (f"{ROOT}.{number}.{one}.{10**20 + number}", f"{ROOT}.{number}.{10**24 + number}")
        return (*uids, modality, sender, state_, result, 192, 44_661_756, came, came, came)

    with contextlib.closing(open_writer(path_of(str(state)))) as connection, transaction(connection):
        connection.executemany(row, (made(number, one) for number in range(studies) for one in range(each)))
        patient = "INSERT INTO patients (PatientID, PatientName) VALUES ('0042-7', 'Müller^Anna')"
        connection.execute(patient)
        connection.execute("UPDATE series SET patient_id = 1, SeriesDescription = 't1 mprage sag'")
        connection.execute("UPDATE studies SET StudyDate = '20261121', StudyDescription = 'MR Head without contrast'")


@contextlib.contextmanager
def served(state: Path, *, phi: bool = False) -> Iterator[Server]:
    """The pages of a ledger as a service that is ready would serve them, without one; charts of a busy hour."""
    writer = SnapshotWriter(str(state), Numbers(), ("/srv/incoming",))
    points = [[10.0 * at, 50 + at % 37, 1e6, 0.05 + at % 11 / 100, at * 7 % 400, 0, 0] for at in range(SLOTS)]
    writer.history.restore(points[::-1], 0.0, time.monotonic())
    shown = {**writer.live, "state": "ready"}
    routes = StatusRoutes(
        str(state), lambda: {**shown, "time_ns": time.time_ns()}, writer.history, Shows(phi=phi)
    ).routes()
    errors: list[Exception] = []
    server = Server("127.0.0.1:0", {}, errors.append, slow=routes)
    server.start()
    try:
        yield server
    finally:
        assert server.stop(10)
    assert errors == []

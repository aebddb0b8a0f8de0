"""What comes in while faults strike: small instances, written as storescp writes them or sent through the real one."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite

from listener.storescp import RECOMMENDED
from tests.accounting import Sent, data_set_digest
from tests.dicomnet import storescp, storescu
from tests.instances import UID_ROOT, instance
from tests.service_process import Places

_MARK = UID_ROOT + "9000000000"
_PATIENTS, _SERIES = 4, 3

#: Between two files, in seconds: the processor is wanted for starting what was killed.
_PACE = 0.004

#: Files that may wait in incoming before it waits, too.
_REACH = 60


@cache
def _mold(patient: int, series: int, sender: str, side: int) -> bytes:
    ds = instance(patient, 0, series, 1, SOPInstanceUID=_MARK, sender=sender, pixels=side)
    ds.preamble = b"\0" * 128
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def body(number: int, sender: str = "SENDER", side: int = 4) -> bytes:
    """Instance `number` as a file, made by replacing one UID of a fixed length; it belongs to one of twelve series."""
    return _mold(number % _PATIENTS, number % _SERIES, sender, side).replace(_MARK.encode(), uid(number).encode())


def uid(number: int) -> str:
    return f"{UID_ROOT}{9000000000 + number}"


def receive(path: Path, data: bytes) -> None:
    """Write a file as storescp does: its final name, truncated, in two writes; no temporary name, no sync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, data[:300])
        os.write(descriptor, data[300:])
    finally:
        os.close(descriptor)


class Inflow:
    """A thread that goes on writing into incoming: new instances mostly, some of them twice, and what is no DICOM.

    `sent` and `aside` are what the accounts expect; `first` is the number that it begins with.
    """

    def __init__(
        self, places: Places, seed: int, *, bad: bool = True, again: bool = True, side: int = 4, first: int = 0
    ) -> None:
        self.sent: Sent = {}
        self.aside: Counter[str] = Counter()
        self.files = 0
        self._incoming = places.incoming
        self._random = random.Random(seed)
        self._bad, self._again, self._side, self._first = bad, again, side, first
        self._numbers: list[int] = []
        self._end = threading.Event()
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.failed: BaseException | None = None

    def _work(self) -> None:
        try:
            while not self._end.is_set():
                self._go.wait()
                self._write_next()
                time.sleep(_PACE)
                if self.files % 10 == 0 and sum(1 for _ in os.scandir(self._incoming)) > _REACH:
                    time.sleep(10 * _PACE)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failed = error

    def _write_next(self) -> None:
        number, chance = self._first + self.files, self._random.random()
        path = self._incoming / f"{number:07d}"
        if self._bad and chance < 0.02:
            self.aside["empty" if chance < 0.01 else "not-dicom"] += 1
            receive(path, b"" if chance < 0.01 else b"no DICOM\n" * 40)
        elif chance < 0.08 and self.sent and self._again:
            # the same instance from another sender
            receive(path, body(self._random.choice(self._numbers), "OTHER", self._side))
        else:
            data = body(number, side=self._side)
            self.sent[uid(number)] = data_set_digest(data)
            self._numbers.append(number)
            receive(path, data)
        self.files += 1

    def pause(self) -> None:
        self._go.clear()

    def go_on(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._end.set()
        self._go.set()
        if self._thread.ident:
            self._thread.join()

    def start(self) -> None:
        self._go.set()
        self._thread.start()


@contextmanager
def inflow(places: Places, seed: int, *, bad: bool = True, again: bool = True) -> Iterator[Inflow]:
    """A running Inflow; whatever it met is raised at the end."""
    flow = Inflow(places, seed, bad=bad, again=again)
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()
    assert flow.failed is None, flow.failed


class Sender:
    """The same through a real association: storescu sends folder after folder to storescp."""

    def __init__(self, places: Places, port: int) -> None:
        self.sent: Sent = {}
        self.aside: Counter[str] = Counter()
        self.files = 0
        self._places, self._port = places, port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.failed: BaseException | None = None

    def _work(self) -> None:
        try:
            for batch in range(10_000):
                if self._end.is_set():
                    return
                self._send(batch)
                while sum(1 for _ in os.scandir(self._places.incoming)) > 60 and not self._end.is_set():
                    time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failed = error

    def _send(self, batch: int) -> None:
        folder = self._places.base / "sent"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for number in range(batch * 40, batch * 40 + 40):
            data = body(number)
            (folder / str(number)).write_bytes(data)
            self.sent[uid(number)] = data_set_digest(data)
        storescu(self._port, folder, "-aet", "SENDER")
        self.files += 40

    def stop(self) -> None:
        self._end.set()
        if self._thread.ident:
            self._thread.join()

    def start(self) -> None:
        self._thread.start()


@contextmanager
def association(places: Places, seed: int) -> Iterator[Sender]:
    """A running Sender and its storescp."""
    with storescp(places.incoming, *RECOMMENDED) as receiver:
        sender = Sender(places, receiver.port)
        sender.start()
        try:
            yield sender
        finally:
            sender.stop()
    assert sender.failed is None, sender.failed


def waiting(places: Places) -> int:
    """How many files are in incoming or claimed."""
    count = 0
    for root in (*places.incomings, places.state / "claim"):
        for _, _, names in os.walk(root):
            count += len(names)
    return count


def forget(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()

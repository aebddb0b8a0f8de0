"""A place to repack in, with a ledger."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path

from listener.ledger.writer import LedgerWriter
from tests.workbench import Bench

#: What a header says of patient, study and series.
HEADER = {
    "PatientName": "Müller^Änne",
    "PatientID": "M 17",
    "IssuerOfPatientID": "CITY",
    "PatientBirthDate": "19610203",
    "StudyDate": "20260105",
    "StudyTime": "101500",
    "StudyDescription": "Schädel",
    "AccessionNumber": "A1",
    "SeriesNumber": "3",
    "SeriesDescription": "t1 ax",
    "StationName": "MR2",
}


class LedgerBench(Bench):
    """A place to repack in, with a ledger; what is published is recorded, and complete after ten quiet seconds."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, series_quiet=(("", 10.0),))
        self.clerk = LedgerWriter(self.config, slice_seconds=inf)
        self.now = 0.0
        self.tick()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.clerk.tick(self.now, time.time_ns())
        self.clerk.mark_announced(self.clerk.take_ended(), self.now)

    def receive(self, name: str, sent_by: str = "SENDER", **arguments: object) -> None:
        outcome = self.outcome(self.put(name, **arguments))
        self.clerk.record([outcome._replace(sender=sent_by)], self.now, time.time_ns())

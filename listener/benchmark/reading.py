"""Measure reading headers alone: the cost of a file of a fresh series, one protocol after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from listener.benchmark.figures import Sample
from listener.benchmark.protocols import PROTOCOLS, Protocol, write
from listener.config import Config
from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.planning.plan import INSTANCE_KEYWORDS, Layout, choose_preset


class Reading:
    """The files of one protocol, written at the first call; `paths` in the order of arrival."""

    def __init__(self, protocol: Protocol, folder: Path, given: Sequence[Path]) -> None:
        self._protocol = protocol
        self._make = partial(write, protocol, folder, given)
        self.paths: list[Path] = []

    def __call__(self) -> Sample:
        """Read each file once, with a reader that has read none of them. Processor time includes open and close."""
        self.paths = self.paths or self._make()
        wanted, limits, size = Wanted(_keywords()), Limits(), 0
        cpu, wall = time.process_time(), time.perf_counter()
        for path in self.paths:
            descriptor = os.open(path, os.O_RDONLY)
            length = os.fstat(descriptor).st_size
            read_header(descriptor, length, wanted, limits)
            os.close(descriptor)
            size += length
        files = len(self.paths)
        cpu, wall = (time.process_time() - cpu) / files, time.perf_counter() - wall
        return Sample(self._protocol.name, files, size, cpu, wall)


def _keywords() -> tuple[str, ...]:
    """Return the attributes that a worker with default settings reads."""
    default = Config()
    texts = (default.root_template, default.study_template, default.series_template, default.image_template)
    layout = Layout(choose_preset(default.layout, *texts))
    return tuple(sorted({*layout.keywords, *INSTANCE_KEYWORDS} - {"SourceApplicationEntityTitle"}))


def _is_dicom(path: Path) -> bool:
    """Return whether a file begins as PS3.10 section 7.1 says; a folder may hold a licence."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def readings(folder: Path, source: str) -> list[Reading]:
    """Return a reading for each protocol; `source` is a folder of files for the headers of MR, "" for none."""
    given = sorted(path for path in Path(source).rglob("*") if _is_dicom(path)) if source else []
    return [Reading(protocol, folder / f"{number}", given) for number, protocol in enumerate(PROTOCOLS)]

"""Somebody who reads the tree and the logs all the time, as px-status and its like do, and must never see a half.

Run as `python -m tests.faults.readers DATA LOG`: reads until its standard input ends, then tells how often it went
round and what it saw that must not be.
"""

from __future__ import annotations

import os
import select
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydicom import dcmread

OWN = ".listener"


class Reader:
    """Lists everything in each round; parses what is new or changed."""

    def __init__(self, data: str, log: str) -> None:
        self._data, self._log = data, log
        self._seen: dict[str, tuple[int, int, int]] = {}
        self.rounds = self.instances = self.documents = 0

    def round(self) -> Iterator[str]:
        """What is wrong in the tree and the logs now."""
        # The documents first: an instance that one points at was there before.
        for path in self._fresh(self._log):
            self.documents += 1
            yield from self._read_document(path)
        for path in self._fresh(self._data):
            self.instances += 1
            yield from read_instance(path)
        self.rounds += 1

    def _fresh(self, top: str) -> Iterator[str]:
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name != OWN]
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue
                mark = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._seen.get(path) != mark:
                    self._seen[path] = mark
                    yield path

    def _read_document(self, path: str) -> Iterator[str]:
        name = os.path.basename(path)
        if name.startswith(".") or not name.endswith(".json"):
            yield f"a reader counts {path}"
            return
        gone: list[str] = []
        for _ in range(2):
            try:
                data = Path(path).read_bytes()
            except FileNotFoundError:
                return
            try:
                document = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                yield f"half a document: {path}: {error}"
                return
            gone = [place for place in locations(document) if not os.path.isfile(place)]
            if not gone:
                return
            # A corrected name may have moved it between the two looks; then the document tells so now.
        yield f"{path} points at {gone}, which is not there"


def locations(document: Any) -> Iterator[str]:
    """Every FSlocation in a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "FSlocation" and isinstance(value, str):
                yield value
            else:
                yield from locations(value)


def read_instance(path: str) -> Iterator[str]:
    """Read one instance of traffic.py to its end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(path)
            wanted = ds.Rows * ds.Columns * 2
            if len(ds.PixelData) != wanted:
                yield f"half an instance: {path}: {len(ds.PixelData)} of {wanted} bytes of pixels"
            if str(ds.SOPInstanceUID) not in path:
                yield f"{path} holds {ds.SOPInstanceUID}"
    except FileNotFoundError:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, a reader would have met it
        yield f"half an instance: {path} ({os.path.getsize(path)} bytes): {error!r}"


def main(data: str, log: str) -> None:
    reader = Reader(data, log)
    wrong: list[str] = []
    ended = False
    took = 0.0
    while not ended:
        # one last round after the end
        ended = bool(select.select([sys.stdin], [], [], 0.02 + took)[0])
        begun = time.monotonic()
        wrong += reader.round()
        took = time.monotonic() - begun
    told = {name: getattr(reader, name) for name in ("rounds", "instances", "documents")}
    print(orjson.dumps({**told, "wrong": wrong[:50]}).decode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""A real Orthanc, as a hospital's archive or as a worker."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from pydicom import DataElement, Dataset, dcmread

from tests.dicomnet import accepts, free_port, stop
from tests.waiting import until

_PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running one: its AE title, and its ports for DICOM and HTTP."""

    title: str
    port: int
    http: int

    def ask(self, path: str, body: Any = None) -> bytes:
        """What its REST API answers."""
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.http}{path}", data=data), timeout=120) as answer:
            found: bytes = answer.read()
            return found

    def instances(self) -> dict[str, str]:
        """What it has: its own identifiers of instances by SOP Instance UID."""
        rows = json.loads(self.ask("/instances?expand"))
        return {row["MainDicomTags"]["SOPInstanceUID"]: row["ID"] for row in rows}

    def datasets(self) -> dict[str, Dataset]:
        """All that it has, by SOP Instance UID."""
        return {uid: dcmread(BytesIO(self.ask(f"/instances/{of}/file"))) for uid, of in self.instances().items()}

    def add(self, data: bytes) -> None:
        """Have it hold an instance."""
        with urlopen(f"http://127.0.0.1:{self.http}/instances", data, timeout=120) as answer:
            assert answer.status == 200

    def send(self, modality: str) -> None:
        """Let it send all that it has by C-STORE, and wait for the end."""
        self.ask(f"/modalities/{modality}/store", {"Resources": [*self.instances().values()], "Synchronous": True})


def values(dataset: Dataset) -> list[DataElement]:
    """The elements of an instance; without what is no more than padding, which DCMTK leaves out."""
    dataset.pop("DataSetTrailingPadding", None)
    return [*dataset]


@contextmanager
def orthanc(folder: Path, title: str, **modalities: tuple[str, int]) -> Iterator[Orthanc]:
    """One in a folder of its own; `modalities`: AE titles and ports on this machine to which it can send."""
    if _PROGRAM is None:
        pytest.skip("Orthanc is not installed")
    folder.mkdir()
    made = Orthanc(title, free_port(), free_port())
    configuration = {
        "Name": title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": made.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": title,
        "DicomPort": made.port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {name: [aet, "127.0.0.1", port] for name, (aet, port) in modalities.items()},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "output.txt").open("wb") as sink:
        process = subprocess.Popen(
            [_PROGRAM, str(folder / "orthanc.json")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            process_group=0,
        )
    try:
        until(
            lambda: process.poll() is not None or (accepts(made.http) and accepts(made.port)),
            30,
            what=f"{title} answers",
        )
        assert process.poll() is None, (folder / "output.txt").read_text(errors="replace")
        yield made
    finally:
        stop(process)

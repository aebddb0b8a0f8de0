"""The whole pipe, each program killed at random: dcmsend, storescp, collection A, deidentify, collection B, export to a
bucket. Everything that was sent is there once, and nothing of the patient.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from listener.deidentify import inputs
from listener.export import keys, manifest
from listener.export.target import whole
from tests.deidentify import planting
from tests.export.stores import Store, free_port, versitygw
from tests.instances import uid
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]

_SERIES, _INSTANCES = 5, 6


class Pipe:
    """The programs of both collections, by name, each killed and started again as often as one likes."""

    def __init__(self, base: Path, store: Store) -> None:
        self.base, self._environment = base, {**os.environ, **store.environment}
        for name in ("a/incoming", "a/data", "a/log", "a/state", "b/batches", "b/data", "b/log", "b/state"):
            (base / name).mkdir(parents=True)
        inputs.new_key(str(base / "key"))
        self.port = free_port()
        self._commands = self._of(store)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _of(self, store: Store) -> Mapping[str, list[str]]:
        a, b = self.base / "a", self.base / "b"
        listener = [sys.executable, "-m", "listener"]
        of_a, of_b = ([f"--data={one}/data", f"--state={one}/state"] for one in (a, b))
        run = [*listener, "run", "--http=off", "--series-quiet=1", "--batch-quiet=1"]
        folders = [f"--batches={b}/batches", "--batch-source=remove"]
        into = [f"--into={b}/batches", f"--key-file={self.base}/key", "--http=off"]
        return {
            "storescp": ["storescp", "--fork", "+uf", "+xa", "-pm", "-od", f"{a}/incoming", str(self.port)],
            "run A": [*run, f"--incoming={a}/incoming", f"--log={a}/log", *of_a],
            "deidentify": [*listener, "deidentify", *of_a, *into],
            "run B": [*run, *folders, f"--log={b}/log", *of_b],
            "export": [*listener, "export", *of_b, *store.flags(), "--http=off", "--keys=uid", "--rate=200kB"],
        }

    @property
    def names(self) -> list[str]:
        return list(self._commands)

    def start(self, name: str) -> None:
        with (self.base / f"{name}.txt").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._commands[name], stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def keep_running(self) -> None:
        """What ended by itself (a collection that is not there yet) is started again."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self.start(name)

    def until(self, predicate: Callable[[], bool], seconds: float) -> None:
        """Wait for something while all programs go on; what they said is shown where it does not come."""

        def goes_on() -> bool:
            self.keep_running()
            return predicate()

        try:
            until(goes_on, seconds)
        except AssertionError:
            for path in sorted(self.base.glob("*.txt")):
                print(f"-- {path.name}", path.read_text()[-3000:], sep="\n")
            raise


@contextmanager
def pipe(base: Path, store: Store) -> Iterator[Pipe]:
    one = Pipe(base, store)
    try:
        for name in one.names:
            one.start(name)
        yield one
    finally:
        for name in list(one._running):
            one.kill(name)


def planted(folder: Path) -> list[Path]:
    """Files of a planted patient, to be sent."""
    folder.mkdir()
    paths = []
    for series in range(_SERIES):
        for number in range(1, _INSTANCES + 1):
            made = planting.instance(2)
            made.SOPInstanceUID = uid("instance", 0, 0, series, number)
            made.StudyInstanceUID, made.SeriesInstanceUID = uid("study", 0, 0), uid("series", 0, 0, series)
            for keyword in ("DateOfSecondaryCapture", "SecondaryCaptureDeviceID"):
                if keyword in made:
                    delattr(made, keyword)
            path = folder / f"{series}-{number}.dcm"
            path.write_bytes(planting.file_of(made, planting.EXPLICIT))
            paths.append(path)
    return paths


def objects(store: Store) -> dict[str, bytes]:
    with closing(store.target()) as target:
        return {key: whole(target.read(key)) for key, _ in target.listed("")}


def told(store: Store) -> dict[str, manifest.Entry]:
    """Instances that manifests tell of, by UID."""
    with closing(store.target()) as target:
        found = [manifest.parsed(whole(target.read(key))) for key, _ in target.listed(keys.MANIFESTS)]
    return {entry.SOPInstanceUID: entry for one in found for entry in one.entries}


@pytest.mark.parametrize("seed", range(2))
def test_all_that_is_clean_is_in_the_bucket_once_and_nothing_of_the_patient(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("dcmsend") is None:
        pytest.skip("dcmsend is not installed (.ci/need dcmtk)")
    chance = random.Random(seed)
    with versitygw(tmp_path) as store, pipe(tmp_path / "pipe", store) as one:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        # Each stage is registered before there is anything for it.
        one.until(lambda: all((one.base / path).exists() for path in REGISTERED), 60)
        waiting = planted(tmp_path / "sent")
        for _ in range(12):
            now, waiting = waiting[:3], waiting[3:]
            if now:
                send(one, now)
            time.sleep(chance.uniform(0.2, 1.2))
            victim = chance.choice([name for name in one.names if name != "storescp"])
            one.kill(victim)
            one.start(victim)
            one.keep_running()
        send(one, waiting)
        wanted = _SERIES * _INSTANCES
        one.until(lambda: len(told(store)) == wanted, 150)
        found, entries = objects(store), told(store)
    data = [key for key in found if key.startswith(f"{keys.DATA}/")]
    assert sorted(data) == sorted(entry.key for entry in entries.values()), "each once, and nothing else"
    for key in data:
        made = dcmread(DicomBytesIO(found[key]))
        assert made.PatientIdentityRemoved == "YES"
    for key, content in found.items():
        assert planting.found_in(table(content) if key.startswith(keys.TABLES) else content) == [], key
        assert planting.found_in(key.encode()) == []


def table(content: bytes) -> bytes:
    """All values of a part of the table, which is compressed."""
    from arro3.io import read_parquet

    read = read_parquet(io.BytesIO(content)).read_all()
    return repr([read[name].to_pylist() for name in read.column_names]).encode()


REGISTERED = ("a/state/deidentify/live", "b/state/export/live")


def send(one: Pipe, paths: list[Path]) -> None:
    """Send until storescp has taken all: it is never killed here, so once suffices when it listens."""
    if paths:
        command = ["dcmsend", "--no-uid-checks", "127.0.0.1", str(one.port), *map(str, paths)]
        until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 30)

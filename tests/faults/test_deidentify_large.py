"""A file that is larger than memory should be adds none: its pixels are copied by the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.deidentify.collection import Collection

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]

_LARGE = 700 * 2**20

#: Cleans one instance, as a worker does; prints how many passed and the most memory that was resident, in bytes.
_CLEAN = """
import json, resource, sys
from types import SimpleNamespace
from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.replacing import Subject
from listener.deidentify.service import method_of
from listener.deidentify.work import Order, Share, worker
key, data, name, part = sys.argv[1:]
clean = worker(method_of(DeidentifyOptions(key_file=key, fsync="none")))
row = SimpleNamespace(path=name, SOPInstanceUID="1.2.3")
parent = SimpleNamespace(ask=lambda _: Subject("P1", 17), go_on=lambda: None)
done = clean(Order([Share("1.2.4", False, [row])], data, part), parent)
print(json.dumps([done.passed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory on a disk: in memory the file itself would be what is large."""
    with tempfile.TemporaryDirectory(prefix="listener-", dir="/var/tmp") as name:
        yield Path(name)


def _memory(collection: Collection, path: Path, part: Path) -> int:
    words = [str(collection.key), str(path.parent), path.name, str(part)]
    done = subprocess.run(
        [sys.executable, "-c", _CLEAN, *words], cwd=PROJECT, capture_output=True, check=True, timeout=500
    )
    passed, most = json.loads(done.stdout)
    assert passed == 1, done.stderr
    return int(most)


def test_a_large_file_adds_no_memory(folder: Path) -> None:
    collection = Collection(folder / "collection")
    (small,) = collection.add(0, 1)
    data = small.read_bytes()
    at = data.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    large = folder / "large.dcm"
    with large.open("wb") as file:  # Sparse, and what follows the pixels is left out.
        file.write(data[:at] + _LARGE.to_bytes(4, "little"))
        file.truncate(file.tell() + _LARGE)
    before = _memory(collection, small, folder / "first")
    after = _memory(collection, large, folder / "second")
    (made,) = (folder / "second").iterdir()
    assert os.stat(made).st_size > _LARGE
    assert after < before + 20 * 10**6

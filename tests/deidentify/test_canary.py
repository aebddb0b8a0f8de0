"""A canary: a patient whose name, number, dates and UIDs are known appears in nothing that the running stage says or
serves, nor in what the second collection has of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from listener import cli
from tests.conftest import PROJECT
from tests.deidentify import planting
from tests.deidentify.collection import Collection
from tests.waiting import until

pytestmark = pytest.mark.real

#: UIDs of the collection's instances, and what else the canary is known by.
_NEEDLES = planting.NEEDLES


@contextmanager
def running(collection: Collection, said: Path) -> Iterator[str]:
    """The stage as a service; its address, once a unit of each kind was done."""
    config = collection.config
    words = ["--state", config.state, "--data", config.data, "--into", str(collection.into)]
    words += ["--key-file", str(collection.key), "--http", "127.0.0.1:0", "--log-level", "debug"]
    with said.open("wb") as out, said.with_suffix(".stderr").open("wb") as errors:
        command = [sys.executable, "-m", "listener", "deidentify", *words]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=errors)
    try:
        until(lambda: said.read_bytes().count(b'"unit":') >= 3, 60)
        yield next(str(one["http"]) for one in map(orjson.loads, said.read_bytes().splitlines()) if one.get("http"))
    finally:
        process.terminate()
        process.wait()


def _asked(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        body: bytes = answer.read()
    return body


def test_nothing_says_who_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    collection = Collection(tmp_path / "a")
    collection.add(0, 1, 2)
    collection.add(0, 3, BurnedInAnnotation="YES")
    collection.add(1, 1)
    broken = collection.add(1, 2)[0]
    broken.write_bytes(broken.read_bytes()[:-40])
    (kept,) = collection.add(2, 1, BodyPartExamined=planting.PLANT.upper())
    assert kept.exists()
    collection.end()
    said = tmp_path / "said"
    with running(collection, said) as address:
        pages = {path: _asked(address, path) for path in ("/metrics", "/healthz", "/readyz")}
    told = {"events": said.read_bytes(), "diagnostics": said.with_suffix(".stderr").read_bytes(), **pages}
    capfd.readouterr()
    page = tmp_path / "evidence.html"
    for words in (["held"], ["held", "--json"], ["evidence"], ["evidence", "--html", str(page)], ["status"]):
        collection.deidentify(*words)
        said_now = capfd.readouterr()
        told[" ".join(words[:2])] = (said_now.out + said_now.err).encode()
    told["page"] = page.read_bytes()
    assert all(told[name] for name in ("events", "/metrics", "held --json", "page"))
    assert [name for name, what in told.items() if planting.found_in(what, _NEEDLES)] == []

    clean = tmp_path / "b"
    given = [f"--{name}={clean / name}" for name in ("data", "log", "state")]
    assert cli.main(["once", f"--batches={collection.into}", "--batch-source=remove", "--batch-quiet=0", *given]) == 0
    files = [path for path in clean.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".dcm"]) == 3
    assert [path for path in files if planting.found_in(path.read_bytes(), _NEEDLES)] == []
    assert [path for path in clean.rglob("*") if planting.found_in(os.fsencode(path.name), _NEEDLES)] == []

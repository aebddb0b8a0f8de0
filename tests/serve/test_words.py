"""`listener serve once`, `check` and `status`, and what `listener check` says of the stage's options."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frames.collection import Collection
from tests.serve.processes import serving
from tests.service_process import Done, listener
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


def serve(collection: Collection, *words: str) -> Done:
    return listener("serve", *words, "--data", str(collection.data), "--state", collection.state)


def test_once_indexes_what_is_complete(collection: Collection) -> None:
    collection.slide(3)
    collection.complete()
    done = serve(collection, "once", "--dicomweb", "127.0.0.1:1")
    assert done.status == 0, done.stderr
    folder = Path(collection.state, "serve", "series")
    assert len(list(folder.rglob("*.table"))) == 1
    assert len(list(folder.rglob("*.json.gz"))) == 1
    collection.path().write_bytes(b"no DICOM")
    (collection.data / "patient" / "study" / "1.2.3.1" / "1.2.3.4.dcm").touch()
    assert serve(collection, "once", "--index", str(collection.data.parent / "new")).status == 1


def test_check_says_what_is_in_the_way(collection: Collection) -> None:
    collection.slide(1)
    done = serve(collection, "check", "--dicomweb", "127.0.0.1:0")
    assert (done.status, done.stderr) == (0, ""), done.stdout
    for words in ("the ledger can be read", "--data: can be read", "can be written", "can be listened on"):
        assert words in done.stdout.decode()
    done = serve(collection, "check", "--dicomweb", "0.0.0.0:0", "--no-token")
    assert (done.status, "problem: --public-url" in done.stdout.decode()) == (1, True)
    collection.close()
    Path(collection.state, "ledger.sqlite").unlink()
    done = serve(collection, "check", "--dicomweb", "127.0.0.1:0")
    assert (done.status, "problem: the ledger cannot be read" in done.stdout.decode()) == (1, True)


def test_status_tells_how_it_stands(collection: Collection) -> None:
    collection.slide(1)
    assert "never started" in serve(collection, "status").stdout.decode()
    with serving(collection) as running:

        def stands() -> bool:
            found = json.loads(serve(collection, "status", "--json").stdout)
            return bool(found["state"] == "ready" and found["dicomweb"] == running.address)

        until(stands, 20)
        stage = json.loads(listener("status", "--state", collection.state, "--json").stdout)["stages"]["serve"]
        assert (stage["state"], "connections" in stage["note"]) == ("ready", True)
    assert json.loads(serve(collection, "status", "--json").stdout)["state"] == "stopped"
    assert "bytes of the index" in serve(collection, "status").stdout.decode()
    assert serve(collection, "stats").status == 2


def test_check_of_the_core_knows_the_options(tmp_path: Path) -> None:
    config = tmp_path / "listener.toml"
    config.write_text('[serve]\nmax-results = 0\nprefx = "/x"\n')
    done = listener("check", "--config", str(config), "--json")
    found = [line for line in map(json.loads, done.stdout.splitlines()) if line["about"] == "[serve]"]
    assert {line["level"] for line in found} == {"problem"}
    assert any("prefx" in line["text"] for line in found)
    config.write_text("[serve]\nmax-results = 10\n")
    done = listener("check", "--config", str(config), "--json")
    found = [line for line in map(json.loads, done.stdout.splitlines()) if line["about"] == "[serve]"]
    assert [line["level"] for line in found] == ["ok"]

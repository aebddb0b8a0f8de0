"""Programs of others read a collection over `listener serve`, and see what its files have."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.environments import Unreachable, environment
from tests.conftest import PROJECT
from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.serve.processes import Serving, serving
from tests.serve.slides import LEVELS, write_level

READERS = ("dicomweb-client==0.61.2", "wsidicom==0.36.1")
#: dataclasses-json: what pip finds by itself is too old for it. The others are what FrameCache needs.
EZ_WSI = ("ez-wsi-dicomweb==6.1.6", "dataclasses-json==0.6.7", "orjson", "tenacity", "urllib3")

INSIDE = Path(__file__).parent / "inside"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for uid in LEVELS:
        write_level(folder / f"{uid}.dcm", uid)
    return folder


@pytest.fixture
def served(files: Path, tmp_path: Path) -> Iterator[Serving]:
    with contextlib.closing(Collection(tmp_path / "collection")) as collection:
        for uid in LEVELS:
            collection.add(Maker("", uid, "1.2.3", "1.2.3.1"), (files / f"{uid}.dcm").read_bytes())
        with serving(collection) as running:
            running.ready()
            yield running


def run(packages: tuple[str, ...], script: str, *words: object) -> None:
    """Run a script of `inside` in an environment of these packages; it prints `equal`."""
    try:
        folder = environment("-".join(packages).replace("==", "-"), list(packages))
    except Unreachable as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [str(folder / "bin/python"), "-W", "ignore", str(INSIDE / script), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8"},
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["equal"]), done.stderr[-3000:]


@pytest.mark.parametrize("script", ["dicomweb.py", "wsi.py"])
def test_clients_and_readers_see_what_the_files_have(script: str, served: Serving, files: Path) -> None:
    run(READERS, script, served.base, files)


def test_ez_wsi_reads_patches_through_its_cache_and_through_ours(served: Serving) -> None:
    run(EZ_WSI, "ez_wsi.py", served.base)

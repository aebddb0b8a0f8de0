"""The image with the extras serve and render: as the least of users, which may only read, it shows what came."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.containers.podman import IMAGES, LISTENER, UID, Container, podman, started, why_not
from tests.instances import write_instance
from tests.waiting import until

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("containers")]

SERVE = "localhost/listener-serve:test"

#: Asks for a path below the prefix, and prints status and body, in hexadecimal.
_ASK = """
import urllib.request as u
asked = u.Request("http://127.0.0.1:8043/dicom-web{path}", headers={{"Accept": "{accept}"}})
with u.urlopen(asked, timeout=60) as answer: print(answer.status, answer.read().hex())
"""


@pytest.fixture(scope="module", autouse=True)
def _images() -> None:
    missing = why_not()
    if missing:
        pytest.skip(missing)
    if not (IMAGES / "serve.tar").exists():
        pytest.skip("there is no build/images/serve.tar (.ci/images serve)")
    podman("load", "--quiet", "--input", str(IMAGES / "serve.tar"))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume that belongs to the image's user, and one for the index beside it."""
    path = tmp_path / "volume"
    (path / "incoming").mkdir(parents=True)
    (tmp_path / "index").mkdir()
    for folder in (path, path / "incoming", tmp_path / "index"):
        os.chown(folder, UID, UID)
    yield path
    shutil.rmtree(path)


def ask(stage: Container, path: str, accept: str) -> tuple[int, bytes]:
    status, _, body = stage.run_in("python", "-c", _ASK.format(path=path, accept=accept)).strip().partition(" ")
    return int(status), bytes.fromhex(body)


def test_it_shows_what_came_and_writes_to_its_index_alone(volume: Path) -> None:
    made = write_instance(volume / "made", sender="MY PACS")
    dataset = pydicom.dcmread(made)
    os.chown(made, UID, UID)
    made.rename(volume / "incoming" / "one")
    with started(volume, "run", "--series-quiet", "1") as listener:
        listener.until_ready()
        until(lambda: list((volume / "data").rglob("*.dcm")), 60, what="the instance is published")
        more = ("-v", f"{volume.parent / 'index'}:/index")
        with started(volume, "serve", "--index", "/index", image=SERVE, more=more, only_read=True) as stage:
            until(lambda: b"1" in ask(stage, "/studies", "application/dicom+json")[1], 60, what="serve answers")
            uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            url = "/studies/{}/series/{}/instances/{}".format(*uids)
            assert ask(stage, f"{url}/frames/1", "application/octet-stream") == (200, dataset.PixelData)
            status, picture = ask(stage, f"{url}/rendered", "image/png")
            assert (status, picture[:4]) == (200, b"\x89PNG")
            assert stage.stop() == 0
        assert listener.stop() == 0
    assert (volume.parent / "index/catalogue.sqlite").exists()


def test_the_image_without_it_says_what_is_missing(volume: Path) -> None:
    mounted = ("--rm", "--no-healthcheck", "--network", "none", "-v", f"{volume}:/dicom")
    done = podman("run", *mounted, LISTENER, "serve", check=False)
    assert done.returncode == 2
    assert "pip install 'dicom-listener[serve]'" in done.stderr

"""The image with the extra chris: as the least of users it tells real brokers of a series, and drains."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.podman import IMAGES, LISTENER, UID, Container, podman, started, why_not
from tests.instances import uid, write_instance
from tests.notify.servers import messages, nats_server, redis_server, subscriber
from tests.waiting import until

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("containers")]

CHRIS = "localhost/listener-chris:test"


@pytest.fixture(scope="module", autouse=True)
def _images() -> None:
    missing = why_not()
    if missing:
        pytest.skip(missing)
    podman("load", "--quiet", "--input", str(IMAGES / "chris.tar"))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume that belongs to the image's user."""
    path = tmp_path / "volume"
    (path / "incoming").mkdir(parents=True)
    for folder in (path, path / "incoming"):
        os.chown(folder, UID, UID)
    yield path
    shutil.rmtree(path)


def arrive(volume: Path, series: int, number: int) -> str:
    """An instance comes, as storescp would have written it; its SeriesInstanceUID."""
    made = write_instance(volume / f"made-{series}-{number}", series=series, number=number, sender="MY PACS")
    os.chown(made, UID, UID)
    made.rename(volume / "incoming" / made.name)
    return str(uid("series", 0, 0, series))


def connected(stage: Container) -> bool:
    """Whether both targets are, as the stage's own status says."""
    targets = json.loads(stage.run_in("listener", "notify", "status", "--json"))["targets"]
    return all(target.get("connected") and target["state"] == "active" for target in targets.values())


def test_it_tells_of_a_series_and_drains(volume: Path) -> None:
    quiet = ("--layout", "oxidicom", "--series-quiet", "1")
    with redis_server() as (url, _), nats_server() as (nats, _), subscriber(nats) as ear:
        given = ("notify", "--nats", nats, "--celery", url, "--http", "off")
        with started(volume, "run", *quiet, image=CHRIS) as listener:
            listener.until_ready()
            with started(volume, *given, image=CHRIS, network="host") as stage:
                until(lambda: connected(stage), 60, what="both targets are connected")
                (series,) = {arrive(volume, 1, number) for number in range(1, 4)}
                until(lambda: messages(url) and ("done",) in ear.of(series), 90, what="both are told")
                assert stage.stop() == 0
            assert listener.stop() == 0
        (message,) = messages(url)
        told = message["kwargs"]
        assert (told["SeriesInstanceUID"], told["pacs_name"], told["ndicom"]) == (series, "MY_PACS", 3)
        assert len(list((volume / "data" / told["path"]).glob("*.dcm"))) == 3
        assert ear.of(series)[-2:] == [("number", 3), ("done",)]


def test_the_image_without_it_says_what_is_missing(volume: Path) -> None:
    mounted = ("--rm", "--no-healthcheck", "--network", "none", "-v", f"{volume}:/dicom")
    for flag, url in (("--nats", "nats://x"), ("--celery", "redis://x")):
        done = podman("run", *mounted, LISTENER, "notify", flag, url, check=False)
        assert done.returncode == 2
        assert f"{flag} needs the extra 'chris'" in done.stderr

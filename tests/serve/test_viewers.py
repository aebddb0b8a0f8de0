"""Viewers in a real Chromium look at a collection: what they fetch and show, compared with pydicom and Pillow."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from tests.browser import Browser, browser
from tests.conftest import PROJECT
from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.observing.scene import real_series
from tests.serve.processes import Serving, serving
from tests.serve.slides import LABEL, LEVELS, TILE, tiles, write_label, write_level
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Where .ci/need puts them.
VIEWERS = PROJECT / ".venv/viewers"

#: Let OHIF show an image of a stack, by its number from 0.
TURN = "cornerstone.getRenderingEngines().flatMap((one) => one.getViewports())[0].setImageIdIndex({})"

#: What it shows: the instance, the window, where the corners of the image lie, and the picture.
SHOWN = """(() => {
  const viewport = cornerstone.getRenderingEngines().flatMap((one) => one.getViewports())[0];
  const {voiRange} = viewport.getProperties(), image = viewport.getImageData().imageData;
  const at = (i, j) => viewport.worldToCanvas(image.indexToWorld([i, j, 0]));
  const [columns, rows] = image.getDimensions();
  viewport.render();
  return {instance: viewport.getCurrentImageId().split("/instances/")[1].split("/")[0],
          lower: voiRange.lower, upper: voiRange.upper, begin: at(0, 0), end: at(columns - 1, rows - 1),
          picture: viewport.getCanvas().toDataURL("image/png")};
})()"""

#: A page with dicom-microscopy-viewer for a slide's tiles and its label.
PAGE = """<!doctype html><script src="dicomweb-client.js"></script>
<script src="static/js/dicomMicroscopyViewer.min.js"></script>
<div id="tiles" style="width: 640px; height: 512px"></div><div id="label" style="width: 256px; height: 256px"></div>"""

DRAW = """(async () => {
  const {metadata, viewer} = dicomMicroscopyViewer.default ?? dicomMicroscopyViewer;
  const client = new DICOMwebClient.api.DICOMwebClient({url: location.origin + "/dicom-web"});
  const about = {studyInstanceUID: "1.2.3", seriesInstanceUID: "1.2.3.1"};
  const found = (await client.retrieveSeriesMetadata(about)).map(
    (one) => new metadata.VLWholeSlideMicroscopyImage({metadata: one}));
  const [labels, volumes] = [true, false].map((which) => found.filter((one) => which == (one.ImageType[2] == "LABEL")));
  new viewer.VolumeImageViewer({client, metadata: volumes, controls: []}).render({container: "tiles"});
  new viewer.LabelImageViewer({client, metadata: labels[0]}).render({container: "label"});
})()"""


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile", webgl=True) as made:
        made.look(1200, 800)
        yield made


def built(path: str) -> Path:
    """A file or directory of the viewers' packages."""
    if not (VIEWERS / path).exists():
        pytest.skip("no viewers are there (.ci/need viewers)")
    return VIEWERS / path


def put(collection: Collection, path: Path) -> str:
    """Put a file in; return its SOP Instance UID."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    uids = [str(header[name].value) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
    collection.add(Maker("", *uids), path.read_bytes(), Modality=header.Modality)
    return uids[0]


def put_slide(collection: Collection, folder: Path) -> None:
    for uid in (*LEVELS, LABEL):
        path = folder / f"{uid}.dcm"
        if uid == LABEL:
            write_label(path)
        else:
            write_level(path, uid)
        put(collection, path)


def instances(tab: Browser, what: str = "/frames/") -> list[str]:
    """The instances of which frames were asked for, one a frame."""
    tab.value("0")  # what was said before is here now
    return [url.split("/instances/")[1].split("/")[0] for url in tab.requests() if what in url]


def refused(tab: Browser, running: Serving) -> list[Any]:
    """Answers of the service that were refusals."""
    answers = [one["params"]["response"] for one in tab.told if one.get("method") == "Network.responseReceived"]
    return [one for one in answers if one["url"].startswith(running.base) and one["status"] >= 400]


def picture(url: str) -> Any:
    """The grey picture in a data URL, as an array."""
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    return numpy.asarray(image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L")).astype(float)


def likeness(shown: dict[str, Any], path: Path) -> float:
    """How much what OHIF shows is like pydicom's picture in the same window: 1 is the same."""
    import numpy as np

    raw = apply_rescale(pixel_array(path), pydicom.dcmread(path, stop_before_pixels=True)).astype(float)
    wanted = np.clip((raw - shown["lower"]) / (shown["upper"] - shown["lower"]), 0, 1)
    (left, top), (right, bottom) = shown["begin"], shown["end"]
    down = np.linspace(top, bottom, raw.shape[0]).round().astype(int)
    across = np.linspace(left, right, raw.shape[1]).round().astype(int)
    whole = picture(shown["picture"])
    inside = np.ix_((down >= 0) & (down < whole.shape[0]), (across >= 0) & (across < whole.shape[1]))
    got = whole[np.ix_(down.clip(0, whole.shape[0] - 1), across.clip(0, whole.shape[1] - 1))]
    return float(np.corrcoef(got[inside].ravel(), wanted[inside].ravel())[0, 1])


def colours(level: int) -> Any:
    """The colour of each tile of a level, from 1, or of the label, 3, below its lines."""
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    columns, rows = [*LEVELS.values(), (TILE, TILE)][level - 1]
    found = [numpy.asarray(image.open(io.BytesIO(one)))[4, 4] for one in tiles(columns // TILE * rows // TILE, level)]
    return numpy.array(found).astype(int)


def drawn(tab: Browser, folder: Path, level: int) -> int:
    """How many tiles of a level (see colours()) have their colour on the page."""
    import numpy as np
    from PIL import Image

    tab.screenshot(folder / "page.png")
    seen = np.unique(np.asarray(Image.open(folder / "page.png").convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    return sum(int((np.abs(seen - one).max(axis=1) <= 3).any()) for one in colours(level))


def test_ohif_opens_a_study_of_192_instances_and_shows_what_pydicom_does(collection: Collection, tab: Browser) -> None:
    viewer, files = built("ohif/dist"), real_series()
    if not files:
        pytest.skip("the real series is not there")
    paths = {put(collection, path): path for path in files}
    study = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    with serving(collection, "--viewer", str(viewer)) as running:
        running.ready()
        tab.open(f"http://{running.address}/viewer?StudyInstanceUIDs={study}")
        until(lambda: len(set(instances(tab))) == len(paths) == 192, 240, what="OHIF to fetch each frame")
        for number in (96, 120):
            tab.value(TURN.format(number))

            def is_like() -> bool:
                shown = tab.value(SHOWN)
                return likeness(shown, paths[shown["instance"]]) > 0.99

            until(is_like, 60, what="OHIF to show what pydicom does")
        assert refused(tab, running) == []


def test_ohif_opens_a_slide_in_its_microscopy_mode(collection: Collection, tab: Browser, tmp_path: Path) -> None:
    viewer = built("ohif/dist")
    put_slide(collection, tmp_path)
    with serving(collection, "--viewer", str(viewer)) as running:
        running.ready()
        tab.open(f"http://{running.address}/microscopy?StudyInstanceUIDs=1.2.3")
        until(lambda: drawn(tab, tmp_path, 1) >= 20, 240, what="OHIF to draw tiles")
        assert refused(tab, running) == []


def test_dicom_microscopy_viewer_draws_tiles_and_a_label(collection: Collection, tab: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "viewer"
    shutil.copytree(built("microscopy/dist/dynamic-import"), folder / "static/js")  # where it looks for its worker
    shutil.copy(built("client/build/dicomweb-client.js"), folder)
    (folder / "index.html").write_text(PAGE)
    put_slide(collection, tmp_path)
    with serving(collection, "--viewer", str(folder)) as running:
        running.ready()
        tab.open(f"http://{running.address}/")
        tab.value(DRAW)
        until(lambda: drawn(tab, tmp_path, 1) >= 20, 240, what="tiles to be drawn")
        until(lambda: drawn(tab, tmp_path, 3) == 1, 60, what="the label to be drawn")
        assert set(instances(tab, "/rendered")) == {LABEL}
        assert refused(tab, running) == []

"""wsidicomizer: a slide of a made-up picture, once with each kind of offset table. slides.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile  # type: ignore[import-not-found]
from wsidicom.codec import JpegSettings  # type: ignore[import-not-found]
from wsidicomizer import WsiDicomizer  # type: ignore[import-not-found]
from wsidicomizer.sources.tiffslide import TiffSlideSource  # type: ignore[import-not-found]

COLUMNS, ROWS, TILE = 640, 512, 64

#: So that it is taken for a scanner's file, which has a thumbnail after its first level.
DESCRIPTION = f"Aperio Image Library v1\n{COLUMNS}x{ROWS} |AppMag = 20|MPP = 0.5"

folder = Path(sys.argv[1])
colours = np.random.default_rng(17).integers(0, 255, (ROWS // 16, COLUMNS // 16, 3), dtype=np.uint8)
picture = np.kron(colours, np.ones((16, 16, 1), np.uint8))
with tifffile.TiffWriter(folder / "slide.tif") as tiff:
    for step in (1, 4, 2, 4):
        tiff.write(
            picture[::step, ::step], tile=(TILE, TILE), photometric="rgb", description=DESCRIPTION, metadata=None
        )
for table in ("bot", "eot", "empty"):
    # By TiffSlide: the source that is preferred otherwise needs a library of the system.
    WsiDicomizer.convert(
        folder / "slide.tif",
        folder / table,
        tile_size=TILE,
        offset_table=table,
        encoding=JpegSettings(),
        preferred_source=TiffSlideSource,
    )
print("equal")

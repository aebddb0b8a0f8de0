"""wsidicom: regions of a slide over a service equal those of its files. wsi.py BASE FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from dicomweb_client.api import DICOMwebClient  # type: ignore[import-not-found]
from wsidicom import WsiDicom, WsiDicomWebClient  # type: ignore[import-not-found]

base, folder = sys.argv[1], Path(sys.argv[2])
web = WsiDicom.open_web(WsiDicomWebClient(DICOMwebClient(base)), "1.2.3", "1.2.3.1")
local = WsiDicom.open(sorted(folder.glob("*.dcm")))
assert web.size == local.size
for place, level, size in (((100, 90), 0, (300, 200)), ((0, 0), 0, (640, 512)), ((10, 10), 1, (100, 100))):
    assert web.read_region(place, level, size).tobytes() == local.read_region(place, level, size).tobytes()
print("equal")

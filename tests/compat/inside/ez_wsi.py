"""EZ-WSI: patches through its own cache equal those through a cache of ours, which asks no more. ez_wsi.py BASE."""

from __future__ import annotations

import sys
from typing import Any

from ez_wsi_dicomweb import (  # type: ignore[import-not-found]
    credential_factory,
    dicom_slide,
    dicom_web_interface,
    local_dicom_slide_cache,
)
from ez_wsi_dicomweb.ml_toolkit import dicom_path  # type: ignore[import-not-found]

from listener.frames import FrameCache

base = sys.argv[1]
credentials = credential_factory.NoAuthCredentialsFactory()
interface = dicom_web_interface.DicomWebInterface(credentials)
path = dicom_path.FromString(f"{base}/studies/1.2.3/series/1.2.3.1")


def patches(cache: Any) -> list[bytes]:
    slide = dicom_slide.DicomSlide(interface, path)
    slide.slide_frame_cache = cache
    places = [(70, 50, 150, 130), (0, 0, 64, 64), (75, 55, 10, 10)]
    levels = sorted(slide.levels, key=lambda level: level.level_index)
    return [slide.get_patch(level, *place).image_bytes().tobytes() for level in levels for place in places]


theirs = local_dicom_slide_cache.InMemoryDicomSlideCache(credentials)
with FrameCache(dicomweb=base) as ours:
    assert patches(ours) == patches(theirs)
    assert ours.cache_stats.frame_cache_miss_count <= theirs.cache_stats.frame_cache_miss_count
    assert ours.cache_stats.number_of_dicom_instances_read <= theirs.cache_stats.number_of_dicom_instances_read
print("equal")

"""EZ-WSI's cache and ours under the same ten patterns of access, with both hints that return frames: each frame is
equal to the file's, and ours asks for no more, in requests and, but for heads of parts, in bytes.

ez_wsi_patterns.py BASE FILE [refused]; `refused`: the server gives no whole instances in the form that EZ-WSI wants.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

import urllib3
from ez_wsi_dicomweb import credential_factory, local_dicom_slide_cache  # type: ignore[import-not-found]
from ez_wsi_dicomweb.local_dicom_slide_cache_types import (  # type: ignore[import-not-found]
    CacheConfigOptimizationHint,
)
from ez_wsi_dicomweb.ml_toolkit import dicom_path  # type: ignore[import-not-found]
from pydicom import dcmread
from pydicom.encaps import generate_frames

from listener.frames import FrameCache

base, file = sys.argv[1:3]
refused = "refused" in sys.argv[3:]
COUNT, BLOCK = 80, 10

#: Bytes of a part's head at most, and of its boundary.
HEAD = 200

path = dicom_path.FromString(f"{base}/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4")
order = random.Random(17)
every = list(range(1, COUNT + 1))
PATTERNS: dict[str, tuple[Sequence[int], int]] = {
    "one frame": ([40], 1),
    "the same frame again and again": ([40] * 20, 1),
    "from the first to the last": (every, 1),
    "from the last to the first": (every[::-1], 1),
    "every tenth": (every[::10], 1),
    "a row, then the one below": ([*range(21, 31), *range(31, 41)], 1),
    "columns of a picture of ten a row": ([row * 10 + column for column in (1, 2) for row in range(8)], 1),
    "at random": ([order.choice(every) for _ in range(60)], 1),
    "around a place": ([max(1, min(COUNT, 40 + order.randint(-8, 8))) for _ in range(40)], 1),
    "a whole instance": (every, 10_000),
}


class Counted:
    """Counts what urllib3, which both use, asks for: requests, and bytes that sockets give for it (not all servers say
    the length of an answer).
    """

    def __init__(self) -> None:
        self.requests = self.bytes = 0
        self._lock = Lock()
        asks, gives = urllib3.HTTPConnectionPool.urlopen, socket.socket.recv_into

        def urlopen(pool: Any, *args: Any, **kwargs: Any) -> Any:
            self.add(1, 0)
            return asks(pool, *args, **kwargs)

        def recv_into(of: socket.socket, *args: Any, **kwargs: Any) -> int:
            size = gives(of, *args, **kwargs)
            self.add(0, size)
            return size

        urllib3.HTTPConnectionPool.urlopen = urlopen  # type: ignore[method-assign, assignment]
        socket.socket.recv_into = recv_into  # type: ignore[method-assign, assignment]

    def add(self, requests: int, size: int) -> None:
        with self._lock:
            self.requests += requests
            self.bytes += size


counted = Counted()


def asked(cache: Any, numbers: Sequence[int]) -> tuple[list[bytes], int, int]:
    """The frames, requests and bytes; each load has ended before the next frame is asked for."""
    requests, size, frames = counted.requests, counted.bytes, []
    for number in numbers:
        frames.append(cache.get_frame(path, COUNT, number))
        cache.block_until_frames_are_loaded()
    return frames, counted.requests - requests, counted.bytes - size


def settings(hint: str, whole: int) -> Iterator[tuple[str, Any]]:
    yield "number_of_frames_to_read", BLOCK
    yield "max_instance_number_of_frames_to_prefer_whole_instance_download", whole
    yield "optimization_hint", CacheConfigOptimizationHint[hint]


pictures = [*generate_frames(dcmread(file).PixelData, number_of_frames=COUNT)]
for hint in ("MINIMIZE_DICOM_STORE_QPM", "MINIMIZE_LATENCY"):
    for name, (numbers, whole) in PATTERNS.items():
        chosen = dict(settings(hint, whole))
        theirs = local_dicom_slide_cache.InMemoryDicomSlideCache(
            credential_factory.NoAuthCredentialsFactory(), **chosen
        )
        frames, requests, size = asked(theirs, numbers)
        with FrameCache(dicomweb=base, **chosen) as ours:
            found, of_ours, size_of_ours = asked(ours, numbers)
        print(hint, name, "theirs", requests, size, "ours", of_ours, size_of_ours)
        assert found == [pictures[number - 1] for number in numbers], (hint, name)
        assert of_ours <= requests, (hint, name, of_ours, requests)
        if refused and name == "a whole instance":
            # Theirs gets nothing, or each frame by a request of its own: what was refused has no size to compare with.
            assert all(frame in {None, picture} for frame, picture in zip(frames, found, strict=True)), hint
            continue
        assert found == frames, (hint, name)
        # Behind a frame that was fetched at once theirs loads the whole instance, with that frame, and ours the others:
        # of frames as small as these the heads of the parts weigh more than the frame.
        most = size + HEAD * (COUNT if name == "a whole instance" else 1)
        assert size_of_ours <= most, (hint, name, size_of_ours, size)
print("equal")

"""A sender that keeps a pace file by file, in one association: DCMTK's send as fast as they can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from listener.benchmark.verify import Unfinished
from listener.errors import PeerFault
from listener.network.association import Association, Peer
from listener.network.instance import Instance, wanted


def send(port: int, paths: Sequence[Path], rate: float) -> None:
    """Send files to the storescp on a port of this machine, `rate` of them a second. Raises Unfinished."""
    reads = wanted()
    with Instance(str(paths[0]), reads=reads) as first:
        pair = first.pair
    try:
        with Association(Peer("127.0.0.1", port, "STORESCP"), [pair]) as association:
            begun = time.monotonic()
            for number, path in enumerate(paths):
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                with Instance(str(path), reads=reads) as instance:
                    if association.store(instance).response.status:
                        raise Unfinished("storescp refused a file")
    except PeerFault as fault:
        raise Unfinished(f"storescp: {fault}") from None

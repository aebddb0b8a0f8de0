"""The process that parses DICOM for the stage serve: jobs as JSON lines on standard input, answers on standard output.

It ends when its input does, and so with its parent. `python -m listener.serve.worker [NICE]`.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from base64 import b64decode
from typing import Any

from listener.cpu import let_others_first
from listener.dicom.attributes import Limits
from listener.dicom.decoding import quiet
from listener.serve.describing import (
    FirstJob,
    SeriesJob,
    bulk_value,
    describe_first,
    describe_series,
    header_of,
    write_beside,
)
from listener.serve.faults import Refused
from listener.serve.reencoding import write_explicit


def answer(job: dict[str, Any]) -> Any:
    """Do a job, of which `kind` is series, first, bulk, explicit, render or decode, and return its answer: None where
    it cannot be written.
    """
    kind = job.pop("kind")
    if kind == "first":
        return describe_first(FirstJob(job["data"], tuple(job["paths"])))
    try:
        if kind in ("render", "decode"):
            return _picture(kind, job)
        if kind == "explicit":
            return write_explicit(job["path"], tuple(job["stamp"]), job["target"])
        if kind == "bulk":
            return bulk_value(job["path"], tuple(job["stamp"]), job["bulk"], job["target"])
        job["instances"] = tuple((uid, path) for uid, path in job["instances"])
        return describe_series(SeriesJob(**job, limits=Limits()))._asdict()
    except OSError:
        return None


def _picture(kind: str, job: dict[str, Any]) -> Any:
    """Write a picture or decoded frame; return "", or why there is none. Raises OSError where it cannot be written."""
    from listener.serve import rendering
    from listener.serve.picture import of_json

    with contextlib.suppress(OSError, ValueError):  # As above.
        resource.setrlimit(resource.RLIMIT_AS, (rendering.MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    header = header_of(job["path"], tuple(job["stamp"]))
    if header is None:
        return "changed"
    frame = rendering.Stored(header, job["number"], job["syntax"], b64decode(job["frame"]))
    try:
        with quiet():
            made = rendering.rendered(frame, of_json(job["picture"])) if kind == "render" else rendering.decoded(frame)
    except (rendering.CannotDecode, Refused) as fault:
        return str(fault)
    except MemoryError:
        return "the frame is too large"
    write_beside(job["target"], made)
    return ""


def main() -> None:
    """Answer jobs until standard input ends."""
    for number in (signal.SIGTERM, signal.SIGINT):  # It ends with its parent, which may be finishing its answers.
        signal.signal(number, signal.SIG_IGN)
    if len(sys.argv) > 1:
        let_others_first(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

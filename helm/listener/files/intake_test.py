"""What `helm test` does with the listener's image: count, make a synthetic instance, count again."""

# ruff: noqa: INP001 - a script of the chart's, no package

import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path

WORK = Path("/scratch")
SECONDS = 60.0

#: Pods are asked by their name, whatever names their certificates have; nothing secret is sent or read.
ANY_CERTIFICATE = ssl._create_unverified_context()  # noqa: S323, SLF001


def finished() -> float:
    """Files published or recognised as duplicates, over all shards."""
    found = 0.0
    for pod in os.environ["PODS"].split():
        with urllib.request.urlopen(f"{pod}/metrics", timeout=5, context=ANY_CERTIFICATE) as page:  # noqa: S310
            found += sum(float(line.rpartition(" ")[2]) for line in page.read().decode().splitlines() if counts(line))
    return found


def counts(line: str) -> bool:
    """Whether a line of /metrics is one of those."""
    return line.startswith("listener_files_processed_total") and ("published" in line or "duplicate" in line)


def before() -> str:
    """Make the instance, remember the count."""
    from listener.quickstart.synthetic import Look, make_series

    make_series(WORK / "instances", instances=1, look=Look(seed="helm-test"))
    (WORK / "count").write_text(str(finished()))
    return "one synthetic instance was made"


def after() -> str:
    """Wait until one more is finished than before."""
    counted = float((WORK / "count").read_text())
    end = time.monotonic() + SECONDS
    while finished() <= counted:
        if time.monotonic() > end:
            sys.exit(f"the instance that was sent is not counted after {SECONDS:.0f} s: look at /readyz of the pods")
        time.sleep(0.5)
    return "the instance came through the Service, was repacked and counted"


print({"before": before, "after": after}[os.environ["STEP"]]())

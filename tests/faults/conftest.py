"""What harnesses of faults share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.faults.networks import NETWORKS, Machines, machines_of


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    base = Path(mkdtemp(prefix="two-machines-"))  # A short path: it holds a socket.
    try:
        with machines_of(base, request.param) as found:
            yield found
    finally:
        shutil.rmtree(base, ignore_errors=True)

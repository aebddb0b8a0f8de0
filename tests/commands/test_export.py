"""The service of the export, as a process."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.export.collection import Collection
from tests.stages.processes import stage

pytestmark = pytest.mark.real


def test_intake_has_the_processors_first(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with closing(Collection(tmp_path)) as world:
        words = [f"--data={world.config.data}", f"--to={tmp_path / 'target'}", "--no-parquet", "--http=127.0.0.1:0"]
        with stage(Path(world.config.state), *words, module=("listener", "export")) as running:
            assert os.getpriority(os.PRIO_PROCESS, running.process.pid) == max(own, 5)

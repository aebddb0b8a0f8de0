"""`prune` beside a running service to which the same series is sent again: whatever a sender was told, it is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.accounting import misdescribed, read_tree
from tests.instances import write_instance
from tests.reloading import reloading
from tests.service_process import command, environment, make_places, settled
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

COUNT = 120


@pytest.mark.parametrize("changes", [{}, {"StudyTime": "235959"}], ids=["the same", "corrected"])
def test_a_series_that_is_sent_again_while_it_is_pruned(tmp_path: Path, changes: dict[str, str]) -> None:
    places = make_places(tmp_path)
    with reloading(places, "--rescan", "1", series_quiet="3600") as (running, change):
        for number in range(COUNT):
            write_instance(places.incoming / f"a{number}", number=number)
        settled(running, COUNT)
        change(series_quiet="0.5")
        until(lambda: len(running.events("series-complete")) == 1, 60, what=str(running))
        before = len(running.events("published"))
        words = ("prune", f"--data={places.data}", f"--log={places.log}", f"--state={places.state}")
        pruning = subprocess.Popen(
            command(*words, "--series=0", "--yes"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        images = next(places.log.glob("seriesData/*-img"))
        until(lambda: pruning.poll() is not None or len(list(images.iterdir())) < COUNT, 60)
        for number in range(COUNT):
            write_instance(places.incoming / f"b{number}", number=number, **changes)
        said, _ = pruning.communicate(timeout=300)
        assert pruning.returncode == 0, said

        def told() -> list[str]:
            again = [*running.events("published")[before:], *running.events("duplicate")]
            return [str(event["SOPInstanceUID"]) for event in again]

        until(lambda: len(told()) == COUNT, 60, what=str(running))
    tree = read_tree(places)
    assert sorted(told()) == sorted(one.SOPInstanceUID for one in tree.instances)
    assert tree.strange == []
    assert list(misdescribed(places, tree)) == []

"""Hundreds of SIGKILLs at random moments: nothing lost, nothing half, and everything goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.faults.crash import Traffic, harness
from tests.faults.traffic import association, inflow
from tests.service_process import make_places

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

#: What is killed how often, under which traffic: 200 kills for every CI run, 1,000 in `make soak`.
PLANS: dict[str, tuple[Traffic, dict[str, int]]] = {
    "the whole service": (inflow, {"all": 40}),
    "the parent alone": (inflow, {"parent": 20}),
    # Each instance once, and nothing bad: of two copies one may be `worker-lost` while the other is in the tree.
    "workers": (partial(inflow, again=False, bad=False), {"worker": 110}),
    "under storescp": (association, {"worker": 20, "all": 10}),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PLANS)
def test_killed_at_random(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    traffic, plan = PLANS[name]
    if traffic is association:
        request.getfixturevalue("dcmtk")
    print(harness(make_places(tmp_path), traffic, plan, seed=len(name)))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PLANS)
def test_killed_at_random_for_long(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """Five times as many, each file synced alone, so that most of the time is between two steps."""
    traffic, plan = PLANS[name]
    if traffic is association:
        request.getfixturevalue("dcmtk")
    more = {victim: 5 * count for victim, count in plan.items()}
    print(harness(make_places(tmp_path), traffic, more, seed=5, args=("--fsync", "each")))

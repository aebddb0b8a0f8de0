"""The dashboard's rows of route, asked of a real Prometheus that scrapes a real service at work."""

from __future__ import annotations

import itertools
import math
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import script
from tests.observing import rules
from tests.observing.dashboard import Target
from tests.observing.prometheus import Prometheus, prometheus
from tests.observing.scene import LABELS
from tests.observing.session import RATE_INTERVAL
from tests.route.machines import Ward, ward
from tests.service_process import Places
from tests.waiting import until

pytestmark = pytest.mark.real

QUERIES = [
    query
    for row in script("dashboard").ROWS
    if not row.stages or "route" in row.stages
    for panel in row.panels
    for query in panel.queries
]


def shows(server: Prometheus, here: Ward, numbers: itertools.count[int], expression: str) -> bool:
    """Whether a query has an answer, with another study on its way, so that there is something to count."""
    here.send(next(numbers), 0)
    series = server.query(Target(expression, "", instant=True).asked(RATE_INTERVAL))
    return any(math.isfinite(value) for _, points in series for _, value in points)


def test_every_query_of_the_rows_has_an_answer(places: Places, tmp_path: Path, prometheus_server: None) -> None:
    with ward(places, workers=2, destinations=1, quiet=1) as (here, _), here.route() as route:
        address = route.wait_for("started")[0]["http"]
        shipped = rules.PLAIN.read_text(encoding="utf-8")
        with prometheus(tmp_path / "prometheus", address, shipped, LABELS) as server:
            numbers = itertools.count()
            for query in QUERIES:
                asking = partial(shows, server, here, numbers, query.expression)
                until(asking, 20, what=f"{query.expression} has an answer")

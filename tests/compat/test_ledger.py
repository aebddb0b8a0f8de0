"""px-status and the ledger say the same of every series: how many came, how many were asked for, and whether that is
all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from listener.ledger.reader import reading
from tests.compat import corpus
from tests.compat.pypx import VERSIONS, Pypx
from tests.service_process import make_places, once, service, settled, until_value
from tests.waiting import until


@pytest.mark.parametrize("pypx", VERSIONS[:1], indirect=True)
def test_px_status_and_the_ledger_agree(pypx: Pypx, tmp_path: Path) -> None:
    places = make_places(tmp_path)
    places.incoming.rmdir()
    made = corpus.make(places.incoming)
    series = made.series()
    # Of one series all that was asked for comes, of another less; of the rest nobody said.
    ((_, whole), number), ((_, short), fewer) = series.most_common()[:2]
    for uid, promised in ((whole, number), (short, fewer + 2)):
        path = places.log / "seriesData" / f"{uid}-retrieve.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"NumberOfSeriesRelatedInstances": str(promised)}), encoding="utf-8")
    done = once(places, "--layout", "px311" if pypx.version.startswith("3.11") else "px")
    assert done.status in (0, 1), done.stderr
    with service(places, "--series-quiet", "1", "--series-timeout", "2") as running:
        settled(running, 0)
        until(lambda: len(running.events("series-complete")) >= len(series) - 1, 30)
        until_value(running, 0, "series", state="open")
    with reading(str(places.state)) as reader:
        for (study, uid), count in series.most_common(3):
            row = reader.series(uid)
            assert row
            told = pypx.status(places.log, study, uid)
            images = told["images"]
            assert row.instances == images["packed"]["count"] == count
            assert (row.expected or -1) == images["requested"]["count"]
            in_flight = told["state"]["images"] == "ImagesInFlight"
            assert (row.state == "incomplete") == in_flight
            assert row.StudyInstanceUID == study

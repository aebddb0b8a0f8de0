"""The ledger of the real service: real storescp, real files, real kills."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from listener.ledger.reading import reading
from tests.instances import uid, write_instance
from tests.service_process import make_places, service, settled, until_value, value

pytestmark = pytest.mark.real


def test_the_service_tells_of_a_series_that_is_complete(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    series = str(uid("series", 0, 0, 0))
    promise = places.log / "seriesData" / f"{series}-retrieve.json"
    promise.parent.mkdir(parents=True)
    promise.write_bytes(orjson.dumps({"NumberOfSeriesRelatedInstances": "2"}))
    with service(places, "--series-quiet", "1") as running:
        for number in (1, 2):
            write_instance(places.incoming / f"a{number}", number=number)
        write_instance(places.incoming / "b1", series=1, number=1)
        settled(running, 3)
        told = {one["SeriesInstanceUID"]: one for one in running.wait_for("series-complete", 2)}
        assert (told[series]["result"], told[series]["instances"], told[series]["expected"]) == ("expected", 2, 2)
        other = told[str(uid("series", 0, 0, 1))]
        assert (other["result"], other["instances"], other["generation"]) == ("quiet", 1, 1)
        scrape = running.scrape()
        assert value(scrape, "series_completed_total", result="expected") == 1
        assert value(scrape, "series_completed_total", result="quiet") == 1
        until_value(running, 2, "series", state="complete")
        assert value(running.scrape(), "ledger_ok") == 1
    with reading(str(places.state)) as reader:
        assert {row.SeriesInstanceUID: row.result for row in reader.ended()} == {series: "expected", told and other["SeriesInstanceUID"]: "quiet"}

"""`listener route` with real parts: workers, a listener, and files that come."""

from __future__ import annotations

import contextlib
import signal
import subprocess

import pytest

from listener.ledger.connection import open_reader, path_of
from tests.route.machines import scrape, ward
from tests.service_process import Places, listener, value
from tests.waiting import until

pytestmark = pytest.mark.real


def deliveries(places: Places) -> dict[str, int]:
    """Deliveries of the ledger to route, by state."""
    with contextlib.closing(open_reader(path_of(str(places.state)))) as ledger:
        return dict(ledger.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())


def test_each_study_is_whole_at_one_worker_and_copied_and_settled(places: Places, promtool: str) -> None:
    with ward(places, destinations=1, quiet=3600) as (here, _), here.route() as route:
        studies = [here.send(number, *range(3)) for number in range(4)]
        for number in range(4):
            here.send(number, 3, 4)
        found = [here.whole_at_one(study, 5) for study in studies]
        assert sorted(found) == ["gpu1", "gpu1", "gpu2", "gpu2"]
        until(lambda: len(here.destinations["dest1"].instances()) == 20, 20)
        here.quiet(0.2)
        until(lambda: deliveries(places) == {"delivered": 4}, 20)
        delivered = route.wait_for("delivered", 40)
        assert len({(event["SOPInstanceUID"], event["target"]) for event in delivered}) == 40, "each once"
        one = next(
            event for event in delivered if event["target"] == found[0] and event["StudyInstanceUID"] == studies[0]
        )
        assert (one["route"], one["status"], one["round"]) == ("all", "0000", 1)
        assert one["hop"] > 0
        text = route.get("/metrics")[1]
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        until(lambda: value(scrape(route), "route_live_studies") == 0, 10)
        page = scrape(route)
        assert value(page, "route_sends_total", target="dest1", outcome="delivered") == 20
        assert value(page, "route_hop_seconds_count") == 40
        assert value(page, "route_pending_instances") == 0


def test_what_nobody_wants_is_unclaimed_until_a_later_file_has_a_route(places: Places) -> None:
    with ward(places, workers=1) as (here, _):
        here.write('[routes.some]\nsender = ["STO_*"]\nworkers = ["gpu1"]\n')
        with here.route() as route:
            study = here.send(1, 0, 1)
            wanted = here.send(2, 0, sender="STO_1")
            here.whole_at_one(wanted, 1)
            (event,) = route.wait_for("unclaimed")
            assert (event["sender"], event["root"], event["StudyInstanceUID"]) == ("SCANNER", "incoming", study)
            until(lambda: value(scrape(route), "route_unclaimed_instances") == 2, 10)
            here.write('[routes.some]\nsender = ["STO_*"]\nworkers = ["gpu1"]\n[routes.\nbroken')
            assert "not TOML" in route.wait_for("reload-refused")[0]["problems"][0]
            until(lambda: value(scrape(route), "route_config_ok") == 0, 10)
            here.write('[routes.some]\nsender = ["STO_*", "SCANNER"]\nworkers = ["gpu1"]\n')
            here.whole_at_one(study, 2)
            until(lambda: value(scrape(route), "route_unclaimed_instances") == 0, 10)
            route.process.send_signal(signal.SIGHUP)
            route.wait_for("reloaded", 2)


def test_a_series_is_judged_once_by_what_its_file_says(places: Places) -> None:
    with ward(places, workers=2) as (here, _):
        here.write(
            '[routes.mr]\nsender = ["*"]\nonly = { Modality = ["MR"] }\nworkers = ["gpu1"]\n'
            '[routes.ct]\nsender = ["*"]\nonly = { Modality = ["CT"] }\nworkers = ["gpu2"]\n'
        )
        with here.route():
            study = here.send(1, 0, 1)
            assert here.whole_at_one(study, 2) == "gpu1"


def test_what_was_open_at_the_first_start_is_sent_whole_and_what_had_ended_is_not(places: Places) -> None:
    with ward(places, workers=1, quiet=0.5) as (here, listening):
        ended = here.send(1, 0, 1)
        listening.wait_for("series-complete")
        here.quiet(3600)
        study = here.send(2, 0, 1)
        listening.wait_for("published", 4)
        with here.route():
            here.send(2, 2)
            here.whole_at_one(study, 3)
            here.quiet(0.5)
            until(lambda: deliveries(places) == {"delivered": 1}, 20)
            late = here.send(1, 2)
            here.whole_at_one(late, 1)
            assert late == ended


def test_a_restart_goes_on_where_it_was_and_a_duplicate_is_sent_again_once(places: Places) -> None:
    with ward(places) as (here, listening):
        with here.route():
            study = here.send(1, 0, 1)
            name = here.whole_at_one(study, 2)
        here.send(1, 2)
        listening.wait_for("published", 3)
        with here.route() as route:
            assert here.whole_at_one(study, 3) == name
            here.send(1, 0)
            listening.wait_for("duplicate")
            until(lambda: [event["round"] for event in route.events("delivered")] == [1, 2], 10)


def test_a_dead_letter_fails_the_delivery_until_it_is_sent_again(places: Places) -> None:
    with ward(places, workers=1, start=False) as (here, listening), here.route() as route:
        study = here.send(1, 0, 1)
        listening.wait_for("published", 2)
        until(lambda: here.sends() == {"pending": 2}, 10)
        path = min(places.data.rglob("*.dcm"))
        path.write_bytes(path.read_bytes())  # Another file from now on, by its time.
        here.workers["gpu1"].start()
        until(lambda: deliveries(places) == {"failed": 1}, 30, what=str(route))
        (refused,) = route.events("refused")
        assert refused["dead"]
        assert here.holders(study) == {"gpu1": 1}
        assert value(scrape(route), "route_dead_letters", target="gpu1") == 1
        retried = listener("route", "retry", "--state", str(places.state), "--data", str(places.data))
        assert retried.status == 0, retried.stderr
        here.whole_at_one(study, 2)
        until(lambda: deliveries(places) == {"delivered": 1}, 20)

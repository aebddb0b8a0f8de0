"""What people do beside the service: check, again, and looking at what it shows."""

from __future__ import annotations

import json
import urllib.request

import pytest

from listener.cli import main
from tests.dicomnet import free_port
from tests.instances import write_instance
from tests.notify.servers import messages, nats_server, redis_server, subscriber
from tests.notify.stage import (
    CANARY,
    CHRIS,
    bring,
    errors,
    flags,
    following,
    follows,
    make_ledger,
    notify,
    pending,
    said,
    series_uid,
    standing,
    write,
)
from tests.service_process import Places, once, service
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Values of a patient, which CUBE alone may read.
PATIENT = {"PatientName": CANARY, "PatientID": "CANARY-7", "AccessionNumber": "CANARY-8", "PatientSex": "CANARY-9"}


def test_what_was_given_up_is_told_again_when_it_was_mended(places: Places) -> None:
    make_ledger(places)
    with redis_server() as (url, _):
        assert notify(places, "once", "--celery", url).status == 0
        bring(places, 1, 1)
        (path,) = places.data.rglob("*.dcm")
        whole = path.read_bytes()
        path.write_bytes(b"no DICOM")
        bring(places, 2, 1)
        assert notify(places, "once", "--celery", url).status == 1
        assert set(errors(places, "notify-cube")) == {series_uid(1)}
        path.write_bytes(whole)
        again = ("notify", "again", "--failed", "--state", str(places.state))
        assert "1 series would be told again" in said(*again, "--dry-run")
        assert "1 series is told again" in said(*again)
        assert notify(places, "once", "--celery", url).status == 0
        assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(url)] == [series_uid(2), series_uid(1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one of the three"),
        (("1.2.3", "--failed"), "give one of the three"),
        (("--failed", "--since", "1d"), "give one of the three"),
        (("1.2.3",), "1.2.3"),
        (("1." + "2" * 59 + "/..",), "2/.."),
    ],
)
def test_again_says_what_it_cannot_do(
    places: Places, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ledger(places)
    with redis_server() as (url, _):
        assert notify(places, "once", "--celery", url).status == 0
    assert main(["notify", "again", *words, "--state", str(places.state)]) in (1, 2)
    assert said in capsys.readouterr().err


def test_check_says_what_does_not_fit(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = places.base / "elsewhere"
    elsewhere.mkdir()
    write(places, 1, 1)
    assert once(places, "--series-quiet", "0.1", "--workers", "1").status == 0
    once(places, "--series-quiet", "0.1", "--workers", "1")
    with redis_server() as (url, _):
        assert "give listener run --layout oxidicom" in said("notify", "check", *flags(places, "--celery", url))
        words = ["--state", str(places.state), "--data", str(elsewhere), "--celery", url]
        assert main(["notify", "check", *words]) == 2
        assert "is not the ledger's" in capsys.readouterr().err
        assert main(["notify", "check", *flags(places, "--celery", f"redis://127.0.0.1:{free_port()}")]) == 1
        assert "error: redis://127.0.0.1" in capsys.readouterr().out


def test_no_patient_is_in_what_it_shows(places: Places) -> None:
    """Metrics, health, status, page and API, of a series that is told, adjusted, set aside and given up."""
    make_ledger(places)
    own = f"127.0.0.1:{free_port()}"
    with (
        redis_server() as (url, _),
        nats_server() as (nats, _),
        subscriber(nats) as ear,
        service(places, *CHRIS) as intake,
        following(places, "--celery", url, "--nats", nats, http=own) as stage,
    ):
        follows(places, "notify-nats", "notify-cube")
        write(places, 1, 1, **PATIENT)
        write(places, 2, 1, **PATIENT, StudyDate="")
        whole = write_instance(places.base / "whole", series=3, sender="MY PACS", **PATIENT).read_bytes()
        (places.incoming / "cut").write_bytes(whole[:-10])
        until(lambda: errors(places, "notify-cube") and messages(url) and pending(places) == 1, 60)
        until(lambda: ("done",) in ear.of(series_uid(1)) and ear.of(series_uid(3)), 20)
        shown = [
            _page(f"http://{address}{path}")
            for address, paths in (
                (own, ("/metrics", "/healthz")),
                (intake.address, ("/metrics", "/", "/api/v1/status")),
            )
            for path in paths
        ]
        shown += [json.dumps(standing(places)), said("status", "--state", str(places.state)), str(ear.told)]
        (message,) = messages(url)
        stage.stop()
    assert message["kwargs"]["PatientName"] == CANARY, "CUBE gets it"
    for text in (*shown, stage.stdout.decode(), stage.stderr):
        assert "Canary" not in text
        assert "CANARY" not in text


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())

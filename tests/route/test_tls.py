"""Workers behind TLS, with real certificates."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.certificates import Pair, authority
from tests.route.machines import ward
from tests.service_process import Places

pytestmark = pytest.mark.real


def with_tls(pair: Pair) -> tuple[str, ...]:
    """What storescp is started with."""
    return ("+tls", str(pair.key), str(pair.cert), "-ic")


def put(source: Path, target: Path) -> None:
    """Put a certificate in its place, as programs that renew them do."""
    shutil.copyfile(source, beside := target.with_suffix(".new"))
    os.replace(beside, target)


def test_a_wrong_and_an_expired_certificate_get_nothing_and_a_new_one_is_taken_up(
    places: Places, tmp_path: Path
) -> None:
    """Nobody says that a certificate changed: neither by a signal, nor in the routes file."""
    ours, foreign, trusted = authority(tmp_path, "ours"), authority(tmp_path, "foreign"), tmp_path / "trusted.pem"
    right, expired = ours.issue("right"), ours.issue("expired", days=-1)
    put(foreign.cert, trusted)
    with ward(places, workers=1, start=False) as (here, _):
        worker = here.workers["gpu1"]
        worker.start(*with_tls(right))
        here.write(gpu1=f'tls = {{ ca = "{trusted}" }}')
        with here.route("--down-after", "1") as route:
            study = here.send(1, 0)
            assert route.wait_for("down")[0]["cause"] == "tls"
            assert not worker.instances()
            put(ours.cert, trusted)
            route.wait_for("reloaded")
            here.whole_at_one(study, 1, 30)
            worker.kill()
            worker.start(*with_tls(expired))
            here.send(1, 1)
            down = route.wait_for("down", 2)[1]
            assert (down["cause"], "expired" in down["detail"]) == ("tls", True)
            assert len(worker.instances()) == 1
            worker.kill()
            worker.start(*with_tls(right))
            here.whole_at_one(study, 2, 40)

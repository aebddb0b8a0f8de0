"""The benchmark of the export: every way is measured beside obstore alone, and nothing is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from listener.benchmark import exporting
from tests.service_process import listener

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]


def test_exporting_is_measured_beside_obstore_alone(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    if shutil.which("versitygw") is None:
        pytest.skip("versitygw is not there (.ci/need versitygw)")
    words = ["--repeat=1", f"--dir={tmp_path}", "--files=30", "--size=4KiB", "--only=export", "--json"]
    done = listener("bench", *words, seconds=500)
    assert done.status == 0, done.stderr
    (group,) = orjson.loads(done.stdout)["groups"]
    rows = {one["program"]: one for one in group["figures"]}
    assert list(rows)[:6] == ["obstore alone", *exporting.WAYS, exporting.OF_ARCHIVES]
    assert rows["obstore alone"]["ratio"] == 1
    for row in rows.values():
        assert row["files"] == 30
        assert row["mb_a_second"] > 0
        assert row["cpu_us"] > 0
    assert list(tmp_path.iterdir()) == []

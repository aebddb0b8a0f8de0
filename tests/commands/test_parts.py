"""`listener parts`: for people, for programs, and its status."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.backfill import metric_rows
from tests.instances import write_instance
from tests.service_process import make_places, parse_page, value

pytestmark = pytest.mark.real


def test_it_tells_what_is_missing_until_nothing_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = make_places(tmp_path)
    state = ["--state", str(places.state)]
    assert cli.main(["parts", *state]) == 1
    assert "no part was begun" in capfd.readouterr().out
    for number in range(4):
        (places.incoming / str(number)).mkdir()
        write_instance(places.incoming / f"{number}/x", number=number + 1)
    words = [
        "once",
        *places.flags(),
        "--min-free=0",
        "--fsync=none",
        "--workers=1",
        "--events=off",
        "--priority=normal",
    ]
    assert cli.main([*words, "--part", "1/2"]) == 0
    capfd.readouterr()
    assert cli.main(["parts", *state]) == 1
    assert "never begun: 0-of-2\n" in capfd.readouterr().out
    assert cli.main([*words, "--part", "0/2"]) == 0
    capfd.readouterr()
    assert cli.main(["parts", *state, "--watch", "--textfile", str(tmp_path / "x.prom")]) == 0
    shown = parse_page((tmp_path / "x.prom").read_text())
    assert (value(shown, "backfill_parts", state="ended"), value(shown, "backfill_files")) == (2, 4)
    assert {name for name, _ in shown} == {row.full_name for row in metric_rows.ROWS}
    text = capfd.readouterr().out
    assert text.startswith("2 parts: 2 ended\n4 files listed, 100 % done: 4 published\n")
    assert cli.main(["parts", *state, "--json", "lists/list-0000"]) == 1
    found = orjson.loads(capfd.readouterr().out)
    assert (found["published"], found["missing"]) == (4, ["list-0000"])
    assert [one["part"] for one in found["parts"]] == ["0-of-2", "1-of-2"]

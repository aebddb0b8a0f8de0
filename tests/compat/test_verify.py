"""`listener verify` over what the real px-repack wrote: no alarm, and what is repaired px-status still reads."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.verification import verify
from tests.compat import corpus
from tests.compat.pypx import Pypx
from tests.workbench import contents


def test_a_tree_and_log_directory_that_px_repack_left(
    pypx: Pypx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(verify, "SETTLE", 0)
    made = corpus.make(tmp_path / "incoming")
    data, log = tmp_path / "data", tmp_path / "log"
    pypx.repack(made.folder, data, log)
    before = contents(log)

    def verified(*arguments: str) -> tuple[int, list[str]]:
        layout = "px311" if pypx.version.startswith("3.11") else "px"
        where = [f"--data={data}", f"--log={log}", f"--state={tmp_path / 'state'}", f"--layout={layout}"]
        status = cli.main(["verify", "--json", *where, *arguments])
        lines = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
        return status, [line["difference"] for line in lines]

    assert verified() == (0, [])
    assert verified("--deep") == (0, [])
    assert verified("--repair") == (0, [])
    assert contents(log) == before
    data = data.rename(tmp_path / "moved")
    series = {series for _, series in made.series()}
    assert verified() == (1, ["moved"] * len(series))
    assert verified("--repair") == (0, ["moved"] * len(series))
    assert verified("--deep") == (0, [])
    for (study, one), number in made.series().items():
        assert pypx.counts(log, study, one)["packed"] == number
        assert Path(pypx.smdb(log, "imageDirsSeriesInstanceUID", one)[one]).is_relative_to(data)

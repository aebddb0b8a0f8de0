"""`listener verify` over what the real px-repack wrote: no alarm, and what is repaired px-status still reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.verification import verify
from tests.compat import corpus
from tests.compat.pypx import Pypx
from tests.instances import instance, save, uid
from tests.workbench import contents

STUDY, SERIES = str(uid("study", 9, 9)), str(uid("series", 9, 9))

#: What several instances share, who tells them apart by nothing else.
SHARED: dict[str, list[dict[str, Any]]] = {
    "two patients in one study": [{"patient": patient, "StudyInstanceUID": STUDY} for patient in (0, 1)],
    "two patients in one series": [
        {"patient": patient, "StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES} for patient in (0, 1)
    ],
    "two studies in one series": [{"study": study, "SeriesInstanceUID": SERIES} for study in (0, 1)],
    "one patient with two names": [{"study": 0}, {"study": 1, "PatientName": "Other^Name"}],
}


def verified(
    pypx: Pypx, data: Path, capsysbinary: pytest.CaptureFixture[bytes], *arguments: str
) -> tuple[int, list[str]]:
    """Status and words of `verify` over a tree and the log directory beside it."""
    layout = "px311" if pypx.version.startswith("3.11") else "px"
    beside = [f"--{name}={data.parent / name}" for name in ("log", "state")]
    where = [f"--data={data}", *beside, f"--layout={layout}"]
    status = cli.main(["verify", "--json", *where, *arguments])
    return status, [orjson.loads(line)["difference"] for line in capsysbinary.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", SHARED)
def test_identifiers_that_several_share_are_no_difference(
    name: str, pypx: Pypx, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for number, arguments in enumerate([*SHARED[name], {"patient": 2}]):
        save(instance(**arguments), incoming / f"MR.{number}")
    pypx.repack(incoming, tmp_path / "data", tmp_path / "log")
    before = contents(tmp_path / "log")
    for more in ((), ("--deep",), ("--repair",)):
        assert verified(pypx, tmp_path / "data", capsysbinary, *more) == (0, [])
    assert contents(tmp_path / "log") == before


def test_a_tree_and_log_directory_that_px_repack_left(
    pypx: Pypx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(verify, "SETTLE", 0)
    made = corpus.make(tmp_path / "incoming")
    data, log = tmp_path / "data", tmp_path / "log"

    def run(tree: Path, *arguments: str) -> tuple[int, list[str]]:
        return verified(pypx, tree, capsysbinary, *arguments)

    pypx.repack(made.folder, data, log)
    before = contents(log)
    assert run(data) == (0, [])
    assert run(data, "--deep") == (0, [])
    assert run(data, "--repair") == (0, [])
    assert contents(log) == before
    data = data.rename(tmp_path / "moved")
    series = {series for _, series in made.series()}
    assert run(data) == (1, ["moved"] * len(series))
    assert run(data, "--repair") == (0, ["moved"] * len(series))
    assert run(data, "--deep") == (0, [])
    for (study, one), number in made.series().items():
        assert pypx.counts(log, study, one)["packed"] == number
    for one in dict(made.series().keys()).values():  # One of each study.
        assert Path(pypx.smdb(log, "imageDirsSeriesInstanceUID", one)[one]).is_relative_to(data)

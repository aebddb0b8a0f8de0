"""A series as it lies in the tree: what CUBE would count, and what cannot be told at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.errors import Postponed
from listener.ledger.rows import SeriesRow
from listener.notify.registration import Refused, Registration
from listener.notify.series import registration_of
from tests.instances import write_instance

FOLDER = "SERVICES/PACS/MY_PACS/1-x/y/00005-z"
_TEXTS = ("P1", "", "MR", "MY PACS", "/in", "complete", "complete")
ROW = SeriesRow(1, "1.2.3", "1.2", *_TEXTS, *(1, 2, 100, 0), "", *(0, 1, 2, 3, 0), folder=FOLDER)


def tree(data: Path, count: int, folder: str = FOLDER) -> list[str]:
    """So many instances in a folder; their paths below `data`."""
    paths = [f"{folder}/{number}.dcm" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(data / path, number=number)
    return paths


def told(data: Path, paths: list[str], attempt: int = 1) -> Registration:
    return registration_of(ROW, paths, str(data), attempt)


def test_the_folder_and_its_name_of_the_pacs(tmp_path: Path) -> None:
    arguments = told(tmp_path, tree(tmp_path, 2)).arguments
    assert (arguments["path"], arguments["pacs_name"], arguments["ndicom"]) == (FOLDER, "MY_PACS", 2)


def test_only_while_the_folder_holds_just_as_many(tmp_path: Path) -> None:
    paths = tree(tmp_path, 2)
    (tmp_path / FOLDER / "below").mkdir()
    extra = tmp_path / FOLDER / "below" / "more.dcm"
    extra.write_bytes(b"")
    with pytest.raises(Postponed) as caught:
        told(tmp_path, paths)
    assert caught.value.seconds == 1
    assert "3 files, and the ledger has 2" in caught.value.detail
    with pytest.raises(Postponed) as caught:
        told(tmp_path, paths, attempt=10_000)
    assert caught.value.seconds > 60
    extra.unlink()
    (tmp_path / FOLDER / "notes.txt").write_bytes(b"")
    assert told(tmp_path, paths).arguments["ndicom"] == 2


def test_a_folder_that_is_gone_waits(tmp_path: Path) -> None:
    with pytest.raises(Postponed) as caught:
        told(tmp_path, [f"{FOLDER}/1.dcm"])
    assert "holds 0 files" in caught.value.detail


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ([], "gone"),
        ([f"{FOLDER}/1.dcm", "SERVICES/PACS/MY_PACS/1-x/y/other/2.dcm"], "scattered"),
        (["1-x/y/z/1.dcm"], "not-oxidicom-layout"),
    ],
)
def test_what_can_never_be_told_fails_by_name(tmp_path: Path, paths: list[str], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        told(tmp_path, paths)
    assert caught.value.reason == reason


def test_a_title_that_cube_cannot_store_fails_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        told(tmp_path, tree(tmp_path, 1, f"SERVICES/PACS/{'A' * 21}/x/y/z"))
    assert caught.value.reason == "pacs-name"


def test_a_header_that_cannot_be_read_fails_by_name(tmp_path: Path) -> None:
    paths = tree(tmp_path, 1)
    (tmp_path / paths[0]).write_bytes(b"no DICOM")
    with pytest.raises(Refused) as caught:
        told(tmp_path, paths)
    assert caught.value.reason == "not-readable"

"""`listener deidentify` on a real ledger: what is handed over, what is held, and that it names nobody."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from listener import cli
from listener.deidentify import units
from listener.deidentify.options import DeidentifyOptions
from listener.deidentify.replacing import Subject
from listener.deidentify.service import method_of
from listener.deidentify.vault import Vault
from listener.deidentify.work import Ahead, Cleaned, Cleaner, Identity, Order, Refusal
from listener.ledger.reader import reading
from tests.deidentify import planting
from tests.deidentify.collection import Collection


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_a_series_is_handed_over_whole_and_clean(collection: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1, 2, 3)
    collection.end()
    assert collection.deidentify("once") == 0
    (folder,) = collection.handed()
    assert folder.name.startswith("B")
    made = collection.datasets()
    assert len(made) == 3
    assert {str(one.PatientID) for one in made} == {str(one.PatientName) for one in made}
    assert len({one.SeriesInstanceUID for one in made}) == 1
    for path in collection.files():
        assert planting.found_in(path.read_bytes()) == []
        assert path.name == f"{collection.datasets()[collection.files().index(path)].SOPInstanceUID}.dcm"
    told = capfd.readouterr()
    assert planting.found_in((told.out + told.err).encode()) == []
    assert '"event":"deidentified"' in told.out
    assert collection.consumer().failed == 0
    assert collection.consumer().pending == 0


def test_what_is_clean_becomes_a_collection(collection: Collection, tmp_path: Path) -> None:
    collection.add(0, 1, 2)
    collection.end()
    collection.deidentify("once")
    base = tmp_path / "clean"
    given = [f"--{name}={base / name}" for name in ("data", "log", "state")]
    assert cli.main(["once", f"--batches={collection.into}", "--batch-source=remove", "--batch-quiet=0", *given]) == 0
    published = [path for path in (base / "data").rglob("*") if path.is_file()]
    assert len(published) == 2
    assert collection.handed() == []
    for path in [path for path in base.rglob("*") if path.is_file()]:
        assert planting.found_in(path.read_bytes()) == []
        assert planting.found_in(os.fsencode(path.name)) == []


def test_series_of_a_patient_have_one_pseudonym_and_the_same_bytes_again(collection: Collection) -> None:
    collection.add(0, 1)
    collection.add(1, 1)
    collection.end()
    collection.deidentify("once")
    assert len({one.PatientID for one in collection.datasets()}) == 1
    before = {path.name: path.read_bytes() for path in collection.files()}
    for folder in collection.handed():
        shutil.rmtree(folder)
    with closing(sqlite3.connect(Path(collection.config.state, "deidentify/deidentify.sqlite"))) as vault:
        vault.execute("DELETE FROM units")
        vault.commit()
    for series in (0, 1):
        words = ["redeliver", "deidentify", collection.uid(series), "--yes"]
        assert cli.main(["hooks", *words, "--state", collection.config.state]) == 0
    collection.deidentify("once")
    assert {path.name: path.read_bytes() for path in collection.files()} == before


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
        ({"Modality": "US"}, "burned-in"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "burned-in"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "content"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "content"),
    ],
)
def test_an_instance_is_held_and_the_rest_goes(
    collection: Collection, overrides: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    collection.add(0, 1, **overrides)
    collection.add(0, 2)
    collection.end()
    assert collection.deidentify("once") == 1
    assert len(collection.files()) == 1
    assert collection.consumer().failed == 1
    capsys.readouterr()
    assert collection.deidentify("held", "--json") == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["reason"] == reason
    assert planting.found_in(json.dumps(row).encode()) == []


def test_what_is_held_is_released_as_another_unit(collection: Collection) -> None:
    collection.add(0, 1, BurnedInAnnotation="YES")
    collection.add(0, 2)
    collection.end()
    collection.deidentify("once")
    assert collection.deidentify("held", "--release", "--reason", "burned-in") == 0
    assert collection.deidentify("once") == 0
    assert [len(list(folder.iterdir())) for folder in collection.handed()] in ([1, 2], [2, 1])
    codes = [one.DeidentificationMethodCodeSequence for one in collection.datasets()]
    assert any([code.CodeValue for code in one] == [] for one in codes)
    with closing(Vault(collection.config.state, writes=False)) as vault:
        (row,) = vault.held(released=True)
    assert row.released_by


def test_releasing_nothing_is_told(collection: Collection) -> None:
    assert collection.deidentify("held", "--release", "1.2.3") == 1
    assert collection.deidentify("held", "--release") == 2


def test_an_original_in_a_kept_text_holds_the_unit(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1)
    collection.add(0, 2, BodyPartExamined=planting.PLANT.upper())
    collection.end()
    assert collection.deidentify("once") == 1
    assert collection.handed() == []
    collection.deidentify("held")
    out = capsys.readouterr().out
    assert "residual" in out
    assert "(0018,0015)" in out
    assert planting.found_in(out.encode()) == []


def test_a_study_of_two_patients_is_held(collection: Collection) -> None:
    collection.add(0, 1)
    collection.end()
    collection.deidentify("once")
    collection.add(1, 1, PatientID="another")
    collection.end()
    assert collection.deidentify("once") == 1
    with closing(Vault(collection.config.state, writes=False)) as vault:
        assert [row.reason for row in vault.held()] == ["patient-conflict"]
    assert len(collection.handed()) == 1


def test_a_file_that_is_not_understood_is_held(collection: Collection) -> None:
    (path,) = collection.add(0, 1)
    path.write_bytes(path.read_bytes()[:-30])
    collection.end()
    assert collection.deidentify("once") == 1
    with closing(Vault(collection.config.state, writes=False)) as vault:
        assert [row.reason for row in vault.held()] == ["not-understood"]


def test_another_key_is_refused(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    assert collection.deidentify("once") == 0
    collection.key.unlink()
    assert cli.main(["deidentify", "new-key", str(collection.key)]) == 0
    assert collection.deidentify("once") == 2
    assert "another key" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["part", "named"])
def test_a_unit_that_was_ready_when_it_was_killed_is_in_once(
    collection: Collection, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.add(0, 1, 2)
    collection.end()
    real = units.Units._hand_over

    def killed(self: units.Units, key: object, name: str) -> None:
        if state == "named":
            os.rename(collection.into / f"{name}.part", collection.into / name)
        raise KeyboardInterrupt

    monkeypatch.setattr(units.Units, "_hand_over", killed)
    maker = Maker(collection)
    with pytest.raises(KeyboardInterrupt):
        maker.process()
    monkeypatch.setattr(units.Units, "_hand_over", real)
    if state == "named":
        shutil.rmtree(collection.handed()[0])  # B has taken it.
    maker.process()
    assert len(collection.handed()) == (1 if state == "part" else 0)
    maker.process()
    assert len(collection.handed()) == (1 if state == "part" else 0)
    maker.vault.close()


Answers = Callable[[Identity | Ahead], Subject | Refusal | None]


class Maker:
    """Cleans series 0 of a collection in this process."""

    def __init__(self, collection: Collection) -> None:
        self._method = method_of(DeidentifyOptions(key_file=str(collection.key)))
        self.vault = Vault(collection.config.state)
        self._units = units.Units(collection.config.data, str(collection.into), self._method, self.vault)
        self._collection = collection

    def process(self) -> None:
        uid = self._collection.uid(0)
        with reading(self._collection.config.state) as reader:
            series = reader.series(uid)
            assert series
            part = units.Part(series, 1, False, reader.instances_of(series))
        self._units.process(units.Task([part]), uid, self._do, lambda: None)

    def _do(self, order: Order, answer: Answers, go_on: Callable[[], None]) -> Cleaned:
        return Cleaner(self._method)(order, SimpleNamespace(ask=answer, go_on=go_on))


def test_evidence_counts_and_names_nobody(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1, BurnedInAnnotation="YES")
    collection.add(0, 2, 3)
    collection.end()
    collection.deidentify("once")
    capsys.readouterr()
    assert collection.deidentify("evidence") == 0
    text = capsys.readouterr().out
    assert collection.deidentify("evidence", "--json", "--option", "clean-graphics") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["units"], told["passed"], told["held"]) == (1, 2, {"burned-in": 1})
    assert told["options"] == ["clean-graphics"]
    names = {row["keyword"]: row["count"] for row in told["attributes"] if row["action"] == "pseudonym"}
    assert names["PatientName"] >= 2
    assert planting.found_in((text + json.dumps(told)).encode()) == []
    assert all(str(one.PatientID) not in text and one.StudyInstanceUID not in text for one in collection.datasets())
    assert collection.deidentify("evidence", "--since", "0d", "--json") == 0
    assert json.loads(capsys.readouterr().out)["units"] == 0
    assert collection.deidentify("evidence", "--since", "some day") == 2


def test_what_was_held_and_is_replaced_by_what_passes_is_held_no_more(collection: Collection) -> None:
    (path,) = collection.add(0, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    collection.end()
    collection.deidentify("once")
    path.write_bytes(whole)
    words = ["redeliver", "deidentify", "--failed", "--yes", "--state", collection.config.state]
    assert cli.main(["hooks", *words]) == 0
    assert collection.deidentify("once") == 0
    with closing(Vault(collection.config.state, writes=False)) as vault:
        assert vault.held() == []


def test_a_study_of_two_patients_that_is_released_has_two_pseudonyms(collection: Collection) -> None:
    collection.add(0, 1)
    collection.add(0, 2, PatientID="another")
    collection.end()
    assert collection.deidentify("once") == 1
    assert collection.handed() == []
    assert collection.deidentify("held", "--release", collection.uid(0)) == 0
    assert collection.deidentify("once") == 0
    assert len({str(one.PatientID) for one in collection.datasets()}) == 2


def test_two_data_sets_of_one_instance_both_go(collection: Collection) -> None:
    first, second = collection.add(0, 1, 2)
    second.write_bytes(first.read_bytes().replace(b"ACME", b"ECMA"))
    collection.end()
    assert collection.deidentify("once") == 0
    assert {one.Manufacturer for one in collection.datasets()} == {"ACME", "ECMA"}


def test_the_crosswalk_needs_phi(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1)
    collection.end()
    collection.deidentify("once")
    assert collection.deidentify("crosswalk") == 2
    capsys.readouterr()
    assert collection.deidentify("crosswalk", "--phi") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"kind": "patients", "original": planting.PLANT, "replaced": collection.datasets()[0].PatientID} in rows


def test_status_and_check_name_no_patient(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1, BurnedInAnnotation="YES")
    collection.end()
    collection.deidentify("once")
    assert collection.deidentify("status") == 0
    assert collection.deidentify("status", "--json") == 0
    assert collection.deidentify("check") == 0
    told = capsys.readouterr()
    assert "burned-in" in told.out
    assert planting.found_in((told.out + told.err).encode()) == []


def test_what_must_stay_apart_is_asked_for(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    key = Path(collection.config.state, "key")
    shutil.copy(collection.key, key)
    collection.key = key
    assert collection.deidentify("check") == 2
    assert "keep them apart" in capsys.readouterr().err
    collection.into = Path(collection.config.state).parent
    assert collection.deidentify("check") == 2
    assert "below --into" in capsys.readouterr().err


def test_evidence_as_a_page_names_nobody_and_fetches_nothing(collection: Collection, tmp_path: Path) -> None:
    collection.add(0, 1, BurnedInAnnotation="YES")
    collection.add(0, 2)
    collection.end()
    collection.deidentify("once")
    page = tmp_path / "page.html"
    assert collection.deidentify("evidence", "--html", str(page)) == 0
    text = page.read_text()
    assert "burned-in" in text
    assert "PatientName" in text
    assert planting.found_in(text.encode()) == []
    assert not any(word in text for word in ("<script", "http://", "https://", "src="))
    assert collection.deidentify("evidence", "--html", str(tmp_path / "none" / "page")) == 2


def test_words_are_counted_by_series_and_need_phi(collection: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    collection.add(0, 1, SeriesDescription="brain sagittal")
    collection.add(1, 1, SeriesDescription="brain of somebody")
    assert collection.deidentify("words") == 2
    capsys.readouterr()
    assert collection.deidentify("words", "--phi", "--json") == 0
    rows = {row["word"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (rows["brain"]["series"], rows["brain"]["allowed"]) == (2, True)
    assert (rows["somebody"]["series"], rows["somebody"]["allowed"]) == (1, False)
    assert collection.deidentify("words", "--phi") == 0


def test_the_vault_lies_elsewhere_or_nowhere(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection.add(0, 1)
    collection.end()
    usual = Path(collection.config.state, "deidentify/deidentify.sqlite")
    assert collection.deidentify("once", "--no-vault") == 0
    assert len(collection.files()) == 1
    assert not usual.exists()
    collection.add(1, 1, BurnedInAnnotation="YES")
    collection.end()
    elsewhere = tmp_path / "vault"
    assert collection.deidentify("once", "--vault", str(elsewhere)) == 1
    assert not usual.exists()
    assert (elsewhere / "deidentify.sqlite").exists()
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    capsys.readouterr()
    assert collection.deidentify("held", "--vault", str(elsewhere), "--json") == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "burned-in"
    assert collection.deidentify("check", "--vault", str(elsewhere), "--no-vault") == 2


def test_a_unit_whose_vault_was_lost_is_there_once(collection: Collection) -> None:
    collection.add(0, 1)
    collection.end()
    for _ in range(2):
        assert collection.deidentify("once", "--no-vault") == 0
        words = ["redeliver", "deidentify", collection.uid(0), "--yes", "--state", collection.config.state]
        assert cli.main(["hooks", *words]) == 0
    assert len(collection.handed()) == 1

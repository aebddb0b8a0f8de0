"""What documents prove of a series: names and their number are told alike, whatever else lies beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.ledger.evidence import DocumentReader
from tests.workbench import make_config

UID = "1.2.3"


def proofs_of(home: Path) -> tuple[DocumentReader, Path]:
    config = make_config(home)
    return DocumentReader(config), Path(config.log) / "seriesData" / f"{UID}-img"


@given(st.sets(st.from_regex(r"\.?[a-z0-9]{1,8}(\.dcm)?(\.json)?", fullmatch=True)))
def test_documents_are_counted_as_they_are_named(tmp_path_factory: pytest.TempPathFactory, there: set[str]) -> None:
    proofs, images = proofs_of(tmp_path_factory.mktemp("world"))
    images.mkdir(parents=True)
    for name in there:
        (images / name).touch()
    documents = {name.removesuffix(".json") for name in there if name.endswith(".json") and name[0] != "."}
    assert set(proofs.names(UID) or ()) == documents
    assert proofs.count(UID) == len(documents)


def test_a_series_without_documents_has_none_of_them(tmp_path: Path) -> None:
    proofs, _ = proofs_of(tmp_path)
    assert (proofs.names(UID), proofs.count(UID)) == ([], 0)


def test_what_cannot_be_listed_proves_nothing(tmp_path: Path) -> None:
    proofs, images = proofs_of(tmp_path)
    images.parent.mkdir(parents=True)
    images.touch()
    assert (proofs.names(UID), proofs.count(UID)) == (None, None)

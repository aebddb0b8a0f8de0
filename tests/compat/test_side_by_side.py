"""The real px-repack and we over the same synthetic instances: path for path, document for document.

Odd names, missing tags, several patients, studies and series; what may differ is listed as data, each with its reason.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.compat import corpus
from tests.compat.packed import Packed, pack_ourselves
from tests.compat.pypx import Pypx

#: What stat(2) tells of the published file but its size: rx-repack leaves it out too, and nobody reads it.
STAT = frozenset(["atime", "blksize", "blocks", "ctime", "dev", "gid", "ino", "mode", "mtime", "nlink", "rdev", "uid"])

#: Attributes in which instances of one series differ: px-repack rewrites a series' document with the last instance.
OF_ONE_INSTANCE = frozenset({"InstanceNumber", "SOPInstanceUID"})


@pytest.fixture(scope="module")
def both(pypx: Pypx, tmp_path_factory: pytest.TempPathFactory) -> tuple[Packed, Packed]:
    """The corpus packed by px-repack and by us."""
    base = tmp_path_factory.mktemp("both")
    made = corpus.make(base / "incoming")
    theirs = Packed(pypx, made, base / "px" / "data", base / "px" / "log")
    ours = Packed(pypx, made, base / "ours" / "data", base / "ours" / "log")
    pypx.repack(made.folder, theirs.data, theirs.log)
    pack_ourselves(ours)
    return theirs, ours


def test_the_trees_are_equal(both: tuple[Packed, Packed]) -> None:
    theirs, ours = both
    assert corpus.tree(ours.data) == corpus.tree(theirs.data)
    for path in corpus.tree(ours.data):
        assert (ours.data / path).read_bytes() == (theirs.data / path).read_bytes()


def test_the_documents_are_equal(both: tuple[Packed, Packed]) -> None:
    theirs, ours = both
    assert {path for path in corpus.tree(ours.log) if not path.startswith(".listener/")} == corpus.tree(theirs.log)
    for path in corpus.tree(theirs.log):
        expected = _comparable(_load(theirs, path), theirs.data)
        described = _comparable(_load(ours, path), ours.data)
        # One process of px-repack over many files carries entries of earlier patients and studies into later documents.
        assert described == {key: expected[key] for key in described}, path


def _load(packed: Packed, path: str) -> Any:
    return json.loads((packed.log / path).read_bytes())


def _comparable(value: Any, data: Path) -> Any:
    """Without what may differ, and with the data directory's prefix taken off."""
    if isinstance(value, dict):
        return {
            key: sorted(one) if key == "StudyList" else _comparable(one, data)
            for key, one in value.items()
            if key not in STAT and key not in OF_ONE_INSTANCE
        }
    return value.removeprefix(f"{data}/") if isinstance(value, str) else value

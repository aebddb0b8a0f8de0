"""The DICOM JSON model of instances, of which what is the same is converted once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pydicom
import pytest
from pydicom.data import get_testdata_files

from listener.serve import describing
from listener.serve.describing import attributes

FILES = sorted({path for path in get_testdata_files() if os.path.isfile(path) and "dicomdirtests" not in path})


def models(paths: list[str]) -> Iterator[str]:
    for path in paths:
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            yield repr(attributes(dataset, "http://host"))  # by its text: NaN is not itself
        except Exception:  # noqa: BLE001, S112 - not each of these files can be read
            continue


@pytest.mark.filterwarnings("ignore")
def test_what_is_remembered_is_what_pydicom_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = list(models(FILES)), list(models(FILES))
    monkeypatch.setattr(describing, "_is_plain", lambda raw: False)
    assert first == again == list(models(FILES))
    assert len(first) > 50

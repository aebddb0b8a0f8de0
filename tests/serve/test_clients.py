"""Requests as viewers send them, from their sources and recordings: each is answered, with what that viewer needs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.instances import instance, save
from tests.serve.processes import Got, serving

pytestmark = pytest.mark.real

#: What Java sends as Accept where its program says nothing.
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"

_STUDY = (
    "includefield=00080020,00080030,00080050,00080061,00080090,00081030,00100010,00100020,00100021,00100030,00100040,"
    "0020000D,00200010"
)
_TILES = (
    'multipart/related; type="application/octet-stream"; transfer-syntax=*, multipart/related; type="image/jpeg"; '
    "transfer-syntax=1.2.840.10008.1.2.4.50"
)
_STORED = 'multipart/related;type="application/dicom";transfer-syntax=*'

#: Viewer, path ({study}, {series}, {instance}), Accept, and tags that each result must have a value of.
SEARCHES = [
    ("Weasis", f"/studies?0020000D={{study}}&{_STUDY}", JAVA, "0020000D 00100010 00100020 00080020"),
    ("Weasis", f"/studies?00100020=P0000&{_STUDY}", JAVA, "0020000D 00100020"),
    ("Weasis", f"/studies?00080050=A1&{_STUDY}", JAVA, "0020000D 00080050"),
    ("Weasis", f"/studies?0020000D={{study}}&{_STUDY.replace(',', '&includefield=')}", JAVA, "0020000D 00100010"),
    ("Weasis", "/studies/{study}/series?includefield=0008103E,00080060,0020000E,00200011,00081190", JAVA,
     "0020000E 00080060 00081190"),
    ("Weasis", f"/series?0020000E={{series}}&{_STUDY},0008103E,00080060,00081190,00200011", JAVA,
     "0020000D 0020000E 00081190"),
    ("Weasis", "/studies/{study}/series/{series}/instances?includefield=00080018,00200013,00081190", JAVA,
     "00080018 00200013 00081190"),
    ("Weasis", f"/instances?00080018={{instance}}&{_STUDY},0008103E,00080060,0020000E,00200011,00200013,00081190", JAVA,
     "0020000D 0020000E 00080018 00200013 00081190"),
    ("OHIF", "/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060",
     "application/dicom+json", "0020000D 00080061 00201208"),
    ("OHIF", "/studies?00100010=*&00080061=MR&00080020=20000101-20991231&limit=101&offset=0&fuzzymatching=true",
     "application/dicom+json", "0020000D"),
    ("OHIF", "/studies/{study}/series?includefield=0008103E,00080021", "application/dicom+json, application/json",
     "0020000E 00080060 00201209"),
    ("Slim", "/studies?ModalitiesInStudy=MR&limit=50&offset=0&fuzzymatching=true", "application/dicom+json",
     "0020000D 00080061"),
    ("Slim", "/studies/{study}/series?Modality=MR", "application/dicom+json", "0020000E"),
    ("dicomweb-client", "/studies/{study}/instances?limit=3", "application/dicom+json", "00080018 00080016"),
]  # fmt: skip

#: Viewer, path, Accept, and what Content-Type begins with.
RETRIEVALS = [
    ("Weasis", "/studies/{study}/series/{series}/instances/{instance}", _STORED, "multipart/related"),
    ("Weasis", "/studies/{study}/series/{series}/instances/{instance}/rendered?viewport=256%2C256", "image/jpeg",
     "image/jpeg"),
    ("Weasis", "/studies/{study}/series/{series}/instances/{instance}/thumbnail?viewport=256,256", "image/jpeg",
     "image/jpeg"),
    ("Weasis", "/studies/{study}/series/{series}/thumbnail?viewport=96%2C96", "image/jpeg", "image/jpeg"),
    ("OHIF", "/studies/{study}/series/{series}/metadata", "application/dicom+json", "application/dicom+json"),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}/frames/1",
     "multipart/related; type=application/octet-stream; transfer-syntax=*", "multipart/related"),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}/frames/1",
     "multipart/related; type=image/jls; q=1, multipart/related; type=application/octet-stream; q=0.1",
     "multipart/related"),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}/rendered", "image/jpeg", "image/jpeg"),
    ("dicom-microscopy-viewer", "/studies/{study}/series/{series}/instances/{instance}/frames/1",
     _TILES, "multipart/related"),
    ("Slicer", "/studies/{study}/series/{series}", 'multipart/related; type="application/dicom"', "multipart/related"),
    ("curl", "/studies/{study}/series/{series}/instances/{instance}", "*/*", "multipart/related"),
]  # fmt: skip


def fill(collection: Collection) -> dict[str, str]:
    """Put three instances of a study in; return what {study}, {series} and {instance} of a path are."""
    uids: tuple[str, ...] = ()
    for number in range(1, 4):
        dataset = instance(number=number, AccessionNumber="A1")
        path = save(dataset, Path(collection.config.incoming[0], "one"))
        uids = tuple(map(str, (dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)))
        collection.add(Maker("", *uids), path.read_bytes(), Modality=dataset.Modality)
    return dict(zip(("instance", "study", "series"), uids, strict=True))


def has(found: dict[str, Any], tags: str) -> bool:
    return all(found.get(tag, {}).get("Value") for tag in tags.split())


def test_what_viewers_ask_for_is_answered(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    with contextlib.closing(Collection(tmp_path)) as collection:
        names = fill(collection)
        with serving(collection) as running:
            running.ready()

            def ask(path: str, accept: str) -> Got:
                return running.get(path.format(**names), accept=accept)

            for viewer, path, accept, tags in SEARCHES:
                got = ask(path, accept)
                assert (got.status, got.fields["content-type"]) == (200, "application/dicom+json"), (viewer, path, got)
                assert got.json, (viewer, path)
                assert all(has(one, tags) for one in got.json), (viewer, path, got.json)
            for viewer, path, accept, kind in RETRIEVALS:
                got = ask(path, accept)
                assert got.status == 200, (viewer, path, got)
                assert got.fields["content-type"].startswith(kind), (viewer, path, got.fields)
            # Weasis retrieves each instance from the address that the search told.
            for found in ask("/studies/{study}/series/{series}/instances?includefield=00080018,00081190", JAVA).json:
                address, uid = found["00081190"]["Value"][0], found["00080018"]["Value"][0]
                ((kind, content),) = running.get(address.removeprefix(running.base), accept=_STORED).parts
                assert kind == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
                assert content == next(collection.data.rglob(f"{uid}.dcm")).read_bytes()

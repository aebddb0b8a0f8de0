"""Paths of DICOMweb."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.serve.faults import BadRequest, NotAcceptable, NotFound
from listener.serve.resources import BULK, FRAMES, INSTANCES, METADATA, SEARCH, Resource, frame_list, resource

PATHS = {
    "/studies": Resource(SEARCH, "studies"),
    "/studies/": Resource(SEARCH, "studies"),
    "/series": Resource(SEARCH, "series"),
    "/instances": Resource(SEARCH, "instances"),
    "/studies/1.2/series": Resource(SEARCH, "series", ("1.2",)),
    "/studies/1.2/instances": Resource(SEARCH, "instances", ("1.2",)),
    "/studies/1.2/series/3/instances": Resource(SEARCH, "instances", ("1.2", "3")),
    "/studies/1.2": Resource(INSTANCES, "studies", ("1.2",)),
    "/studies/1.2/series/3": Resource(INSTANCES, "series", ("1.2", "3")),
    "/studies/1.2/series/3/instances/4": Resource(INSTANCES, "instances", ("1.2", "3", "4")),
    "/studies/1.2/metadata": Resource(METADATA, "studies", ("1.2",)),
    "/studies/1.2/series/3/metadata": Resource(METADATA, "series", ("1.2", "3")),
    "/studies/1.2/series/3/instances/4/metadata": Resource(METADATA, "instances", ("1.2", "3", "4")),
    "/studies/1.2/series/3/instances/4/frames/2,1": Resource(FRAMES, "instances", ("1.2", "3", "4"), (2, 1)),
    "/studies/1.2/series/3/instances/4/bulkdata/7fe00010": Resource(
        BULK, "instances", ("1.2", "3", "4"), bulk="7FE00010"
    ),
    "/studies/1.2/series/3/instances/4/bulkdata/00400275/1/00400008": Resource(
        BULK, "instances", ("1.2", "3", "4"), bulk="00400275/1/00400008"
    ),
}

NONE = [
    "",
    "/",
    "/nothing",
    "/metadata",
    "/series/1.2",
    "/instances/1.2",
    "/studies/1.2/nothing",
    "/studies/1.2/series/3/frames/1",
    "/studies/1.2/series/3/instances/4/frames",
    "/studies/1.2/series/3/instances/4/frames/1/2",
    "/studies/1.2/series/3/instances/4/bulkdata",
    "/studies/1.2/series/3/instances/4/bulkdata/1",
    "/studies/1.2/series/3/instances/4/bulkdata/00400275/1",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_names_a_resource(path: str) -> None:
    assert resource(path, 10) == PATHS[path]


@pytest.mark.parametrize("path", NONE)
def test_other_paths_name_none(path: str) -> None:
    with pytest.raises(NotFound):
        resource(path, 10)


def test_series_and_studies_have_a_thumbnail_alone() -> None:
    for path, level in (("/studies/1.2", "studies"), ("/studies/1.2/series/3", "series")):
        assert resource(f"{path}/thumbnail", 10)[:2] == ("thumbnail", level)
        for other in ("rendered", "frames/1/thumbnail"):
            with pytest.raises(NotAcceptable):
                resource(f"{path}/{other}", 10)


@pytest.mark.parametrize("kind", ["rendered", "thumbnail"])
def test_pictures_are_of_instances_and_frames(kind: str) -> None:
    instance = "/studies/1.2/series/3/instances/4"
    assert resource(f"{instance}/{kind}", 10) == Resource(kind, "instances", ("1.2", "3", "4"))
    assert resource(f"{instance}/frames/2,1/{kind}", 10).frames == (2, 1)
    with pytest.raises(NotFound):
        resource(f"{instance}/bulkdata/00080008/{kind}", 10)


@pytest.mark.parametrize("uid", ["a", "1" * 65, "1 2", "%00", "1\0"])
def test_a_uid_that_is_none_is_refused(uid: str) -> None:
    with pytest.raises(BadRequest):
        resource(f"/studies/{uid}", 10)


@pytest.mark.parametrize("text", ["0", "-1", str(2**64), "1,,2", "", ",", "1,", "a", "1.5", "01", " 1"])
def test_a_frame_list_has_numbers_from_one(text: str) -> None:
    with pytest.raises(BadRequest):
        frame_list(text, 10)


def test_a_frame_list_has_a_limit() -> None:
    assert frame_list(",".join(["1"] * 10), 10) == (1,) * 10
    with pytest.raises(BadRequest, match="more than 10 frames"):
        frame_list(",".join(["1"] * 100_000), 10)


@given(st.text(alphabet="/studieranc012.,%mbulk", max_size=80))
def test_any_path_is_a_resource_or_refused(path: str) -> None:
    with contextlib.suppress(BadRequest, NotAcceptable, NotFound):
        resource(path, 10)

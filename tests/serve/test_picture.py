"""What is asked of a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.serve.faults import BadRequest
from listener.serve.picture import JPEG, Picture, Viewport, Window, of_json, picture


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", Picture(JPEG)),
        ("viewport=512,256", Picture(JPEG, Viewport(512, 256))),
        ("viewport=512,", Picture(JPEG, Viewport(512, 8192))),
        ("viewport=10,20,1,2,-3,4.5", Picture(JPEG, Viewport(10, 20, 1, 2, -3, 4.5))),
        ("window=40,400", Picture(JPEG, None, Window(40, 400))),
        ("window=-1.5e2,0.5,linear-exact", Picture(JPEG, None, Window(-150, 0.5, "LINEAR_EXACT"))),
        (
            "window=40,400,SIGMOID&quality=7&iccprofile=yes",
            Picture(JPEG, None, Window(40, 400, "SIGMOID"), 7, icc=True),
        ),
    ],
)
def test_a_query_is_a_picture(query: str, wanted: Picture) -> None:
    pairs = [(key, value) for key, _, value in (one.partition("=") for one in query.split("&") if one)]
    found = picture(pairs, JPEG, thumbnail=False)
    assert found == wanted
    assert of_json([*found]) == wanted


@pytest.mark.parametrize(
    "pair",
    [
        ("viewport", "x,y"), ("viewport", "9000,1"), ("viewport", "1"), ("viewport", "-1,5"),
        ("viewport", "1,1,-1,0,1,1"),
        ("window", "1"), ("window", "1,0"), ("window", "1,0.5"), ("window", "1,2,cubic"), ("window", "nan,1"),
        ("window", "1,-1,sigmoid"), ("quality", "0"), ("quality", "101"), ("quality", "1.5"), ("iccprofile", "srgb"),
        ("annotation", "patient"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(BadRequest):
        picture([pair], JPEG, thumbnail=False)


def test_a_thumbnail_is_small_and_has_a_viewport_alone() -> None:
    assert picture([], JPEG, thumbnail=True).viewport == Viewport(128, 128)
    assert picture([("viewport", "20,20")], JPEG, thumbnail=True).viewport == Viewport(20, 20)
    with pytest.raises(BadRequest):
        picture([("window", "1,2")], JPEG, thumbnail=True)


SIDE = st.integers(1, 8192)


@given(SIDE, SIDE, SIDE, SIDE)
def test_a_fitted_picture_fits_and_keeps_its_proportions(width: int, height: int, columns: int, rows: int) -> None:
    fitted = Viewport(width, height).fitted(columns, rows)
    assert 1 <= fitted[0] <= width
    assert 1 <= fitted[1] <= height
    assert fitted[0] == width or fitted[1] == height or max(fitted) <= 1 or 1 in fitted


@given(SIDE, SIDE, st.integers(0, 9000), st.integers(0, 9000), st.integers(-9000, 9000), st.integers(-9000, 9000))
def test_a_region_lies_within_the_image(columns: int, rows: int, x: int, y: int, width: int, height: int) -> None:
    view = Viewport(10, 10, x, y, width, height)
    if x >= columns or y >= rows:
        with pytest.raises(BadRequest):
            view.region(columns, rows)
        return
    left, top, found_width, found_height = view.region(columns, rows)
    assert left + found_width <= columns
    assert top + found_height <= rows
    assert min(found_width, found_height) >= 1

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.export import keys

TEXTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)

NAMES = {
    "0001-1.2.3.dcm": "0001-1.2.3.dcm",
    "with blank": "with=20blank",
    "a#b%c+d~e=f": "a=23b=25c=2Bd=7Ee=3Df",
    "größe": "gr=C3=B6=C3=9Fe",
    "..": "=2E.",
    ".": "=2E",
    "\udcff": "=FF",
}


@pytest.mark.parametrize(("name", "key"), NAMES.items())
def test_what_a_store_or_tool_trips_over_is_escaped(name: str, key: str) -> None:
    assert keys.escaped(name) == key
    assert keys.unescaped(key) == name


@given(TEXTS)
def test_a_short_name_comes_back(name: str) -> None:
    key = keys.escaped(name)
    assert key.isascii()
    assert keys.unescaped(key) == name


@given(st.lists(TEXTS.map(lambda text: text * 9), min_size=1, max_size=12), st.integers(0, 400))
def test_no_key_is_longer_than_a_store_takes_with_its_prefix_and_a_conflict(parts: list[str], room: int) -> None:
    key = keys.key_of(("data", *parts), "p" * room)
    assert room + len(keys.in_conflict(key, "f" * 64)) <= keys.LONGEST
    assert all(0 < len(component) <= keys.COMPONENT for component in key.split("/"))
    assert key.startswith("data/")


def test_long_names_that_differ_at_the_end_have_different_keys() -> None:
    deep = ["d" * 200] * 8
    assert keys.key_of([*deep, "a"]) != keys.key_of([*deep, "b"])
    assert keys.key_of(["x" * 300 + "1"]) != keys.key_of(["x" * 300 + "2"])


def test_each_kind_has_its_place() -> None:
    assert keys.of_path("P/S/0001 a.dcm") == "data/P/S/0001=20a.dcm"
    assert keys.of_uids("1", "2", "3") == "data/1/2/3.dcm"
    assert keys.of_manifest("1", "2", 3) == "manifests/1/2-g3.ndjson"
    assert keys.of_archive("1", "2", 3, 0, ".tar") == "archives/1/2-g3.tar"
    assert keys.of_archive("1", "2", 3, 4, ".tar.gz") == "archives/1/2-g3-4.tar.gz"
    assert keys.of_table("2026-01-02", "ff") == "parquet/day=2026-01-02/ff.parquet"
    assert keys.in_conflict("data/x", "0123456789") == "data/x~01234567"

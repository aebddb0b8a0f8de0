"""What is asked of a part: read, or refused with what to give."""

from __future__ import annotations

from typing import Any

import pytest

from listener.backfill.request import NAME, PartRequest, Share
from listener.errors import ConfigError

NOTHING: dict[str, Any] = {
    "part": None, "part_by": None, "files_from": None, "again": False, "tolerate_set_aside": False,
    "textfile": None, "priority": None,
}  # fmt: skip


@pytest.mark.parametrize("text", ["5/4", "4/4", "0/0", "-1/4", "1", "a/b", "1/4/2", " 1/4", "1/", "/4", "٣/٤"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no part; give I/N with I from 0 to N - 1"):
        PartRequest.of(NOTHING | {"part": text})


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"part": "0/1"}, "0-of-1"),
        ({"part": "3/16"}, "03-of-16"),
        ({"part": "3/16", "part_by": "name"}, "03-of-16-by-name"),
        ({"part": "99/1000"}, "099-of-1000"),
    ],
)
def test_the_name_of_a_part_says_which_it_is(given: dict[str, Any], name: str) -> None:
    share = PartRequest.of(NOTHING | given).share
    assert share
    assert share.name == name


def test_a_list_alone_is_a_part() -> None:
    assert PartRequest.of(NOTHING | {"files_from": "-", "again": True}) == PartRequest(None, "-", again=True)
    assert PartRequest.of(NOTHING | {"files_from": "x", "part": "1/2", "part_by": "name"}).share == Share(1, 2, NAME)


@pytest.mark.parametrize("name", ["part_by", "again", "tolerate_set_aside", "priority"])
def test_what_belongs_to_a_part_is_refused_without_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} without a part"):
        PartRequest.of(NOTHING | {name: "name" if name == "part_by" else True})

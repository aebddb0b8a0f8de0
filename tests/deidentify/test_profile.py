"""What becomes of an element, over the whole table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.deidentify import profile
from listener.deidentify.profile import Position, Rules, decide
from listener.dicom.attributes import dictionary_vr

TABLE = profile.read_table()
SHARED = Path(__file__).parents[3] / "shared/data/ps315-e1-1.tsv"

tags = st.sampled_from(sorted(TABLE))
option_sets = st.frozensets(st.sampled_from(profile.OPTIONS)).filter(
    lambda names: not {"retain-full-dates", "retain-modified-dates"} <= names
)
positions = st.builds(Position, st.integers(0, 5), st.sampled_from(["", profile.CLEAN, profile.DUMMY]))


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not at hand")
def test_the_table_is_what_the_standard_says() -> None:
    with SHARED.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file, delimiter="\t")
    told = {
        int(tag.replace(",", ""), 16): (basic, "".join(mark.replace("?", "") or "-" for mark in marks))
        for tag, _, basic, *marks in rows
        if "X" not in tag and "WHERE" not in tag
    }
    assert told == {tag: tuple(entry) for tag, entry in TABLE.items()}


@given(tags)
def test_without_options_the_last_of_a_compound_action_is_taken(tag: int) -> None:
    vr = dictionary_vr(tag) or "LO"
    decision = decide(tag, vr, Position(), Rules())
    last = TABLE[tag].basic.rpartition("/")[2].rstrip("*")
    if tag in (0x00100010, 0x00100020, 0x00080050, 0x00200010):
        assert decision.action == profile.PSEUDONYM
    elif vr == "SQ" and last == "U":
        assert decision.action == profile.ITEMS
    else:
        assert decision.action == {"X": "remove", "Z": "empty", "D": "dummy", "U": "uid"}[last]


@given(tags, option_sets, positions)
def test_nothing_of_the_table_is_kept_without_an_option_that_names_it(
    tag: int, names: frozenset[str], position: Position
) -> None:
    vr = dictionary_vr(tag) or "LO"
    decision = decide(tag, vr, position, Rules(names))
    marks = dict(zip(profile.OPTIONS, TABLE[tag].options, strict=True))
    if decision.action in (profile.KEEP, profile.AGE, profile.SHIFT, profile.TIME):
        assert any(marks[name] != "-" for name in names)


@given(st.integers(0, 0xFFFFFFFF), st.sampled_from(["LO", "UN", "SQ", "PN", "DA", "OB"]), positions)
def test_what_the_dictionary_does_not_know_is_removed(tag: int, vr: str, position: Position) -> None:
    if not dictionary_vr(tag) and tag not in TABLE:
        assert decide(tag, vr, position, Rules()).action == profile.REMOVE


@given(st.integers(0, 0xFFFF), st.integers(0, 0x7FFF), option_sets, positions)
def test_private_elements_are_removed_unless_they_are_called_safe(
    element: int, half: int, names: frozenset[str], position: Position
) -> None:
    tag = (2 * half + 1) << 16 | element
    if tag not in TABLE:
        assert decide(tag, "LO", position, Rules(names)).action == profile.REMOVE


def test_a_safe_private_element_is_kept_with_its_creator() -> None:
    rules = Rules(frozenset({"retain-safe-private"}), frozenset({("ACME", 0x7053, 0x00)}))
    here = Position(creator="ACME")
    assert decide(0x70530010, "LO", here, rules).action == profile.KEEP
    assert decide(0x70531000, "DS", here, rules).action == profile.KEEP
    assert decide(0x70531001, "DS", here, rules).action == profile.REMOVE
    assert decide(0x70531000, "DS", Position(creator="OTHER"), rules).action == profile.REMOVE
    assert decide(0x70531000, "DS", here, Rules(frozenset(), rules.safe_private)).action == profile.REMOVE


@pytest.mark.parametrize("tag", [0x50000010, 0x50020020, 0x60003000, 0x60100010, 0x60FE4000])
def test_curves_and_overlays_go_whole(tag: int) -> None:
    assert decide(tag, "OW", Position(), Rules(frozenset({"clean-graphics"}))).action == profile.REMOVE


@pytest.mark.parametrize(
    ("tag", "options", "action"),
    [
        (0x00080020, ["retain-modified-dates"], profile.SHIFT),
        (0x00080020, ["retain-full-dates"], profile.KEEP),
        (0x00080030, ["retain-modified-dates"], profile.TIME),
        (0x00181200, ["retain-device-identity"], profile.KEEP),
        (0x00181200, ["retain-device-identity", "retain-modified-dates"], profile.SHIFT),
        (0x00181000, ["retain-device-identity"], profile.KEEP),
        (0x00080080, ["retain-institution-identity"], profile.KEEP),
        (0x00101010, ["retain-patient-characteristics"], profile.AGE),
        (0x00101030, ["retain-patient-characteristics"], profile.KEEP),
        (0x00102110, ["retain-patient-characteristics"], profile.CLEAN),
        (0x00080018, ["retain-uids"], profile.KEEP),
        (0x00200242, [], profile.UID),
        (0x00200242, ["retain-uids"], profile.KEEP),
        (0x0008103E, ["clean-descriptors"], profile.CLEAN),
        (0x00400275, ["clean-descriptors"], profile.CLEAN),
        (0x0040A730, ["clean-structured-content"], profile.CLEAN),
        (0x00700001, ["clean-graphics"], profile.CLEAN),
        (0x0040A067, [], profile.REMOVE),
        (0x00280010, [], profile.KEEP),
    ],
)
def test_options_change_what_they_are_for(tag: int, options: list[str], action: str) -> None:
    assert decide(tag, dictionary_vr(tag), Position(), Rules(frozenset(options))).action == action


def test_in_cleaned_content_texts_are_cleaned_and_in_dummies_all_is_one() -> None:
    assert decide(0x0040A160, "UT", Position(2, profile.CLEAN), Rules()).action == profile.CLEAN
    assert decide(0x00080100, "SH", Position(2, profile.CLEAN), Rules()).action == profile.CODE
    assert decide(0x00080104, "LO", Position(2, profile.DUMMY), Rules()).action == profile.DUMMY
    assert decide(0x00081150, "UI", Position(2, profile.DUMMY), Rules()).action == profile.UID


def test_pixels_are_kept_at_the_top_alone() -> None:
    assert decide(0x7FE00010, "OW", Position(), Rules()).action == profile.KEEP
    assert decide(0x7FE00010, "OW", Position(1), Rules()).action == profile.REMOVE


@pytest.mark.parametrize("tag", [0x0040DB73, 0x00081160, 0x0062000B])
def test_places_within_what_is_referred_to_are_no_dummies(tag: int) -> None:
    """They count from 1: a dummy of 0 would be none."""
    vr = dictionary_vr(tag)
    assert decide(tag, vr, Position(2, profile.DUMMY), Rules()).action == profile.KEEP
    assert decide(0x0040A136, "FD", Position(2, profile.DUMMY), Rules()).action == profile.DUMMY

"""Values that are derived from a key."""

from __future__ import annotations

import re
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from listener.deidentify.keys import Keys, is_standard

KEY = bytes(range(32))


def test_what_was_derived_once_is_derived_for_ever() -> None:
    """Collections that are years old are added to: none of these may ever change."""
    keys = Keys(KEY)
    assert keys.uid("1.2.3.4") == "2.25.60283483366624275073112994968156636789"
    assert keys.pseudonym("P", "12345") == "PYXXHY5UTHQIF"
    assert keys.shift("12345", 365) == 335
    assert keys.fingerprint == "5ab8c392c2c54035"


@given(st.text())
def test_a_uid_is_a_version_8_uuid(original: str) -> None:
    made = Keys(KEY).uid(original)
    if not is_standard(original):
        assert re.fullmatch(r"2\.25\.[1-9][0-9]*", made)
        assert len(made) <= 64
        assert UUID(int=int(made[5:])).version == 8


def test_the_uids_of_the_standard_stay() -> None:
    assert Keys(KEY).uid("1.2.840.10008.5.1.4.1.1.4") == "1.2.840.10008.5.1.4.1.1.4"
    assert Keys(KEY).uid("1.2.840.10008.DOE") != "1.2.840.10008.DOE"
    assert Keys(KEY).uid("1.2.840.100081.3") != "1.2.840.100081.3"


@given(st.text(), st.integers(1, 10000))
def test_a_shift_is_1_to_the_most(patient: str, most: int) -> None:
    assert 1 <= Keys(KEY).shift(patient, most) <= most


@given(st.text(min_size=1))
def test_another_key_has_nothing_in_common(original: str) -> None:
    one, other = Keys(KEY), Keys(KEY[::-1])
    assert one.pseudonym("P", original) != other.pseudonym("P", original)
    assert one.pseudonym("P", original) != one.pseudonym("A", original)
    assert is_standard(original) or one.uid(original) != other.uid(original)
    assert one.fingerprint != other.fingerprint

"""What has the form of a UID."""

from __future__ import annotations

import pytest

from listener.uids import is_uid


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.2.840", True), ("1" * 64, True), ("1" * 65, False), ("", False), ("1.2\n", False), ("1.2a", False)],
)
def test_a_uid_has_1_to_64_digits_and_dots(text: str, expected: bool) -> None:
    assert bool(is_uid(text)) == expected

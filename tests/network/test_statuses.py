from __future__ import annotations

import pytest

from listener.network.statuses import DELIVERED, FAILED, FULL, OUTCOMES, REFUSED, Meaning, meaning

CASES = {
    Meaning(DELIVERED): (0x0000, 0x0001, 0x0107, 0x0116, 0x0111, 0xB000, 0xB006, 0xB007, 0xBFFF),
    Meaning(FULL): (0xA700, 0xA701, 0xA7FF, 0x0213),
    Meaning(REFUSED, 3): (0xA800, 0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0106, 0x0117, 0x0122),
    Meaning(FAILED, 20): (0x0110, 0x0124, 0x0210, 0x0211, 0xFE00, 0xFF00, 0xA600, 0xD000, 0xFFFF, 0x0002),
}


@pytest.mark.parametrize(("expected", "status"), [(one, status) for one, all_ in CASES.items() for status in all_])
def test_a_status_has_a_meaning(expected: Meaning, status: int) -> None:
    assert meaning(status) == expected


def test_every_number_has_one_and_only_success_and_warnings_are_delivered() -> None:
    meanings = {status: meaning(status) for status in range(0x10000)}
    assert {one.outcome for one in meanings.values()} == set(OUTCOMES) - {"unavailable"}
    delivered = {status for status, one in meanings.items() if one.outcome == DELIVERED}
    assert delivered == {0, 1, 0x0107, 0x0116, 0x0111, *range(0xB000, 0xC000)}
    # What is delivered or waits for room is never given up.
    assert {one.attempts for one in meanings.values() if one.outcome in (DELIVERED, FULL)} == {0}

"""PURE. Which frames are loaded when one is missed. Frames are numbered from 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

#: Whether a frame is cached, or on its way.
IsBusy = Callable[[int], bool]


def block(number: int, count: int, size: int, is_busy: IsBusy) -> list[int]:
    """Return the numbers of a block of at most `size` of `count` frames with frame `number` in it.

    It begins with that frame where it can, and is moved down over frames at its end that are busy; those that are busy
    at its begin are left out, and so are those between.
    """
    last = min(count, number + size - 1)
    while last > number and is_busy(last):
        last -= 1
    first = max(last - size + 1, 1)
    return [one for one in range(first, last + 1) if one == number or not is_busy(one)]


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as ranges, first and last of each: 1, 2, 3, 8 is (1, 3), (8, 8)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def is_sorted(numbers: Sequence[int]) -> bool:
    """Return whether no number is less than the one before it."""
    return all(before <= number for before, number in pairwise(numbers))

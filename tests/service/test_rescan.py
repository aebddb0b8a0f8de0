"""Directories that cannot be swept are told by their place, and once while it lasts."""

from __future__ import annotations

import errno
import os

import pytest

from listener.service.rescan import Troubles


def refused(path: str, number: int = errno.EACCES) -> OSError:
    return OSError(number, os.strerror(number), path)


def test_a_directory_that_cannot_be_read_is_told_once_while_it_lasts() -> None:
    told = Troubles(("/in", "/in2"), phi=False)
    one, other = refused("/in/site/Name^Patient"), refused("/in2", errno.ENOENT)
    assert told.news([one]) == ["level 2 below incoming: Permission denied"]
    assert told.news([one]) == []
    assert told.news([other, one]) == ["level 0 below incoming: No such file or directory"]
    assert told.news([]) == []
    assert told.news([one]) == ["level 2 below incoming: Permission denied"]
    assert len(told.news([refused(f"/in/{number}") for number in range(100)])) == 10


@pytest.mark.parametrize(("phi", "text"), [(True, "'/in/a': Permission denied"), (False, "level 1 below incoming: ")])
def test_a_path_is_told_only_where_it_may_be(phi: bool, text: str) -> None:
    (said,) = Troubles(("/in",), phi=phi).news([refused("/in/a")])
    assert said.startswith(text)

"""A part gives way to a live listener on its host, as the kernel tells of the part and of its workers."""

from __future__ import annotations

import os
import subprocess
from functools import partial

import pytest

from tests.backfill.archives import NORMAL, SMALL
from tests.dicomnet import kill_group
from tests.instances import write_instance
from tests.service_process import Places, children, start
from tests.waiting import until

pytestmark = pytest.mark.real

LAST = 19


def niceness(process: subprocess.Popen[bytes]) -> list[int]:
    """That of the part and of its worker; none while there is no worker."""
    assert process.poll() is None, process.communicate()
    workers = children(process.pid)
    return [os.getpriority(os.PRIO_PROCESS, pid) for pid in (process.pid, *workers)] if workers else []


@pytest.mark.parametrize("words", [(), ("--priority", "low"), NORMAL])
def test_a_part_and_its_workers_come_last_on_their_host_unless_that_is_not_wanted(
    places: Places, words: tuple[str, ...]
) -> None:
    path = write_instance(places.incoming / "still-being-written")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with path.open("ab"):  # So that the part waits for it.
        process = start("once", *places.flags(), *SMALL, "--settle", "500", "--part", "0/1", *words)
        try:
            wanted = own if words == NORMAL else LAST
            assert until(partial(niceness, process), 60) == [wanted, wanted]
        finally:
            kill_group(process.pid)
            process.communicate()

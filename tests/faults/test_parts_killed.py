"""Parts and their end, killed while they work and begun again: each listed file has one end, each series ends once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from tests.backfill.archives import NORMAL, SMALL, archive, finish_all, parts, rows, total
from tests.dicomnet import kill_group
from tests.ledger_world import assert_ledger_equals_logs
from tests.service_process import finish, make_places, start
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]


def reached(process: subprocess.Popen[bytes], ends: Path, size: int) -> bool:
    """Whether a part has ended, or has written so much."""
    return process.poll() is not None or (ends.exists() and ends.stat().st_size >= size)


def test_a_part_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    files = archive(places, 200, 5)
    lists = tmp_path / "list"
    lists.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in files))
    words = ("once", *places.flags(), *SMALL, *NORMAL, "--files-from", str(lists))
    kills = 0
    for round_ in range(6):
        process = start(*words)
        ends = places.state / "parts/list/ends"
        before = ends.stat().st_size if ends.exists() else 0
        wanted = before + 1 + 25 * 20 * round_ // 2
        until(partial(reached, process, ends, wanted), 30)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        kill_group(process.pid)
        process.communicate()
        time.sleep(0.05)
    done = finish(start(*words))
    assert done.status == 1, done.stderr
    assert kills > 2
    assert total(places) == {"listed": len(files), "published": len(files) - 2, "duplicate": 1, "set_aside": 1}
    assert len(list(places.data.rglob("*.dcm"))) == len(files) - 2


def test_killed_at_any_moment_it_is_begun_again(tmp_path: Path) -> None:
    places, dice = make_places(tmp_path), random.Random(19)
    archive(places, 60, 2)
    with contextlib.closing(open_writer(path_of(str(places.state)))) as ledger:
        deliveries.register(ledger, "somebody", 1)
    parts(places)
    for _ in range(8):
        process = start("once", *places.flags(), *SMALL, "--finish", "--announce")
        time.sleep(dice.uniform(0.1, 0.9))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        kill_group(process.pid)
        process.communicate()
    assert finish_all(places, "--announce") == 0
    assert_ledger_equals_logs(places)
    assert rows(places, "SELECT count(*), max(generation) FROM deliveries WHERE series_id > 0") == [(60, 1)]
    # Nobody has taken what was announced.
    assert rows(places, "SELECT state, generation FROM batches") == [("processing", 1)]
    assert rows(places, "SELECT count(*) FROM set_aside WHERE gone_ns = 0") == [(1,)]

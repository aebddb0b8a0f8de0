"""The queue in route.sqlite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.ledger.feed import FeedRow
from listener.route.queue import File, NewSend, Queue, Settled
from listener.route.schema import COPY, DEAD, DELIVERED, PENDING, ROUTE, WORKER
from listener.stages.database import StageFault, open_writer
from listener.stages.follower import Cursor

FILE = File(1, 2, 3)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(open_writer(str(tmp_path), ROUTE))
    yield made
    made.connection.close()


def row(number: int, kind: str = "published") -> FeedRow:
    return FeedRow(number, kind, "1.1", "1.0", f"1.2.{number}", f"a/b/{number}.dcm", "SCANNER", "/in", 1000 + number)


def came(queue: Queue, number: int, file: File = FILE) -> tuple[int, bool, bool]:
    series, _ = queue.series_id("1.1", "1.0")
    return queue.instance(row(number), series, file)


def study(queue: Queue) -> int:
    made = queue.connection.execute(
        "INSERT INTO studies (route, StudyInstanceUID, worker, began_ns, last_ns) VALUES ('all', '1.0', 'gpu1', 0, 0)"
    )
    return int(made.lastrowid or 0)


def queued(queue: Queue, *numbers: int) -> list[NewSend]:
    with queue.writing():
        of = study(queue)
        sends = [NewSend(came(queue, number)[0], of, WORKER, "gpu1", 1) for number in numbers]
        assert [queue.add(send, 5, again=True, changed=True) for send in sends] == [1] * len(numbers)
    return sends


def state(queue: Queue) -> list[tuple[str, int, int]]:
    return queue.connection.execute("SELECT state, round, attempts FROM sends ORDER BY id").fetchall()


def test_a_file_is_known_from_its_first_arrival_and_seen_to_be_another_one(queue: Queue) -> None:
    with queue.writing():
        assert came(queue, 1)[1:] == (True, True)
        assert came(queue, 1)[1:] == (False, False)
        assert came(queue, 1, File(9, 9, 9))[1:] == (False, True)
        assert queue.is_known(row(1), 1)
        assert not queue.is_known(row(2), 1)


def test_due_is_what_is_pending_in_order_with_what_its_file_was(queue: Queue) -> None:
    queued(queue, 1, 2)
    first, second = queue.due("gpu1", 10, 10)
    assert (first.SOPInstanceUID, first.path, first.file, first.route) == ("1.2.1", "a/b/1.dcm", FILE, "all")
    assert second.id > first.id
    assert queue.due("gpu2", 10, 10) == []
    assert len(queue.due("gpu1", 10, 1)) == 1


def test_what_is_sent_is_sent_again_once_when_it_comes_again(queue: Queue) -> None:
    (new,) = queued(queue, 1)
    with queue.writing():
        assert queue.add(new, 6, again=True, changed=False) == 0, "it waits already"
    (send,) = queue.due("gpu1", 10, 10)
    with queue.writing():
        assert queue.settle(Settled(send, DELIVERED, 0), 7)
        assert queue.add(new, 8, again=False, changed=False) == 0, "found is not come"
    assert state(queue) == [(DELIVERED, 1, 1)]
    with queue.writing():
        assert queue.add(new, 8, again=True, changed=False) == 1
    assert state(queue) == [(PENDING, 2, 0)]


def test_another_file_in_its_place_is_a_new_round_and_the_answer_to_the_old_one_counts_no_more(queue: Queue) -> None:
    (new,) = queued(queue, 1)
    (send,) = queue.due("gpu1", 10, 10)
    with queue.writing():
        came(queue, 1, File(9, 9, 9))
        assert queue.add(new, 6, again=True, changed=True) == 0
        assert not queue.settle(Settled(send, DELIVERED, 0), 7)
    assert state(queue) == [(PENDING, 2, 0)]
    assert queue.due("gpu1", 10, 10)[0].file == File(9, 9, 9)


def test_a_study_moves_whole_and_the_answer_of_the_old_worker_counts_no_more(queue: Queue) -> None:
    new = queued(queue, 1, 2, 3)
    with queue.writing():
        queue.add(new[0]._replace(kind=COPY, target="archive"), 5, again=True, changed=False)
    first, second, third = queue.due("gpu1", 10, 10)
    with queue.writing():
        queue.settle(Settled(first, DELIVERED, 0), 7)
        queue.settle(Settled(third, DEAD, 0xC000, "", "no"), 7)
        assert queue.move(first.study_id, "gpu2", 8) == 3
        assert not queue.settle(Settled(second, DELIVERED, 0), 9)
    assert queue.due("gpu1", 10, 10) == []
    assert [one.round for one in queue.due("gpu2", 10, 10)] == [2, 2, 2]
    assert len(queue.due("archive", 10, 10)) == 1


def test_what_failed_waits_for_its_time(queue: Queue) -> None:
    queued(queue, 1)
    (send,) = queue.due("gpu1", 10, 10)
    with queue.writing():
        queue.settle(Settled(send, PENDING, 0x0110, "", "busy", 50), 11)
    assert queue.due("gpu1", 49, 10) == []
    assert queue.next_ns("gpu1", 11) == 50
    assert queue.due("gpu1", 50, 10)[0].attempts == 1


def test_a_route_that_left_holds_what_is_queued_and_an_answer_still_counts(queue: Queue) -> None:
    queued(queue, 1, 2)
    first, second = queue.due("gpu1", 10, 10)
    with queue.writing():
        queue.hold(["other"], [])
    assert queue.due("gpu1", 10, 10) == []
    with queue.writing():
        assert queue.settle(Settled(first, DELIVERED, 0), 12), "it had it before the route left"
        assert queue.settle(Settled(second, PENDING, 0x0110, "", "", 50), 12)
    assert [one for one, *_ in state(queue)] == [DELIVERED, "held"]
    with queue.writing():
        queue.hold(["all"], [])
    assert [one.id for one in queue.due("gpu1", 10, 10)] == [second.id]


def test_copies_for_who_left_are_held_and_others_go_on(queue: Queue) -> None:
    (new,) = queued(queue, 1)
    with queue.writing():
        for name in ("archive", "gone"):
            queue.add(new._replace(kind=COPY, target=name), 5, again=True, changed=False)
        queue.hold(["all"], ["archive"])
    assert len(queue.due("archive", 10, 10)) == 1
    assert queue.due("gone", 10, 10) == []


def test_cursor_and_rows_are_of_one_transaction(queue: Queue) -> None:
    with pytest.raises(StageFault), queue.writing():
        _write_and_fail(queue)
    assert queue.has_failed
    assert queue.cursor() == (Cursor(), 0)
    assert queue.connection.execute("SELECT count(*) FROM instances").fetchone() == (0,)


def _write_and_fail(queue: Queue) -> None:
    came(queue, 1)
    queue.move_cursor(Cursor(5, 1), 1001)
    queue.connection.execute("INSERT INTO nowhere VALUES (1)")


def test_series_open_and_end(queue: Queue) -> None:
    with queue.writing():
        assert queue.series_id("1.1", "1.0") == (1, True)
        assert queue.series_id("1.1", "1.0") == (1, False)
        assert queue.open_series("1.0") == 1
        assert queue.close_series("1.1", "1.0")
        assert not queue.close_series("1.1", "1.0")
        assert queue.series_id("1.1", "1.0") == (1, True)
        assert queue.series_id("1.9", "1.0", opens=False) == (2, False)
        assert queue.open_series("1.0") == 1, "a result makes no study live"


def test_unclaimed_is_kept_by_sender_and_root_until_it_is_claimed(queue: Queue) -> None:
    with queue.writing():
        number, *_ = came(queue, 1)
        assert queue.unclaimed(number, row(1), 5)
        assert not queue.unclaimed(number, row(1), 6)
        assert queue.unclaimed(number, row(1)._replace(sender="OTHER"), 6)
        found = queue.unclaimed_rows(10)
        assert sorted(one[2].sender for one in found) == ["OTHER", "SCANNER"]
        queue.claim(number, "SCANNER", "/in")
        assert [one[2].sender for one in queue.unclaimed_rows(10)] == ["OTHER"]


def test_what_was_unclaimed_for_long_is_forgotten(queue: Queue) -> None:
    with queue.writing():
        for number in (1, 2):
            assert queue.unclaimed(came(queue, number)[0], row(number), number)
        queue.forget_unclaimed(2)
    assert [one[2].SOPInstanceUID for one in queue.unclaimed_rows(10)] == ["1.2.2"]

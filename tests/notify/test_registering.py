"""What is done for CUBE with each end of a series: when it is sent, asked for, sent again, and what is in the way."""

from __future__ import annotations

from typing import Any

import pytest

from listener.errors import NotTaken, Postponed
from listener.ledger.rows import Change, Delivery, SeriesRow
from listener.notify.cube import Denied, Found
from listener.notify.registering import Confirming, CubeReceiver
from listener.notify.registration import Refused, Registration
from listener.stages.outbox import Outbox

_TEXTS = ("P1", "", "MR", "MYPACS", "/in", "complete", "complete")
ROW = SeriesRow(1, "1.2.3", "1.2", *_TEXTS, *(1, 2, 100, 0), "", *(0, 1, 2, 3, 0), folder="SERVICES/PACS/MYPACS/a/b/c")


class Broker:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.away, self.sent = "", 0

    def send(self, _: dict[str, Any]) -> None:
        if self.away:
            raise NotTaken(self.away)
        self.sent += 1


class Cube:
    """Has a series, or not; or refuses to say."""

    shown = "http://cube"

    def __init__(self) -> None:
        self.has, self.denies, self.asked = False, False, 0

    def find(self, _: str) -> list[Found]:
        self.asked += 1
        if self.denies:
            raise Denied("answered 403")
        return [Found("MYPACS", "SERVICES/PACS/MYPACS/a/b/c")] if self.has else []


class Receiver(CubeReceiver):
    """One whose series lie in no tree."""

    def __init__(self, after: float = 60.0) -> None:
        self.broker, self.cube, self.told = Broker(), Cube(), []  # type: ignore[var-annotated]
        outbox = Outbox(lambda: None)
        outbox.event = lambda name, **_: self.told.append(name)  # type: ignore[method-assign]
        super().__init__(("", ""), self.broker, self.cube, Confirming(after, 1e6), outbox)  # type: ignore[arg-type]

    def _registration(self, delivery: Delivery, series: SeriesRow) -> Registration:
        return Registration({"ndicom": 2}, ("PatientSex",))


def delivery(generation: int = 1, error: str = "") -> Delivery:
    change = Change(generation, 1, "complete", "quiet", 2, 100, 0)
    return Delivery(1, "series-complete", f"1.2.3/{generation}", 1, "x", series=ROW, change=change, error=error)


def put_off(receiver: Receiver, given: Delivery) -> Postponed:
    with pytest.raises(Postponed) as caught:
        receiver.take(given, lambda: None)
    return caught.value


def test_a_first_generation_is_sent_before_cube_is_asked() -> None:
    receiver = Receiver()
    assert put_off(receiver, delivery()).seconds == 2
    assert (receiver.broker.sent, receiver.cube.asked) == (1, 0)
    assert [put_off(receiver, delivery()).seconds for _ in range(5)] == [4, 8, 16, 30, 30]
    assert receiver.broker.sent == 1
    receiver.cube.has = True
    receiver.take(delivery(), lambda: None)
    assert receiver.told == ["adjusted", "registered"]


def test_a_later_generation_that_cube_lacks_is_sent_and_one_that_it_has_is_late() -> None:
    receiver = Receiver()
    put_off(receiver, delivery(2))
    assert (receiver.broker.sent, receiver.cube.asked) == (1, 1)
    receiver.cube.has = True
    receiver.take(delivery(2), lambda: None)
    receiver.take(delivery(3), lambda: None)
    assert receiver.told == ["adjusted", "registered", "late"]
    assert receiver.note.startswith("1 series grew")


def test_what_a_process_before_sent_is_asked_for_and_is_not_late() -> None:
    receiver = Receiver()
    waits = put_off(receiver, delivery(2)).detail
    after = Receiver()
    put_off(after, delivery(2, waits))
    assert (after.broker.sent, after.cube.asked) == (0, 1)
    after.cube.has = True
    after.take(delivery(2, waits), lambda: None)
    assert after.told == ["registered"]


def test_it_is_sent_five_times_and_then_given_up() -> None:
    receiver = Receiver(after=0.0)
    for _ in range(5):
        put_off(receiver, delivery())
    with pytest.raises(Refused) as caught:
        receiver.take(delivery(), lambda: None)
    assert caught.value.reason == "not-registered"
    assert receiver.broker.sent == 5
    assert receiver.told == ["adjusted", *["unconfirmed"] * 4, "notify-failed"]


def test_a_fault_ends_with_the_next_message_that_is_taken() -> None:
    receiver = Receiver()
    receiver.broker.away = "redis://x: refused"
    with pytest.raises(NotTaken):
        receiver.take(delivery(), lambda: None)
    assert receiver.fault == "redis://x: refused"
    receiver.broker.away = ""
    put_off(receiver, delivery())
    assert receiver.fault == ""


def test_a_cube_that_does_not_answer_holds_up_no_message() -> None:
    receiver = Receiver()
    put_off(receiver, delivery())
    receiver.cube.denies = True
    put_off(receiver, delivery())
    assert "403" in receiver.fault
    put_off(receiver, delivery()._replace(key="1.2.4/1"))
    assert receiver.broker.sent == 2
    assert "403" in receiver.fault

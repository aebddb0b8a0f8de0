"""What is told over NATS: numbers that grew, none that wait, and how a generation or a file ended."""

from __future__ import annotations

import pytest

from listener.ledger.rows import Change, Delivery, SeriesRow, SetAsideRow
from listener.notify import lonk
from listener.notify.nats_client import Progress
from listener.notify.telling import NatsReceiver, ProgressTeller
from listener.stages.outbox import Outbox

_TEXTS = ("P1", "", "MR", "MY PACS", "/in", "open", "")
ROW = SeriesRow(7, "1.2.3", "1.2", *_TEXTS, *(1, 2, 100, 0), "", *(0, 1, 2, 3, 0), folder="SERVICES/PACS/MY_PACS/a/b/c")


class Nats:
    """Takes what is told, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.numbers: list[tuple[str, int]] = []
        self.ends: list[tuple[int, int, list[tuple[str, bytes]]]] = []

    def tell_progress(self, progress: list[Progress]) -> bool:
        if not self.away:
            self.numbers += [(one.subject, one.instances) for one in progress]
        return not self.away

    def tell_end(self, key: int, generation: int, messages: list[tuple[str, bytes]]) -> None:
        self.ends.append((key, generation, messages))


class Counted(Outbox):
    """Keeps what is counted."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.counts: list[tuple[str, int]] = []

    def count(self, name: str, amount: int = 1, *labels: str) -> None:
        self.counts.append((" ".join((name, *labels)), amount))


def grown(instances: int, series: int = 7) -> SeriesRow:
    return ROW._replace(id=series, SeriesInstanceUID=f"1.2.{series}", instances=instances)


def test_a_number_is_told_when_it_grew_and_again_after_the_connection_came_back() -> None:
    nats, outbox = Nats(), Counted()
    teller = ProgressTeller("oxidicom", nats, outbox)  # type: ignore[arg-type]
    for rows in ([grown(0)], [grown(1)], [grown(1)], [grown(1), grown(4, 8)], [grown(3), grown(4, 8)]):
        teller.tell(rows)
    subjects = {series: f"oxidicom.MY_PACS.1_2_{series}" for series in (7, 8)}
    assert nats.numbers == [(subjects[7], 1), (subjects[8], 4), (subjects[7], 3)]
    nats.numbers.clear()
    teller.tell([grown(3), grown(4, 8)])
    assert nats.numbers == []
    teller.begin_anew()
    teller.tell([grown(3), grown(4, 8)])
    assert nats.numbers == [(subjects[7], 3), (subjects[8], 4)]
    assert outbox.counts[-1] == ("notify_messages_total nats number", 2)


def test_while_nats_is_away_numbers_are_dropped_and_counted() -> None:
    nats, outbox = Nats(), Counted()
    teller = ProgressTeller("oxidicom", nats, outbox)  # type: ignore[arg-type]
    nats.away = True
    teller.tell([grown(1)])
    teller.tell([grown(2), grown(1, 8)])
    assert outbox.counts == [("notify_dropped_total", 1), ("notify_dropped_total", 2)]
    nats.away = False
    teller.tell([grown(5), grown(1, 8)])
    assert [number for _, number in nats.numbers] == [5, 1], "those of meanwhile are gone"


def told(delivery: Delivery) -> list[tuple[int, int, list[tuple[str, bytes]]]]:
    nats = Nats()
    NatsReceiver("oxidicom", nats, Counted()).take(delivery, lambda: None)  # type: ignore[arg-type]
    return nats.ends


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (Change(3, 1, "complete", "quiet", 5, 100, 0), [lonk.number(5), lonk.done()]),
        (Change(1, 1, "incomplete", "timeout", 4, 100, 9), [lonk.error("incomplete: 4 of 9 instances")]),
    ],
)
def test_how_a_generation_ended(change: Change, messages: list[bytes]) -> None:
    ((key, generation, sent),) = told(Delivery(1, "x", "1.2.3/1", 1, "x", series=ROW, change=change))
    assert (key, generation) == (7, change.generation)
    assert sent == [("oxidicom.MY_PACS.1_2_3", message) for message in messages]


@pytest.mark.parametrize(("series", "number"), [("1.2.9", 1), ("", 0)])
def test_a_file_that_was_set_aside_is_told_where_its_series_is_known(series: str, number: int) -> None:
    names = {"reason": "incomplete", "sender": "MY PACS", "SeriesInstanceUID": series}
    aside = SetAsideRow(**{name: names.get(name, 0) for name in SetAsideRow._fields})  # type: ignore[arg-type]
    ends = told(Delivery(1, "set-aside", "x", 1, "x", aside=aside))
    message = ("oxidicom.MY_PACS.1_2_9", lonk.error("a file was set aside: incomplete"))
    assert [sent for _, _, sent in ends] == [[message]] * number

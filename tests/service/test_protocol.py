"""What is sent to workers and back arrives as it was, field by field."""

from __future__ import annotations

from multiprocessing import Pipe
from typing import Any

import pytest

from listener.records import OUTCOMES, Arrival, Deferral, Outcome
from listener.service import protocol
from listener.service.protocol import DEFERRED

NOW = 99


def named(record: type[Any], /, **fields: Any) -> Any:
    """A record whose fields hold their own names."""
    return record(**{name: name for name in record._fields} | fields)


def sent(message: Any) -> Any:
    """What comes out of a pipe that a message was sent into."""
    ours, theirs = Pipe()
    with ours, theirs:
        protocol.send(theirs, message)
        return protocol.receive(ours)


def test_arrivals_arrive_with_every_field() -> None:
    arrivals = [named(Arrival), named(Arrival, path="other")]
    assert protocol.unpack_arrivals(sent(protocol.pack_arrivals(arrivals))) == arrivals


@pytest.mark.parametrize("kind", OUTCOMES)
def test_an_outcome_arrives_with_every_field_and_is_finished_when_it_is_received(kind: str) -> None:
    (outcome,) = protocol.unpack_results(sent(protocol.pack_results([named(Outcome, kind=kind)])), NOW)
    assert isinstance(outcome, Outcome)
    assert outcome == named(Outcome, kind=kind, finished_ns=NOW)


def test_results_are_told_apart_by_their_first_field_and_stay_in_order() -> None:
    results = [named(Deferral), named(Outcome, kind="published", finished_ns=NOW), named(Deferral, path=DEFERRED)]
    wire = protocol.pack_results(results)
    assert [fields[0] for fields in wire] == [DEFERRED, "published", DEFERRED]
    assert protocol.unpack_results(sent(wire), NOW) == results


def test_no_outcome_is_of_the_kind_that_marks_a_deferral() -> None:
    assert DEFERRED not in OUTCOMES
    assert Outcome._fields[0] == "kind"

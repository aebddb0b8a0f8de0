from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from listener.export.address import parse
from listener.export.faults import TargetFault
from listener.export.objects import ObjectTarget
from tests.export.memory import content
from tests.export.proxy import Answer, Asked, Front, front

pytest.importorskip("obstore")

ONE = content("data/a", b"the content")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A store of the tests' own that answers as its script says; there is none behind it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with front("http://127.0.0.1:1") as one:
        yield one


def refused(store: Front) -> TargetFault:
    with closing(ObjectTarget(parse("s3://bucket/x"), store.endpoint, 5 * 2**20, 2**24)) as target:
        with pytest.raises(TargetFault) as caught:
            target.create(ONE, lambda _size: None)
        return caught.value


@pytest.mark.parametrize("status", [429, 503])
def test_a_store_that_is_busy_is_left_alone_as_long_as_it_asks(store: Front, status: int) -> None:
    store.script = lambda _asked: Answer(status, [("Retry-After", "7")], b"<Error><Code>SlowDown</Code></Error>")
    fault = refused(store)
    assert fault.pause == 7
    assert fault.detail == f"the store answers {status} SlowDown, and asks for 7 s"
    (asked,) = [one for one in store.asked if one.method == "HEAD"]
    assert "/bucket/x/.listener/condition?" in asked.path


@pytest.mark.parametrize("answer", [Answer(503, [], b""), Answer(200, [], b""), "reset"], ids=str)
def test_one_that_asks_for_nothing_is_tried_again_by_our_own_pauses(store: Front, answer: Answer | str) -> None:
    def script(asked: Asked) -> Answer | str:
        return Answer(503, [], b"") if asked.method == "PUT" else answer

    store.script = script
    fault = refused(store)
    assert (fault.pause, fault.detail) == (0, "the store answers 503")


def test_an_error_of_another_kind_is_not_asked_about(store: Front) -> None:
    store.script = lambda _asked: Answer(500, [("Retry-After", "7")], b"")
    assert refused(store).pause == 0
    assert not [one for one in store.asked if one.method == "HEAD"]

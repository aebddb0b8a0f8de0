from __future__ import annotations

from collections import Counter

import pytest

from listener.disk import retry
from listener.export import keys, upload
from listener.export.faults import NotThere, Stopped, TargetFault, TargetRefuses
from listener.export.flow import Flow
from listener.export.upload import Rules, Uploader, Written
from tests.export.memory import MemoryTarget, content

DATA = content("data/a", b"the content")
OTHER = keys.in_conflict(DATA.key, DATA.sha256)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    monkeypatch.setattr(upload, "pause", lambda attempt: retry.pause(attempt) / 100)
    return MemoryTarget()


def uploader(target: MemoryTarget, *, reads: bool = True) -> tuple[Uploader, Counter[str]]:
    counted: Counter[str] = Counter()

    def count(name: str, amount: int) -> None:
        counted[name.removeprefix("export_").removesuffix("_total")] += amount

    return Uploader(target, Rules(reads=reads), Flow(), count), counted


def fails(target: MemoryTarget, operation: str, times: int, fault: Exception, *, done: bool = False) -> None:
    """The first `times` calls fail; `done`: after they did what they were to do."""
    left = [times]

    def fail(name: str, _key: str) -> None:
        if name == operation and left[0]:
            left[0] -= 1
            raise fault

    if done:
        target.after = fail
    else:
        target.before = fail


def test_a_new_object_is_created_and_read_back(target: MemoryTarget) -> None:
    one, counted = uploader(target)
    assert one.put(DATA, looks=False) == DATA.key
    assert target.calls == ["create", "read"]
    assert counted == {"bytes": 11, "verified_bytes": 11}


def test_what_is_there_is_read_and_not_written_again(target: MemoryTarget) -> None:
    one, counted = uploader(target)
    one.put(DATA)
    target.calls.clear()
    assert [one.put(DATA, looks=looks) for looks in (True, False)] == [DATA.key] * 2
    assert target.calls == ["look", "read", "create", "look", "read"]
    assert counted["bytes"] == 11


@pytest.mark.parametrize("there", [b"another one", b"short"])
def test_another_content_stays_and_ours_gets_a_key_of_its_own(target: MemoryTarget, there: bytes) -> None:
    target.objects[DATA.key] = there
    one, counted = uploader(target)
    assert one.put(DATA) == OTHER
    assert (target.objects[DATA.key], target.objects[OTHER]) == (there, b"the content")
    assert counted["conflicts"] == 1
    assert one.put(DATA) == OTHER


def test_two_other_contents_are_told(target: MemoryTarget) -> None:
    target.objects |= {DATA.key: b"x", OTHER: b"y"}
    with pytest.raises(TargetFault, match="audit"):
        uploader(target)[0].put(DATA)


@pytest.mark.parametrize("done", [False, True])
def test_after_an_error_it_looks_what_is_there(target: MemoryTarget, done: bool) -> None:
    fails(target, "create", 2, TargetFault("reset"), done=done)
    one, counted = uploader(target)
    assert one.put(DATA, looks=False) == DATA.key
    assert target.objects == {DATA.key: b"the content"}
    assert counted["retries"] == (1 if done else 2)


def test_a_target_that_goes_on_failing_is_given_up_for_now(target: MemoryTarget) -> None:
    fails(target, "create", 9, TargetFault("reset"))
    with pytest.raises(TargetFault, match="reset"):
        uploader(target)[0].put(DATA)


@pytest.mark.parametrize("fault", [TargetRefuses("no bucket"), TargetFault("busy", pause=5)])
def test_a_refusal_and_a_pause_that_is_asked_for_are_not_argued_with(target: MemoryTarget, fault: TargetFault) -> None:
    fails(target, "create", 1, fault)
    with pytest.raises(TargetFault):
        uploader(target)[0].put(DATA)
    assert target.calls == ["look", "create"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_store_that_takes_and_keeps_nothing_is_found(target: MemoryTarget, reads: bool) -> None:
    target.stored = lambda _data: None
    with pytest.raises(NotThere):
        uploader(target, reads=reads)[0].put(DATA)


@pytest.mark.parametrize("stored", [lambda data: data[:-1], lambda data: b"X" + data[1:]])
def test_an_object_that_was_altered_on_its_way_is_left_and_sent_again(target: MemoryTarget, stored: object) -> None:
    first = [stored]

    def once(data: bytes) -> bytes:
        return first.pop()(data) if first else data  # type: ignore[operator]

    target.stored = once
    assert uploader(target)[0].put(DATA) == OTHER
    assert target.objects[OTHER] == b"the content"


def test_what_was_altered_on_its_way_back_is_read_again(target: MemoryTarget) -> None:
    first = [b"altered"]
    target.given = lambda data: first.pop() if first else data
    one, counted = uploader(target)
    assert one.put(DATA) == DATA.key
    assert counted["conflicts"] == 0


def test_by_head_the_size_and_the_target_s_digest_count(target: MemoryTarget) -> None:
    one, _ = uploader(target, reads=False)
    assert one.put(DATA, looks=False) == DATA.key
    assert target.calls == ["create", "look"]
    assert one.put(DATA) == DATA.key
    target.digests[DATA.key] = "00"
    assert one.put(DATA) == OTHER
    target.digests.clear()
    target.calls.clear()
    assert one.put(DATA) == DATA.key
    assert target.calls == ["look", "read"], "a target that knows no digest is read"


def test_what_is_to_be_verified_later_is_neither_read_nor_looked_at(target: MemoryTarget) -> None:
    one, counted = uploader(target, reads=False)
    written: list[Written] = []
    for name in "abc":
        assert one.put(content(f"data/{name}", b"the content"), looks=False, later=written.append) == f"data/{name}"
    assert target.calls == ["create"] * 3
    assert counted["bytes"] == 33
    assert one.lost(written) == []
    assert target.calls[3:] == ["look_at"]


def test_what_a_listing_does_not_show_as_it_was_written_is_lost(target: MemoryTarget) -> None:
    one, _ = uploader(target, reads=False)
    written: list[Written] = []
    for name in "abcd":
        one.put(content(f"data/{name}", b"the content"), later=written.append)
    del target.objects["data/a"]
    target.objects["data/b"] = b"shorter"
    target.objects["data/c"] = b"THE CONTENT"
    assert one.lost(written) == ["data/a", "data/b", "data/c"]


def test_what_was_there_before_is_verified_at_once(target: MemoryTarget) -> None:
    one, _ = uploader(target, reads=False)
    target.objects[DATA.key] = b"another one"
    written: list[Written] = []
    assert one.put(DATA, later=written.append) == OTHER
    assert [one.key for one in written] == [OTHER]
    written.clear()
    assert one.put(DATA, later=written.append) == OTHER
    assert written == []


def test_what_must_be_read_back_is_read_whatever_the_rules_say(target: MemoryTarget) -> None:
    one, _ = uploader(target, reads=False)
    assert one.put(DATA, looks=False, reads=True) == DATA.key
    assert target.calls == ["create", "read"]
    assert one.put(DATA, reads=True) == DATA.key
    assert target.calls == ["create", "read", "look", "read"]


def test_it_stops_when_it_is_told() -> None:
    flow = Flow()
    flow.abort()
    one = Uploader(MemoryTarget(), Rules(), flow, lambda _name, _amount: None)
    with pytest.raises(Stopped):
        one.put(DATA)

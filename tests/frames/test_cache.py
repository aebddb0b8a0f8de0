"""The frame cache over a real collection, and over an origin that a test holds back."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import ConfigError, ListenerError
from listener.frames import (
    FrameCache,
    InstanceReference,
    InvalidFrameNumberError,
    InvalidLRUMaxCacheSizeError,
    OptimizationHint,
    UnexpectedTypeError,
)
from listener.frames.blocks import block, ranges
from listener.frames.origins import Reading
from tests.frames.collection import Collection
from tests.frames.lines import Lines
from tests.frames.making import JPEG, Maker, header, jpeg
from tests.waiting import until

QPM = OptimizationHint.MINIMIZE_DICOM_STORE_QPM
LATENCY = OptimizationHint.MINIMIZE_LATENCY
AT_ONCE = OptimizationHint.DO_NOT_BLOCK_RETURN_NONE_IMMEDIATELY_IF_NOT_IN_CACHE

SLIDE = InstanceReference("1.2.3", "1.2.3.1", "1.2.3.4")


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


def cache_of(collection: Collection, **settings: Any) -> FrameCache:
    return FrameCache(data=str(collection.data), state=collection.state, **settings)


def look_at_once(cache: FrameCache) -> None:
    """It is time to look whether instances were replaced."""
    for held in cache._memory._held.values():
        held.look_at = 0.0


class Held:
    """An origin that gives `frames` when the test lets it, and counts what it was asked for."""

    def __init__(self, frames: int, size: int = 4) -> None:
        self.frames = [bytes([number % 256]) * size for number in range(frames)]
        self.asked: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.at: object = 1

    def stamp(self, instance: InstanceReference) -> object:
        return self.at

    @contextlib.contextmanager
    def read(self, instance: InstanceReference, numbers: Sequence[int], whole: bool) -> Iterator[Reading]:
        self.asked.append(list(numbers))
        assert self.go.wait(120)
        if self.error:
            raise self.error
        there = [number for number in numbers if number <= len(self.frames)]
        yield Reading(self.at, len(self.frames), ((number, self.frames[number - 1]) for number in there))

    def close(self) -> None:
        pass


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[FrameCache, Held]]]:
    made: list[tuple[FrameCache, Held]] = []

    def make(frames: int = 20, **settings: Any) -> tuple[FrameCache, Held]:
        cache, origin = FrameCache(data="/nowhere", state="/nowhere", **settings), Held(frames)
        cache._loader._origin = origin
        made.append((cache, origin))
        return made[-1]

    yield make
    for cache, origin in made:
        origin.go.set()
        cache.close()


def test_every_frame_of_a_slide_is_what_was_put_in(collection: Collection) -> None:
    url, frames = collection.slide(40)
    with cache_of(collection) as cache:
        assert [cache.get_frame(url, 40, number) for number in range(1, 41)] == frames
        assert cache.get_frame(url, 40, 7) is cache.get_frame(SLIDE, 40, 7)
        stats = cache.cache_stats
        assert (stats.number_of_dicom_instances_read, stats.frame_cache_miss_count) == (1, 1)
        assert (stats.number_of_frames_read_in_dicom_instances, stats.frame_cache_hit_count) == (40, 41)
        assert stats.number_of_frame_bytes_read_in_dicom_instances == sum(map(len, frames))
        assert (stats.first_frame_number_read, stats.last_frame_number_read) == (1, 40)
        assert stats.current_frame_cache_memory_size == sum(map(len, frames))
        assert stats.frame_cache_memory_size_limit is None
        assert stats.system_memory
        assert stats.system_memory.total > stats.system_memory.available > 0


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/dicom-web/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4",
        "/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4/frames/1",
        SLIDE,
        SimpleNamespace(complete_url="http://h/v1/studies/1.2.3/series/1.2.3.1/instances/1.2.3.4"),
    ],
    ids=str,
)
def test_an_instance_has_several_names(name: Any, collection: Collection) -> None:
    url, frames = collection.slide(3)
    with cache_of(collection) as cache:
        assert cache.get_frame(url, 3, 1) == frames[0]
        assert cache.get_cached_frame(name, 2) == frames[1]


@pytest.mark.parametrize("name", ["", "studies/1", "studies/a/series/b/instances/c", "studies/1/series/2/instances/3x"])
def test_what_names_no_instance_is_refused(name: str, held: Any) -> None:
    cache, _ = held()
    with pytest.raises(ValueError, match="names no instance"):
        cache.get_frame(name, 1, 1)
    with pytest.raises(TypeError):
        cache.get_frame(7, 1, 1)


@pytest.mark.parametrize("number", [-1, 0, 21, 2**64])
def test_a_number_outside_of_the_instance_has_no_frame(number: int, held: Any) -> None:
    cache, origin = held()
    assert cache.get_frame(SLIDE, 20, number) is None
    assert (origin.asked, cache.cache_stats.frame_cache_miss_count) == ([], 0)


def test_a_large_instance_is_loaded_in_blocks(held: Any) -> None:
    cache, origin = held(
        1000,
        number_of_frames_to_read=10,
        max_instance_number_of_frames_to_prefer_whole_instance_download=1000,
    )
    for number in (500, 509, 510, 495, 520, 505):
        assert cache.get_frame(SLIDE, 1000, number) == origin.frames[number - 1]
    assert origin.asked == [
        list(range(500, 510)),
        list(range(510, 520)),
        list(range(490, 500)),
        list(range(520, 530)),
    ]
    stats = cache.cache_stats
    assert (stats.number_of_frame_blocks_read, stats.number_of_frames_read_in_frame_blocks) == (4, 40)


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 20), st.sets(st.integers(1, 60)))
def test_a_block_has_the_wanted_frame_and_nothing_that_is_busy(
    count: int, number: int, size: int, busy: set[int]
) -> None:
    number = min(number, count)
    numbers = block(number, count, size, lambda one: one in busy and one != number)
    assert number in numbers
    assert len(numbers) <= size
    assert numbers == sorted(set(numbers) - (busy - {number}))
    assert set(numbers) <= set(range(1, count + 1))
    assert [one for first, last in ranges(numbers) for one in range(first, last + 1)] == numbers


def missed(cache: FrameCache, count: int) -> bool:
    return cache.cache_stats.frame_cache_miss_count == count


def test_sixteen_who_want_a_cold_frame_cause_one_fetch(held: Any) -> None:
    for hint in (QPM, LATENCY):
        cache, origin = held()
        origin.go.clear()
        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(cache.get_frame, SLIDE, 20, 5, hint) for _ in range(16)]
            until(partial(missed, cache, 16), 20)
            origin.go.set()
            assert {answer.result() for answer in answers} == {origin.frames[4]}
        cache.block_until_frames_are_loaded()
        assert sorted(number for numbers in origin.asked for number in numbers) == list(range(1, 21))


def test_a_waiter_waits_for_its_own_load_alone(held: Any) -> None:
    cache, origin = held()
    other = InstanceReference("1.2.3", "1.2.3.1", "1.2.3.5")
    origin.go.clear()
    assert cache.get_frame(other, 20, 1, AT_ONCE) is None
    until(lambda: origin.asked != [], 20)
    origin.read, before = Held(20).read, origin.read
    assert cache.get_frame(SLIDE, 20, 1) is not None
    assert cache.get_cached_frame(other, 1) is None
    origin.read = before


def test_the_hint_of_the_call_is_obeyed(held: Any) -> None:
    cache, origin = held(optimization_hint=AT_ONCE)
    assert cache.get_frame(SLIDE, 20, 3) is None
    cache.block_until_frames_are_loaded()
    assert cache.get_frame(SLIDE, 20, 3) == origin.frames[2]
    other = InstanceReference("1", "2", "3")
    assert cache.get_frame(other, 20, 3, SimpleNamespace(value="MINIMIZE_LATENCY")) == origin.frames[2]
    cache.block_until_frames_are_loaded(other)
    assert origin.asked[1:] == [[3], [1, 2, *range(4, 21)]] or origin.asked[1:] == [[1, 2, *range(4, 21)], [3]]
    assert cache.cache_stats.number_of_frames_downloaded_to_reduce_latency == 1
    cache.optimization_hint = QPM
    assert cache.get_frame(InstanceReference("1", "2", "4"), 20, 3) == origin.frames[2]
    assert cache.optimization_hint is QPM


def test_an_instance_of_one_frame_is_waited_for(held: Any) -> None:
    cache, origin = held(1, optimization_hint=LATENCY)
    assert cache.get_frame(SLIDE, 1, 1) == origin.frames[0]
    assert cache.cache_stats.number_of_frames_downloaded_to_reduce_latency == 0
    assert cache.get_frame(InstanceReference("1", "2", "3"), 1, 1, LATENCY) == origin.frames[0]
    assert cache.cache_stats.number_of_frames_downloaded_to_reduce_latency == 1


def test_the_least_recently_used_go_first(held: Any) -> None:
    cache, origin = held(20, max_cache_frame_memory_lru_cache_size_bytes=80)
    assert cache.lru_caching_enabled
    assert cache.get_frame(SLIDE, 20, 1) == origin.frames[0]
    assert cache.get_cached_frame(SLIDE, 2) == origin.frames[1]
    assert cache.cache_externally_acquired_bytes("icon", b"12345678")
    assert cache.get_cached_externally_acquired_bytes("icon") == b"12345678"
    assert [number for number in range(1, 21) if cache.get_cached_frame(SLIDE, number) is None] == [1, 3]
    assert cache.cache_stats.current_frame_cache_memory_size == 80


def test_what_is_larger_than_the_cache_is_returned_and_not_kept(held: Any) -> None:
    lines = Lines()
    cache, origin = held(20, max_cache_frame_memory_lru_cache_size_bytes=3, logging_factory=lines)
    assert cache.get_frame(SLIDE, 20, 6) == origin.frames[5]
    assert cache.get_cached_frame(SLIDE, 6) is None
    assert not cache.cache_externally_acquired_bytes("icon", b"1234")
    assert cache.get_cached_externally_acquired_bytes("icon") is None
    assert lines.warned() == [
        "the cache is smaller than what was loaded at once",
        "the bytes are larger than the cache, and not kept",
    ]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one_byte(limit: int) -> None:
    with pytest.raises(InvalidLRUMaxCacheSizeError):
        FrameCache(data="/d", state="/s", max_cache_frame_memory_lru_cache_size_bytes=limit)


def test_a_cache_needs_an_origin_and_known_settings() -> None:
    with pytest.raises(ConfigError):
        FrameCache(data="/d")
    with pytest.raises(TypeError, match="colour"):
        FrameCache(data="/d", state="/s", colour="red")  # type: ignore[call-arg]


def test_frames_are_preloaded_once(held: Any) -> None:
    lines = Lines()
    cache, origin = held(50, logging_factory=lines)
    cache.preload_instance_frame_numbers({SLIDE: [7, 3, 3, 4], "studies/1/series/2/instances/3": []})
    cache.block_until_frames_are_loaded()
    cache.preload_instance_frame_numbers({SLIDE.complete_url: [3, 4, 5, 99]})
    cache.block_until_frames_are_loaded()
    assert origin.asked == [[3, 4, 7], [5, 99]]
    assert lines.warned() == ["frame numbers are not sorted: sorted ones are quicker"]
    told = [items["ranges"] for _, message, items in lines.lines if message == "frames were loaded"]
    assert told == [[(3, 4), (7, 7)], [(5, 5), (99, 99)]]
    with pytest.raises(InvalidFrameNumberError):
        cache.preload_instance_frame_numbers({SLIDE: [1, 0]})


def test_what_another_cache_has_is_copied(held: Any) -> None:
    one, _ = held(20)
    one.get_frame(SLIDE, 20, 1)
    other, second = held(30)
    other.preload_instance_frame_numbers({SLIDE: [19, 20, 21]}, copy_from_cache=one)
    other.block_until_frames_are_loaded()
    assert second.asked == [[21]]
    assert other.get_cached_frame(SLIDE, 20) is one.get_cached_frame(SLIDE, 20)


def test_whole_instances_and_levels_are_cached(held: Any) -> None:
    cache, origin = held(20)
    uids = ["1.1", "1.2"]
    instances = {
        uid: SimpleNamespace(dicom_object=SimpleNamespace(path=InstanceReference("1", "2", uid)), frame_count=20)
        for uid in uids
    }
    cache.cache_whole_instance_in_memory(SimpleNamespace(instances=instances), blocking=True)
    assert [cache.get_cached_frame(InstanceReference("1", "2", uid), 20) for uid in uids] == [origin.frames[19]] * 2
    cache.cache_whole_instance_in_memory(instances["1.1"], blocking=True)
    cache.cache_whole_instance_in_memory((SLIDE, 20), blocking=False)
    cache.block_until_frames_are_loaded(SLIDE)
    assert len(origin.asked) == 3
    with pytest.raises(UnexpectedTypeError):
        cache.cache_whole_instance_in_memory("studies/1/series/2/instances/3", blocking=True)


def test_waiting_has_one_time_out_for_all(held: Any) -> None:
    cache, origin = held()
    assert cache.block_until_frames_are_loaded() == 0.0
    origin.go.clear()
    for uid in ("1", "2", "3"):
        cache.get_frame(InstanceReference("1", "2", uid), 20, 1, AT_ONCE)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        cache.block_until_frames_are_loaded(timeout=0.2)
    assert time.monotonic() - begin < 60
    assert cache.block_until_frames_are_loaded(SLIDE) == 0.0
    origin.go.set()
    assert cache.block_until_frames_are_loaded(timeout=None) > 0
    assert cache.cache_stats.time_spent_blocked_waiting_for_cache_loading_to_complete > 0.2


def test_a_failed_load_is_none_and_rests_the_instance(held: Any) -> None:
    lines = Lines()
    cache, origin = held(logging_factory=lines)
    for error in (ListenerError("no"), OSError(5, "Input/output error", "/patient"), RuntimeError("Patient^Name")):
        origin.error = error
        instance = InstanceReference("1", "2", f"3.{len(origin.asked)}")
        assert cache.get_frame(instance, 20, 1) is None
        asked = len(origin.asked)
        assert cache.get_frame(instance, 20, 1) is None
        assert cache.get_frame(instance, 20, 1, LATENCY) is None
        assert len(origin.asked) == asked
    assert lines.failed() == ["frames could not be loaded"] * 3
    assert "atient" not in str(lines.lines)
    origin.error = None
    until(lambda: cache.get_frame(instance, 20, 1) == origin.frames[0], 20)


def test_another_number_of_frames_and_none_at_all_are_told(collection: Collection) -> None:
    lines = Lines()
    url, frames = collection.slide(4)
    none = Maker(SOPInstanceUID="1.2.3.9")
    report = collection.add(none, none.file(none.header(1, 1, 8, 1)))
    with cache_of(collection, logging_factory=lines) as cache:
        assert cache.get_frame(url, 9, 9) is None
        assert cache.get_frame(url, 9, 4) == frames[3]
        assert cache.get_frame(url, 2, 1) == frames[0]
        assert cache.get_frame(report, 1, 1) is None
    assert lines.warned() == [
        "the instance has another number of frames than was said",
        "the instance has no frames",
    ]
    assert lines.failed() == []


def test_a_replaced_instance_is_never_served_from_memory(collection: Collection) -> None:
    url, frames = collection.slide(5)
    with cache_of(collection) as cache:
        assert cache.get_frame(url, 5, 2) == frames[1]
        _, others = collection.slide(5, salt=9)
        look_at_once(cache)
        assert cache.get_frame(url, 5, 2) == others[1]
        assert cache.get_cached_frame(url, 1) == others[0]
        collection.path().unlink()
        look_at_once(cache)
        assert cache.get_frame(url, 5, 2) is None


def test_it_is_looked_whether_an_instance_was_replaced_once_a_second(held: Any) -> None:
    cache, origin = held(logging_factory=Lines())
    cache.get_frame(SLIDE, 20, 1)
    origin.at = 2
    until(lambda: cache.get_cached_frame(SLIDE, 1) is None, 20)


def test_an_instance_under_another_name_is_found_again(collection: Collection) -> None:
    url, frames = collection.slide(5)
    with cache_of(collection) as cache:
        assert cache.get_frame(url, 5, 2) == frames[1]
        collection.path().unlink()
        maker = Maker(JPEG, SOPInstanceUID="1.2.3.4")
        others = [jpeg(number + 50) for number in range(5)]
        collection.add(maker, maker.encapsulated(header(frames=5), [[one] for one in others]), "0002-1.2.3.4.dcm")
        look_at_once(cache)
        assert cache.get_frame(url, 5, 2) == others[1]


def test_an_unknown_instance_is_none(collection: Collection) -> None:
    lines = Lines()
    collection.slide(2)
    with cache_of(collection, logging_factory=lines) as cache:
        assert cache.get_frame("studies/1.2.3/series/1.2.3.1/instances/9", 1, 1) is None
        assert cache.get_frame("studies/9/series/1.2.3.1/instances/1.2.3.4", 1, 1) is None
    assert len(lines.failed()) == 2


@pytest.mark.parametrize("way", [lambda cache: pickle.loads(pickle.dumps(cache)), copy.copy, copy.deepcopy])  # noqa: S301
def test_a_copy_has_the_settings_and_nothing_else(
    way: Callable[[FrameCache], FrameCache], collection: Collection
) -> None:
    url, frames = collection.slide(5)
    with cache_of(collection, max_cache_frame_memory_lru_cache_size_bytes=10_000, optimization_hint=AT_ONCE) as cache:
        cache.get_frame(url, 5, 1, QPM)
        with way(cache) as other:
            assert other.cache_instance_uid == cache.cache_instance_uid
            assert (other.lru_caching_enabled, other.optimization_hint) == (True, AT_ONCE)
            assert other.get_cached_frame(url, 1) is None
            assert other.cache_stats.frame_cache_miss_count == 0
            assert other.get_frame(url, 5, 1, QPM) == frames[0]
            other.optimization_hint = QPM
            assert cache.optimization_hint is AT_ONCE


def test_lines_carry_the_trace_ids_of_cache_and_worker(held: Any) -> None:
    lines = Lines()
    cache, _ = held(logging_factory=lines)
    cache.get_frame(SLIDE, 20, 1)
    cache.reset_cache_stats()
    assert cache.cache_stats.frame_cache_miss_count == 0
    cache.get_frame(InstanceReference("1", "2", "3"), 20, 1)
    caches = {items["instance_cache_lifetime_trace_uid"] for *_, items in lines.lines}
    workers = {items["instance_cache_worker_trace_uid"] for *_, items in lines.lines}
    assert (caches, len(workers)) == ({cache.cache_instance_uid}, 2)
    assert all(items["seconds"] >= 0 for _, message, items in lines.lines if message == "frames were loaded")


def test_python_s_own_logging_is_the_default(collection: Collection, caplog: pytest.LogCaptureFixture) -> None:
    url, _ = collection.slide(3)
    caplog.set_level("INFO", "listener.frames")
    with cache_of(collection) as cache:
        cache.get_frame(url, 3, 1)
    assert f"instance: {url}; ranges: [(1, 3)]; seconds: " in caplog.text


def test_a_closed_cache_gives_what_it_has(collection: Collection) -> None:
    url, frames = collection.slide(3)
    other, _ = collection.slide(3, "1.2.3.5")
    cache = cache_of(collection)
    cache.get_frame(url, 3, 1)
    cache.close()
    cache.close()
    assert cache.get_frame(url, 3, 2) == frames[1]
    assert cache.get_frame(other, 3, 2) is None
    links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
    assert [link for link in links if str(collection.data) in link] == []


def test_random_use_by_many_threads_gives_no_wrong_frame(collection: Collection) -> None:
    slides = {uid: collection.slide(60, uid, salt) for salt, uid in enumerate(("1.1", "1.2", "1.3"))}
    settings = {
        "max_cache_frame_memory_lru_cache_size_bytes": 1000,
        "number_of_frames_to_read": 7,
        "max_instance_number_of_frames_to_prefer_whole_instance_download": 5,
    }

    def work(seed: int) -> int:
        import random

        rng, wrong = random.Random(seed), 0
        for _ in range(150):
            url, frames = slides[rng.choice(list(slides))]
            number, hint = rng.randint(1, 60), rng.choice([QPM, LATENCY, AT_ONCE])
            got = cache.get_frame(url, 60, number, hint)
            wrong += got != frames[number - 1] and not (got is None and hint is AT_ONCE)
        return wrong

    with cache_of(collection, **settings) as cache, ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0
        cache.block_until_frames_are_loaded()
        assert (cache.cache_stats.current_frame_cache_memory_size or 0) <= 1000

"""Gets frames from an origin into memory: in the background, or at once; each of them once, however many wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from listener.errors import ListenerError
from listener.frames.blocks import block, ranges
from listener.frames.errors import NoFrames
from listener.frames.loads import Load, Loads
from listener.frames.memory import Memory
from listener.frames.origins import Origin, Reading
from listener.frames.reference import InstanceReference
from listener.frames.settings import CacheStats, Logger, OptimizationHint
from listener.reasons import internal

#: Threads that load in the background.
_THREADS = 4

#: Seconds for which a miss waits for its load.
PATIENCE = 600.0


class Loader:
    """Memory, loads and figures of a cache, for any number of threads. `size` is the number of frames of a block; an
    instance with fewer than `whole_below` is loaded whole. `log` returns the logger.
    """

    def __init__(self, origin: Origin, memory: Memory, size: int, whole_below: int, log: Callable[[], Logger]) -> None:
        self._origin, self._memory, self._log = origin, memory, log
        self._size, self._whole_below = size, whole_below
        self._lock = threading.Lock()
        self._loads = Loads()
        self._pool = ThreadPoolExecutor(_THREADS, "listener-frames")
        self._is_closed = False
        self.stats = CacheStats()

    def hit(self, key: InstanceReference, number: int) -> bytes | None:
        """Return a frame that is in memory, and count it; None otherwise: see miss()."""
        if self._memory.is_due(key, time.monotonic()):
            self._look(key)
        with self._lock:
            frame = self._memory.get((key, number))
            if frame is not None:
                self.stats.asked(number)
                self.stats.frame_cache_hit_count += 1
            return frame

    def miss(self, key: InstanceReference, count: int, number: int, hint: OptimizationHint) -> bytes | None:
        """Do what the hint says to get a frame that was not in memory; return it, or None."""
        at_once = hint is OptimizationHint.MINIMIZE_LATENCY
        waits = at_once or hint is OptimizationHint.MINIMIZE_DICOM_STORE_QPM
        with self._lock:
            self.stats.asked(number)
            self.stats.frame_cache_miss_count += 1
            frame = self._memory.get((key, number))
            if frame is not None:  # It has come since.
                return frame
            load = self._loads.of(key, number)
            mine = load is None and at_once and self._may_load(key)
            if mine:
                load = Load("latency", key, [number], count)
                self._loads.begin(load)
            if load is None or mine:
                behind = self._begin(self._around(key, count, number))
                load = load or behind
            if load and waits:
                load.wanted.setdefault(number, None)
        if load and mine:
            self._run(load)
        self._log().debug("the frame is not cached", _about(key, frame=number))
        return self._result(load, number) if load and waits else None

    def cached(self, key: InstanceReference, number: int) -> bytes | None:
        """Return a frame that is in memory, None otherwise."""
        if self._memory.is_due(key, time.monotonic()):
            self._look(key)
        with self._lock:
            return self._memory.get((key, number))

    def load(self, key: InstanceReference, numbers: Iterable[int], count: int = 0) -> Load | None:
        """Begin to load frames but for those that are cached or on their way: of an instance with `count` frames, which
        are all of it; 0: of one with any number. Return the load; None where there is nothing to load.
        """
        with self._lock:
            wanted = [number for number in numbers if not self._is_busy(key, number)]
            return self._begin(Load("whole" if count else "block", key, wanted, count))

    def copy(self, key: InstanceReference, numbers: Sequence[int], get: Callable[[int], bytes | None]) -> list[int]:
        """Take frames that `get` has; return the numbers of the others."""
        try:
            stamp = self._origin.stamp(key)
        except (ListenerError, OSError):
            return list(numbers)
        missing = []
        for number in numbers:
            frame = get(number)
            if frame is None:
                missing.append(number)
                continue
            with self._lock:
                self._memory.put_frame(key, number, frame, stamp)
        return missing

    def put(self, key: str, data: bytes) -> bool:
        """Keep bytes under a name; return False where they are larger than the limit."""
        with self._lock:
            return self._memory.put(key, data)

    def named(self, key: str) -> bytes | None:
        """Return bytes by their name, None where they are not in memory."""
        with self._lock:
            return self._memory.get(key)

    def running(self, key: InstanceReference | None) -> list[Load]:
        """Return the loads that run, of one instance or all."""
        with self._lock:
            return self._loads.running(key)

    def wait(self, loads: Iterable[Load], seconds: float) -> float:
        """Wait for loads to end; return the seconds. Raises TimeoutError where all take longer than `seconds`."""
        begin = time.monotonic()
        try:
            for load in loads:
                load.wait(begin + seconds)
        finally:
            waited = time.monotonic() - begin
            with self._lock:
                self.stats.time_spent_blocked_waiting_for_cache_loading_to_complete += waited
        return waited

    def close(self) -> None:
        """Drop loads that have not begun, wait for those that have, and close the origin."""
        with self._lock:
            self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for load in self._loads.running():
                self._loads.end(load, time.monotonic(), failed=False)
        self._origin.close()

    # -- within the lock -----------------------------------------------------------------------------------------------

    def _is_busy(self, key: InstanceReference, number: int) -> bool:
        return (key, number) in self._memory or self._loads.of(key, number) is not None

    def _may_load(self, key: InstanceReference) -> bool:
        return not self._is_closed and not self._loads.rests(key, time.monotonic())

    def _around(self, key: InstanceReference, count: int, number: int) -> Load | None:
        """Return the load, not begun, of a frame's block, or of its whole instance; None where all of it is there."""
        if count < self._whole_below:
            wanted: Iterable[int] = range(1, count + 1)
        else:
            wanted = block(number, count, self._size, lambda one: self._is_busy(key, one))
        numbers = [one for one in wanted if not self._is_busy(key, one)]
        return Load("whole" if count < self._whole_below else "block", key, numbers, count) if numbers else None

    def _begin(self, load: Load | None) -> Load | None:
        """Begin a load in the background; None where there is nothing to load, or its instance is left alone."""
        if load is None or not load.numbers or not self._may_load(load.instance):
            return None
        self._loads.begin(load)
        self._pool.submit(self._run, load)
        return load

    # -- without the lock ----------------------------------------------------------------------------------------------

    def _look(self, key: InstanceReference) -> None:
        """Forget the frames of an instance that was replaced, or is gone."""
        known = self._memory.looked(key, time.monotonic())
        if known is None or self._is_closed:
            return
        try:
            stamp = self._origin.stamp(key)
        except (ListenerError, OSError):
            stamp = ()
        if stamp not in (None, known):
            with self._lock:
                self._memory.forget(key, known)

    def _result(self, load: Load, number: int) -> bytes | None:
        if not load.done.is_set():
            self.wait([load], PATIENCE)
        return load.wanted.get(number)

    def _run(self, load: Load) -> None:
        """Read the frames of a load; what fails is logged, and its frames are not there."""
        begin = time.monotonic()
        failed = True
        try:
            with self._origin.read(load.instance, load.numbers, load.kind == "whole") as reading:
                self._take(load, reading, begin)
            failed = False
        except NoFrames as fault:
            self._log().warning("the instance has no frames", _about(load.instance), {"error": str(fault)})
        except Exception as error:  # noqa: BLE001 - a frame that cannot be had is None, whatever the reason
            about = _about(load.instance, ranges=ranges(load.numbers), seconds=time.monotonic() - begin)
            self._log().error("frames could not be loaded", about, {"error": _text(error)})
        finally:
            with self._lock:
                self._loads.end(load, time.monotonic(), failed=failed)

    def _take(self, load: Load, reading: Reading, begin: float) -> None:
        frames = size = large = 0
        for number, frame in reading.frames:
            with self._lock:
                large += not self._memory.put_frame(load.instance, number, frame, reading.stamp)
                self._loads.arrived(load, number, frame)
            frames += 1
            size += len(frame)
        seconds = time.monotonic() - begin
        with self._lock:
            self.stats.add(load.kind, frames, size, seconds)
        about = _about(load.instance, ranges=ranges(load.numbers), seconds=seconds, bytes=size)
        self._log().info("frames were loaded", about)
        if load.count and reading.total and load.count != reading.total:
            about |= {"frames": reading.total}
            self._log().warning("the instance has another number of frames than was said", about)
        if large or (self._memory.limit is not None and size > self._memory.limit):
            self._log().warning("the cache is smaller than what was loaded at once", {"too large": large, **about})


def _about(instance: InstanceReference, **more: object) -> dict[str, object]:
    return {"instance": instance.complete_url, **more}


def _text(error: Exception) -> str:
    """Return what went wrong, without a path or a value, which may hold patient data."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, ListenerError) else internal(error)

"""A cache of frames for programs that look at slides: what EZ-WSI's in-memory cache is to its DicomSlide."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, Self, Unpack

from listener.dicom.attributes import Limits
from listener.errors import ConfigError
from listener.frames.blocks import is_sorted
from listener.frames.errors import InvalidFrameNumberError, InvalidLRUMaxCacheSizeError, UnexpectedTypeError
from listener.frames.image import MAX_INFLATED
from listener.frames.loader import PATIENCE, Loader
from listener.frames.memory import Memory
from listener.frames.origins import Origin
from listener.frames.reference import Instance, reference
from listener.frames.settings import (
    FRAMES_TO_READ,
    PREFER_WHOLE_BELOW,
    CacheStats,
    Logger,
    OptimizationHint,
    PythonLogging,
    Settings,
    system_memory,
)
from listener.frames.tree import Tree

_YEAR = 365 * 86_400.0

_DEFAULTS = Settings(
    max_cache_frame_memory_lru_cache_size_bytes=None,
    number_of_frames_to_read=FRAMES_TO_READ,
    max_instance_number_of_frames_to_prefer_whole_instance_download=PREFER_WHOLE_BELOW,
    optimization_hint=OptimizationHint.MINIMIZE_DICOM_STORE_QPM,
    logging_factory=None,
)


class _OriginSettings(NamedTuple):
    """Where frames come from: see FrameCache."""

    data: str
    state: str
    dicomweb: str
    token: Callable[[], str] | None
    store: str

    def open(self) -> Origin:
        """Return the origin. Raises ConfigError."""
        if self.dicomweb:
            from listener.frames.dicomweb import DicomWeb

            return DicomWeb(self.dicomweb, self.token, Limits())
        if self.store:
            from listener.frames.store import Store

            return Store(self.store, Limits())
        return Tree(self.data, self.state, limits=Limits(), cap=MAX_INFLATED)


class FrameCache:
    """Frames in memory, for any number of threads: of a collection, by its directories `data` and `state`; of the
    DICOMweb service at `dicomweb`, for which `token` returns what is sent as a Bearer token with each request; or of an
    object store at `store`, with the environment's credentials.

    `settings` are those of Settings. What names an instance: see reference.Instance. Frames are numbered from 1. An
    instance that was replaced is found out within a second, and read anew; of DICOMweb when frames of it are loaded, if
    the server says Last-Modified. Pickling and copying carry the settings and
    `cache_instance_uid` only.
    """

    def __init__(
        self,
        *,
        data: str = "",
        state: str = "",
        dicomweb: str = "",
        token: Callable[[], str] | None = None,
        store: str = "",
        **settings: Unpack[Settings],
    ) -> None:
        """Raise InvalidLRUMaxCacheSizeError for a limit below 1 byte, ConfigError without one origin or the extra that
        it needs, TypeError for an unknown setting.
        """
        unknown = settings.keys() - _DEFAULTS.keys()
        if unknown:
            raise TypeError(f"unknown setting: {', '.join(sorted(unknown))}")
        if [bool(data and state), bool(dicomweb), bool(store)].count(True) != 1 or bool(data) != bool(state):
            raise ConfigError(
                ["a frame cache needs one origin: data and state, the directories of a listener; or dicomweb; or store"]
            )
        self._origin = _OriginSettings(data, state, dicomweb, token, store)
        self._settings: Settings = {**_DEFAULTS, **settings}
        limit = self._settings["max_cache_frame_memory_lru_cache_size_bytes"]
        if limit is not None and limit < 1:
            raise InvalidLRUMaxCacheSizeError(f"{limit}")
        self._settings["number_of_frames_to_read"] = max(1, int(self._settings["number_of_frames_to_read"]))
        self._cache_instance_uid = str(uuid.uuid4())
        self._begin()

    def _begin(self) -> None:
        """Make what is not pickled."""
        settings = self._settings
        self._memory = Memory(settings["max_cache_frame_memory_lru_cache_size_bytes"])
        self._logger: Logger | None = None
        self._logger_lock = Lock()
        self._loader = Loader(
            self._origin.open(),
            self._memory,
            settings["number_of_frames_to_read"],
            settings["max_instance_number_of_frames_to_prefer_whole_instance_download"],
            self._log,
        )

    # -- what is set ---------------------------------------------------------------------------------------------------

    @property
    def optimization_hint(self) -> OptimizationHint:
        """What a miss does, unless the call says otherwise."""
        return self._settings["optimization_hint"]

    @optimization_hint.setter
    def optimization_hint(self, hint: OptimizationHint) -> None:
        self._settings["optimization_hint"] = OptimizationHint.of(hint)

    @property
    def cache_instance_uid(self) -> str:
        """What log lines of this cache have in common; kept when it is pickled or copied."""
        return self._cache_instance_uid

    @property
    def lru_caching_enabled(self) -> bool:
        """Return whether there is a limit, beyond which the least recently used go."""
        return self._memory.limit is not None

    # -- frames --------------------------------------------------------------------------------------------------------

    def get_frame(
        self,
        instance: Instance,
        number_of_frames: int,
        frame_number: int,
        optimization_hint: OptimizationHint | None = None,
    ) -> bytes | None:
        """Return a frame of an instance that has `number_of_frames`; None where it is not among them, could not be
        loaded, or is not cached and shall not be waited for.

        Raises TimeoutError where the load takes longer than ten minutes.
        """
        if not 1 <= frame_number <= number_of_frames:
            return None
        key = reference(instance)
        frame = self._loader.hit(key, frame_number)
        if frame is None:
            hint = self._hint(optimization_hint, number_of_frames)
            frame = self._loader.miss(key, number_of_frames, frame_number, hint)
        return frame

    def get_cached_frame(self, instance: Instance, frame_number: int) -> bytes | None:
        """Return a frame that is in memory; None otherwise, and nothing is loaded."""
        return self._loader.cached(reference(instance), frame_number)

    def cache_externally_acquired_bytes(self, key: str, data: bytes) -> bool:
        """Keep bytes under a name, within the same limit; return False where they alone are larger than that."""
        if self._loader.put(key, data):
            return True
        self._log().warning("the bytes are larger than the cache, and not kept", {"bytes": len(data)})
        return False

    def get_cached_externally_acquired_bytes(self, key: str) -> bytes | None:
        """Return bytes that were kept under a name; None where they are not in memory."""
        return self._loader.named(key)

    def preload_instance_frame_numbers(
        self, instance_frame_numbers: Mapping[Any, Sequence[int]], copy_from_cache: Any = None
    ) -> None:
        """Load frames in the background, by instance, but for those that are cached or on their way. What
        `copy_from_cache` has is copied.

        Raises InvalidFrameNumberError for a number below 1.
        """
        for instance, numbers in instance_frame_numbers.items():
            key, wanted = reference(instance), self._in_order(numbers)
            if copy_from_cache is not None:
                wanted = self._loader.copy(key, wanted, partial(copy_from_cache.get_cached_frame, instance))
            self._loader.load(key, wanted)

    def cache_whole_instance_in_memory(self, instance_paths: Any, blocking: bool) -> None:
        """Load every frame of an instance, or of the instances of a level of a pyramid: EZ-WSI's Level or Instance, or
        a pair of what names an instance and its number of frames. `blocking`: wait until they are there.

        Raises UnexpectedTypeError for anything else, TimeoutError after ten minutes.
        """
        loads = [
            self._loader.load(reference(one), range(1, count + 1), count) for one, count in _instances(instance_paths)
        ]
        if blocking:
            self._loader.wait(filter(None, loads), PATIENCE)

    def block_until_frames_are_loaded(self, instance: Instance | None = None, timeout: float | None = 600.0) -> float:
        """Wait for the loads that run now, of one instance or all; return the seconds waited.

        Raises TimeoutError after `timeout` seconds in all (None: a year).
        """
        loads = self._loader.running(None if instance is None else reference(instance))
        return self._loader.wait(loads, _YEAR if timeout is None else timeout) if loads else 0.0

    # -- figures and end -----------------------------------------------------------------------------------------------

    @property
    def cache_stats(self) -> CacheStats:
        """A copy of the figures, with those of memory."""
        stats = copy.copy(self._loader.stats)
        stats.frame_cache_memory_size_limit = self._memory.limit
        stats.current_frame_cache_memory_size = self._memory.used
        stats.system_memory = system_memory()
        return stats

    def reset_cache_stats(self) -> None:
        """Begin the figures anew; log lines get another worker's id."""
        self._loader.stats = CacheStats()
        self._logger = None

    def close(self) -> None:
        """End loads that have not begun, wait for those that have, and let go of what is open. What is in memory can
        still be had.
        """
        self._loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("_origin", "_settings", "_cache_instance_uid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settings = {**self._settings}
        self._begin()

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__setstate__(self.__getstate__())
        return other

    def __deepcopy__(self, _memo: object) -> Self:
        return self.__copy__()

    # -- beneath -------------------------------------------------------------------------------------------------------

    def _log(self) -> Logger:
        if self._logger is not None:
            return self._logger
        with self._logger_lock:  # Loads log too: one id for all threads.
            if self._logger is None:
                signature = {
                    "instance_cache_worker_trace_uid": str(uuid.uuid4()),
                    "instance_cache_lifetime_trace_uid": self._cache_instance_uid,
                }
                factory = self._settings["logging_factory"] or PythonLogging()
                self._logger = factory.create_logger(signature)
            return self._logger

    def _hint(self, given: OptimizationHint | None, count: int) -> OptimizationHint:
        if given is not None:
            return OptimizationHint.of(given)
        hint = OptimizationHint.of(self.optimization_hint)
        # A fetch at once of the only frame there is would be followed by a load of nothing.
        is_single = hint is OptimizationHint.MINIMIZE_LATENCY and count == 1
        return OptimizationHint.MINIMIZE_DICOM_STORE_QPM if is_single else hint

    def _in_order(self, numbers: Sequence[int]) -> list[int]:
        """Return numbers ascending, each once."""
        if any(number < 1 for number in numbers):
            raise InvalidFrameNumberError(f"{min(numbers)}")
        if not is_sorted(numbers):
            self._log().warning("frame numbers are not sorted: sorted ones are quicker")
        return sorted(set(numbers))


def _instances(paths: Any) -> list[tuple[Any, int]]:
    """Return the instances, and how many frames each has, of a level, an instance, or a pair."""
    if isinstance(paths, tuple) and len(paths) == 2 and isinstance(paths[1], int):
        return [(paths[0], paths[1])]
    several = getattr(paths, "instances", None)
    instances = list(several.values()) if isinstance(several, Mapping) else [paths]
    try:
        return [(instance.dicom_object.path, int(instance.frame_count)) for instance in instances]
    except AttributeError:
        raise UnexpectedTypeError(type(paths).__name__) from None

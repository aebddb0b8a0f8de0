"""Settings, hints, figures and log lines of a frame cache."""

from __future__ import annotations

import dataclasses
import enum
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypedDict

#: Frames of a block that is loaded on a miss, and number of frames below which the whole instance is.
FRAMES_TO_READ = 500
PREFER_WHOLE_BELOW = 10_000


class OptimizationHint(enum.Enum):
    """What a miss does: wait for the background load; fetch the frame at once, and load its block behind it; or return
    None at once, while it loads. The values are those of EZ-WSI's CacheConfigOptimizationHint.
    """

    MINIMIZE_DICOM_STORE_QPM = "MINIMIZE_DICOM_STORE_QPM"
    MINIMIZE_LATENCY = "MINIMIZE_LATENCY"
    DO_NOT_BLOCK_RETURN_NONE_IMMEDIATELY_IF_NOT_IN_CACHE = "DO_NOT_BLOCK_RETURN_NONE_IMMEDIATELY_IF_NOT_IN_CACHE"

    @classmethod
    def of(cls, hint: object) -> OptimizationHint:
        """Return the hint of a hint, its text, or another program's enumeration with the same values."""
        return cls(getattr(hint, "value", hint))


class Settings(TypedDict, total=False):
    """Keywords of a frame cache, with EZ-WSI's names: the limit in bytes (None: none), frames of a block, number of
    frames below which the whole instance is loaded, the hint, and what makes loggers.
    """

    max_cache_frame_memory_lru_cache_size_bytes: int | None
    number_of_frames_to_read: int
    max_instance_number_of_frames_to_prefer_whole_instance_download: int
    optimization_hint: OptimizationHint
    logging_factory: LoggingFactory | None


class SystemMemory(NamedTuple):
    """Memory of the machine in bytes: all, and what is available."""

    total: int
    available: int


@dataclasses.dataclass
class CacheStats:
    """Figures of a cache since its begin or reset. Fields have EZ-WSI's names; times are in seconds."""

    first_frame_number_read: int | None = None
    last_frame_number_read: int | None = None
    frame_cache_miss_count: int = 0
    frame_cache_hit_count: int = 0
    frame_block_read_time: float = 0.0
    number_of_frame_blocks_read: int = 0
    number_of_frames_read_in_frame_blocks: int = 0
    number_of_frame_bytes_read_in_frame_blocks: int = 0
    dicom_instance_read_time: float = 0.0
    number_of_dicom_instances_read: int = 0
    number_of_frames_read_in_dicom_instances: int = 0
    number_of_frame_bytes_read_in_dicom_instances: int = 0
    number_of_frames_downloaded_to_reduce_latency: int = 0
    number_of_frame_bytes_downloaded_to_reduce_latency: int = 0
    time_spent_downloading_frames_to_reduce_latency: float = 0.0
    time_spent_blocked_waiting_for_cache_loading_to_complete: float = 0.0
    frame_cache_memory_size_limit: int | None = None
    current_frame_cache_memory_size: int | None = None
    system_memory: SystemMemory | None = None

    def asked(self, number: int) -> None:
        """Note that a frame was asked for."""
        first, last = self.first_frame_number_read, self.last_frame_number_read
        if first is None or last is None:
            self.first_frame_number_read = self.last_frame_number_read = number
        elif number < first:
            self.first_frame_number_read = number
        elif number > last:
            self.last_frame_number_read = number

    def add(self, kind: str, frames: int, size: int, seconds: float) -> None:
        """Count a load: `kind` is block, whole or latency; its frames, their bytes, and seconds."""
        if kind == "block":
            self.number_of_frame_blocks_read += 1
            self.number_of_frames_read_in_frame_blocks += frames
            self.number_of_frame_bytes_read_in_frame_blocks += size
            self.frame_block_read_time += seconds
        elif kind == "whole":
            self.number_of_dicom_instances_read += 1
            self.number_of_frames_read_in_dicom_instances += frames
            self.number_of_frame_bytes_read_in_dicom_instances += size
            self.dicom_instance_read_time += seconds
        else:
            self.number_of_frames_downloaded_to_reduce_latency += frames
            self.number_of_frame_bytes_downloaded_to_reduce_latency += size
            self.time_spent_downloading_frames_to_reduce_latency += seconds


def system_memory() -> SystemMemory | None:
    """Return the memory of the machine, None where the kernel does not tell it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = {line.partition(":")[0]: line.split()[1] for line in file}
        return SystemMemory(int(sizes["MemTotal"]) * 1024, int(sizes["MemAvailable"]) * 1024)
    except (OSError, KeyError, IndexError, ValueError):
        return None


class Logger(Protocol):
    """What takes log lines: a message, then mappings of more."""

    def debug(self, message: str, /, *more: Mapping[str, Any]) -> None:
        """Log for developers."""

    def info(self, message: str, /, *more: Mapping[str, Any]) -> None:
        """Log what happened."""

    def warning(self, message: str, /, *more: Mapping[str, Any]) -> None:
        """Log what should be looked at."""

    def error(self, message: str, /, *more: Mapping[str, Any]) -> None:
        """Log what failed."""


class LoggingFactory(Protocol):
    """What makes loggers, of which each line has the items of `signature`."""

    def create_logger(self, signature: Mapping[str, Any] | None = None) -> Logger:
        """Return a logger."""


class PythonLogging:
    """Makes loggers that write to Python's logging, under the name `listener.frames`."""

    def create_logger(self, signature: Mapping[str, Any] | None = None) -> Logger:
        """See LoggingFactory."""
        return _PythonLogger(signature or {})


class _PythonLogger:
    def __init__(self, signature: Mapping[str, Any]) -> None:
        self._signature = signature
        self._log = logging.getLogger("listener.frames")

    def _write(self, level: int, message: str, more: tuple[Mapping[str, Any], ...]) -> None:
        if self._log.isEnabledFor(level):
            items = {key: value for mapping in (*more, self._signature) for key, value in mapping.items()}
            self._log.log(level, "%s", "; ".join([message, *(f"{key}: {value}" for key, value in items.items())]))

    def debug(self, message: str, /, *more: Mapping[str, Any]) -> None:
        self._write(logging.DEBUG, message, more)

    def info(self, message: str, /, *more: Mapping[str, Any]) -> None:
        self._write(logging.INFO, message, more)

    def warning(self, message: str, /, *more: Mapping[str, Any]) -> None:
        self._write(logging.WARNING, message, more)

    def error(self, message: str, /, *more: Mapping[str, Any]) -> None:
        self._write(logging.ERROR, message, more)

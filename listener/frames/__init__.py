"""Single frames of instances: where they lie, and a cache of them for programs that look at slides."""

from listener.frames.cache import FrameCache
from listener.frames.errors import (
    FramesFault,
    InvalidFrameNumberError,
    InvalidLRUMaxCacheSizeError,
    UnexpectedTypeError,
)
from listener.frames.reference import InstanceReference
from listener.frames.settings import CacheStats, OptimizationHint

__all__ = [
    "CacheStats",
    "FrameCache",
    "FramesFault",
    "InstanceReference",
    "InvalidFrameNumberError",
    "InvalidLRUMaxCacheSizeError",
    "OptimizationHint",
    "UnexpectedTypeError",
]

"""Memory of large objects goes back to the system when they are gone."""

from __future__ import annotations

import ctypes

#: Of <malloc.h>: from how many bytes on an allocation is a mapping of its own.
_M_MMAP_THRESHOLD = -3

#: Of <malloc.h>: into how many heaps threads allocate at most. Each keeps some of what was freed.
_M_ARENA_MAX, _HEAPS = -8, 2

#: Of <malloc.h>: how much of what is free at the end of a heap stays with the process.
_M_TRIM_THRESHOLD = -1

#: More than what is read of a file at a time, less than a part of an object.
_LARGE = 2 * 2**20

#: As much as the small instances have that are on their way; were each given back, the next would be zeroed anew.
_KEPT = 4 * 2**20


def return_large_blocks() -> None:
    """Let glibc map each large block by itself, in all threads.

    It raises that limit by itself to the largest block that was freed; then each of the many threads keeps what its
    largest object took (measured with 10 uploads of 8 MiB: 214 MB resident, and 137 with this and a Budget that counts
    copies). Of heaps there are few: with 10 archives at once the threads' own had 7 MB more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_ARENA_MAX, _HEAPS)

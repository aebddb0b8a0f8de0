"""pydicom is imported when a value first needs it: that costs 90 ms and 30 MB, and most files never do."""

from __future__ import annotations

from threading import Lock

_LOCK = Lock()


def load_pydicom() -> None:
    """Import pydicom, in one thread at a time; call it before anything of it is imported late.

    Its modules import each other: of two threads that enter that circle at different places one gets half a module, and
    ImportError.
    """
    with _LOCK:
        import pydicom  # noqa: F401 - all of it is loaded

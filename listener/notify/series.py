"""A series as it lies in the tree: its one folder, how many files CUBE counts there, its first instance's header."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk import files
from listener.disk.retry import delivery_pause
from listener.errors import Postponed
from listener.ledger.rows import SeriesRow
from listener.notify.registration import KEYWORDS, Refused, Registration, Series, pacs_of, registration
from listener.reasons import FileFault

#: Seconds until a folder is looked at again that does not hold what the ledger has; so often, then with growing pauses.
_SOON, _OFTEN = 1.0, 10

#: What CUBE counts as a file of the series.
_COUNTED = ".dcm"

_WANTED = Wanted.of(KEYWORDS)


def registration_of(row: SeriesRow, paths: Sequence[str], data_dir: str, attempt: int = 1) -> Registration:
    """Return what CUBE is told of a series; `paths` of its instances below the data directory, in order of arrival.

    Raises Refused where CUBE would not take it, Postponed while the folder does not hold just the ledger's files (for
    longer with many an `attempt`), OSError.
    """
    expected = len(paths)
    if not expected:
        raise Refused("gone", "its files were removed")
    folder = _folder(paths)
    pacs = pacs_of(folder)
    found = _count(os.path.join(data_dir, folder))
    if found != expected:
        pause = _SOON if attempt <= _OFTEN else delivery_pause(attempt - _OFTEN)
        raise Postponed(f"its folder holds {found} files, and the ledger has {expected}", pause)
    told = Series(row.SeriesInstanceUID, row.StudyInstanceUID, pacs, folder, expected)
    return registration(told, _header(os.path.join(data_dir, paths[0])))


def _folder(paths: Sequence[str]) -> str:
    folders = {os.path.dirname(path) for path in paths}
    if len(folders) > 1:
        raise Refused("scattered", f"its instances lie in {len(folders)} folders")
    return folders.pop()


def _count(folder: str) -> int:
    """Return the number of files below a folder as CUBE counts them."""
    return sum(name.endswith(_COUNTED) for _, _, names in os.walk(folder, onerror=_raise) for name in names)


def _raise(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):  # A folder that is gone holds no files.
        return
    raise error


def _header(path: str) -> Mapping[str, str]:
    """Return the texts of an instance's header. Raises Refused where it cannot be read."""
    with files.opened(path) as descriptor:
        try:
            return read_header(descriptor, os.fstat(descriptor).st_size, _WANTED, Limits()).values
        except FileFault as fault:
            raise Refused("not-readable", str(fault)) from None

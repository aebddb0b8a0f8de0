"""What was written and is not verified yet: many objects of one folder are seen in one listing instead of by a look at
each, which takes a request as long as that of a small object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from listener.export.upload import Later, Written

#: Objects of one folder from which on they are listed: clouds charge a listing like a dozen looks.
_LEAST = 16

#: Objects that are seen at once: a page of a listing.
_MOST = 1000


class Unseen:
    """Of keys that are about to be written, those that a listing is to show. Used in several threads."""

    def __init__(self, keys: Iterable[str]) -> None:
        counts = Counter(map(_folder, keys))
        self._written: dict[str, list[Written]] = {folder: [] for folder, count in counts.items() if count >= _LEAST}

    def later(self, key: str) -> Later | None:
        """Return what takes note that a key was written; None if it is to be verified at once."""
        written = self._written.get(_folder(key))
        return None if written is None else written.append

    def runs(self) -> Iterator[list[Written]]:
        """Yield what was written, in the order of the keys, each time of one folder."""
        for written in self._written.values():
            written.sort()
            for begin in range(0, len(written), _MOST):
                yield written[begin : begin + _MOST]


def _folder(key: str) -> str:
    return key.rpartition("/")[0]

"""What `listener verify` says: a line a difference on standard output, progress and a summary on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

import orjson

from listener.config import Config
from listener.planning.names import printable
from listener.verification.differences import Difference, Series, as_line

#: How often the progress line is drawn, in seconds.
_TICK = 0.2


class Report:
    """Counts and tells. Free of patient data unless --phi: then each line holds a path."""

    def __init__(self, config: Config, *, as_json: bool) -> None:
        self._roots = {"data": config.data, "log": config.log}
        self._phi = config.phi
        self._as_json = as_json
        self._words: Counter[str] = Counter()
        self._left = 0
        self._series = 0
        self._instances = 0
        self._shared: set[tuple[str, str, str]] = set()
        self._drawn = time.monotonic()

    def looked_at(self, record: Series) -> None:
        """A series was compared."""
        self._series += 1
        self._instances += len(record.documents)
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._drawn >= _TICK:
            self._drawn = now
            sys.stderr.write(f"\r\033[K{self._so_far()}")
            sys.stderr.flush()

    def _so_far(self) -> str:
        total = sum(self._words.values())
        return f"{self._series} series, {self._instances} instances: {total} difference{'s' * (total != 1)}"

    def told_of(self, difference: Difference) -> bool:
        """Whether this was told already: the documents of a patient and of a study are met with each of their series.

        A StudyList is told of once for each study.
        """
        key = (
            difference.word,
            difference.path,
            difference.study if difference.word in ("study-list", "left-over") else "",
        )
        known = key in self._shared
        self._shared.add(key)
        return known

    def count(self, difference: Difference, repaired: bool | None) -> None:
        """Tell of one difference; `repaired` is None when nothing was tried."""
        self._words[difference.word] += 1
        self._left += not repaired
        line = as_line(difference, repaired, self._shown(difference.path) if self._phi else "")
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        if self._as_json:
            sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        else:
            print(_text(line))

    def _shown(self, path: str) -> str:
        for name, root in self._roots.items():
            if path.startswith(f"{root.rstrip('/')}/"):
                return printable(f"{name}/{os.path.relpath(path, root)}")
        return printable(path)

    def summary(self, *, repairing: bool) -> int:
        """The last word, and the exit status."""
        sys.stdout.flush()
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        total = sum(self._words.values())
        mended = f", {total - self._left} repaired" if repairing else ""
        sys.stderr.write(f"{self._so_far()}{mended}\n")
        for word, number in self._words.most_common():
            sys.stderr.write(f"  {word}: {number}\n")
        if self._left and not repairing:
            sys.stderr.write("--repair mends logs and ledger; instances are never touched\n")
        return 1 if self._left else 0


_WHO = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series", "SOPInstanceUID": "instance"}


def _text(line: dict[str, Any]) -> str:
    who = " ".join(f"{name} {line[key]}" for key, name in _WHO.items() if key in line and name != "study")
    who = who or (f"study {line['StudyInstanceUID']}" if "StudyInstanceUID" in line else "a file")
    about = f" ({line['document']})" if "document" in line else ""
    count = f" ({line['count']} instances)" if line["count"] != 1 else ""
    more = {True: "; repaired", False: "; not repaired", None: ""}[line.get("repaired")]
    path = f" [{line['path']}]" if "path" in line else ""
    return f"{line['difference']:19} {who}{about}: {line['text']}{count}{more}{path}"

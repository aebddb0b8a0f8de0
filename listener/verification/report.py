"""Output of `listener verify`: one line a difference on standard output; progress and summary on standard error."""

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

#: Seconds between two updates of the progress line.
_TICK = 0.2


class Report:
    """Prints and counts differences. With --phi each line has a path; otherwise there is no patient data in it."""

    def __init__(self, config: Config, *, as_json: bool) -> None:
        self._roots = {"data": config.data, "log": config.log}
        self._phi = config.phi
        self._as_json = as_json
        self._words: Counter[str] = Counter()
        self._unrepaired = 0
        self._series = 0
        self._instances = 0
        self._shared: set[tuple[str, str, str]] = set()
        self._drawn_at = time.monotonic()

    def count_series(self, record: Series) -> None:
        """Count a compared series and its instances, and update the progress line of a terminal."""
        self._series += 1
        self._instances += len(record.documents)
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._drawn_at >= _TICK:
            self._drawn_at = now
            sys.stderr.write(f"\r\033[K{self._progress()}")
            sys.stderr.flush()

    def _progress(self) -> str:
        total = sum(self._words.values())
        return f"{self._series} series, {self._instances} instances: {total} difference{'s' * (total != 1)}"

    def already_reported(self, difference: Difference) -> bool:
        """Return whether a shared document's difference was reported before, and note it: documents of patients and
        studies are checked with each of their series. Differences of a StudyList count once a study.
        """
        key = (
            difference.word,
            difference.path,
            difference.study if difference.word in ("study-list", "left-over") else "",
        )
        reported = key in self._shared
        self._shared.add(key)
        return reported

    def add(self, difference: Difference, repaired: bool | None) -> None:
        """Print and count one difference; `repaired` is None when no repair was tried."""
        self._words[difference.word] += 1
        self._unrepaired += not repaired
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
        """Print the summary; return the exit status: 0, or 1 when differences are left."""
        sys.stdout.flush()
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        total = sum(self._words.values())
        repaired = f", {total - self._unrepaired} repaired" if repairing else ""
        sys.stderr.write(f"{self._progress()}{repaired}\n")
        for word, number in self._words.most_common():
            sys.stderr.write(f"  {word}: {number}\n")
        if self._unrepaired and not repairing:
            sys.stderr.write("--repair mends logs and ledger; instances are never touched\n")
        return 1 if self._unrepaired else 0


_LEVELS = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series", "SOPInstanceUID": "instance"}


def _text(line: dict[str, Any]) -> str:
    subject = " ".join(f"{name} {line[key]}" for key, name in _LEVELS.items() if key in line and name != "study")
    subject = subject or (f"study {line['StudyInstanceUID']}" if "StudyInstanceUID" in line else "a file")
    about = f" ({line['document']})" if "document" in line else ""
    count = f" ({line['count']} instances)" if line["count"] != 1 else ""
    more = {True: "; repaired", False: "; not repaired", None: ""}[line.get("repaired")]
    path = f" [{line['path']}]" if "path" in line else ""
    return f"{line['difference']:19} {subject}{about}: {line['text']}{count}{more}{path}"

"""PURE. What is asked of a part of a backfill, from the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from listener.errors import ConfigError

#: How files are shared out, the default first: by the path of their directory below incoming, or by their own name.
DIRECTORY, NAME = SHARED_BY = "directory", "name"

#: Priorities of a part on its host, the default first: after everything else there, or like everything else.
LOW, NORMAL = PRIORITIES = ("low", "normal")

#: Standard input in place of a file.
STDIN = "-"

#: Words of the command line that mean nothing without a part.
_ONLY_OF_PARTS = ("part_by", "again", "tolerate_set_aside", "textfile", "priority")

_SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Share(NamedTuple):
    """Part `part` (from 0) of `parts`, chosen `by` DIRECTORY or NAME."""

    part: int
    parts: int
    by: str = DIRECTORY

    @property
    def name(self) -> str:
        """Return the name of this part; those of one backfill stand in their order."""
        width = len(str(self.parts - 1))
        return f"{self.part:0{width}d}-of-{self.parts}{'' if self.by == DIRECTORY else f'-by-{self.by}'}"


class PartRequest(NamedTuple):
    """One part: its share (None: all that the list names), the file of its list ("": incoming itself is listed, "-":
    standard input), whether a part that has ended goes on (`again`), whether what is set aside counts as done
    (`tolerant`), where its metrics are written when it has ended ("": nowhere), and its `priority`, one of PRIORITIES.
    """

    share: Share | None
    source: str = ""
    again: bool = False
    tolerant: bool = False
    textfile: str = ""
    priority: str = LOW

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> PartRequest:
        """Read it from the command line. Raises ConfigError."""
        share = _share(given["part"], given["part_by"])
        source = given["files_from"] or ""
        if share is None and not source:
            idle = [name for name in _ONLY_OF_PARTS if given[name]]
            named = ", ".join("--" + name.replace("_", "-") for name in idle)
            raise ConfigError([f"once: {named} without a part; give --part I/N or --files-from FILE too"])
        return cls(
            share,
            source,
            given["again"],
            given["tolerate_set_aside"],
            given["textfile"] or "",
            given["priority"] or LOW,
        )


def _share(text: str | None, by: str | None) -> Share | None:
    if not text:
        return None
    match = _SHARE.fullmatch(text)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError([f"--part: '{text}' is no part; give I/N with I from 0 to N - 1, as 0/16"])
    return Share(int(match[1]), int(match[2]), by or DIRECTORY)

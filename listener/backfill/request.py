"""PURE. What is asked of a part of a backfill, from the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from listener.errors import ConfigError

#: How files are shared out: by the path of their directory below incoming, or by their own name.
DIRECTORY, NAME = "directory", "name"

#: Standard input in place of a file.
STDIN = "-"

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
    (`tolerant`), and where its metrics are written when it has ended ("": nowhere).
    """

    share: Share | None
    source: str = ""
    again: bool = False
    tolerant: bool = False
    textfile: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> PartRequest:
        """Read it from the command line. Raises ConfigError."""
        share = _share(given["part"], given["part_by"])
        source = given["files_from"] or ""
        if share is None and not source:
            idle = [name for name in ("part_by", "again", "tolerate_set_aside", "textfile") if given[name]]
            named = ", ".join("--" + name.replace("_", "-") for name in idle)
            raise ConfigError([f"once: {named} without a part; give --part I/N or --files-from FILE too"])
        return cls(share, source, given["again"], given["tolerate_set_aside"], given["textfile"] or "")


def _share(text: str | None, by: str | None) -> Share | None:
    if not text:
        return None
    match = _SHARE.fullmatch(text)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError([f"--part: '{text}' is no part; give I/N with I from 0 to N - 1, as 0/16"])
    return Share(int(match[1]), int(match[2]), by or DIRECTORY)

"""Rewrite bytes in tests, by a key that is always the same."""

from __future__ import annotations

import os
from pathlib import Path

from listener.deidentify import output
from listener.deidentify.jobs import Job, Rewritten
from listener.deidentify.keys import Keys
from listener.deidentify.marks import marks_of
from listener.deidentify.profile import Rules
from listener.deidentify.replacing import Replacer, Subject
from listener.deidentify.rewriting import rewrite

KEYS = Keys(bytes(range(32)))
SUBJECT = Subject("PSEUDONYM", 17)


def job(*options: str, words: frozenset[str] = frozenset(), explains: bool = False) -> Job:
    chosen = frozenset(options)
    return Job(Rules(chosen), Replacer(KEYS, SUBJECT, words), marks_of(chosen), explains=explains)


def rewritten(folder: Path, data: bytes, work: Job | None = None) -> tuple[Rewritten, bytes]:
    """What becomes of a file with these bytes: the parts, and the bytes that are written."""
    (folder / "source").write_bytes(data)
    source = os.open(folder / "source", os.O_RDONLY)
    target = os.open(folder / "target", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        made = rewrite(source, len(data), work or job())
        output.write(made, source, target)
    finally:
        os.close(source)
        os.close(target)
    return made, (folder / "target").read_bytes()

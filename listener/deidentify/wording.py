"""The words in texts of a collection, for who has to say which of them a cleaned text may hold."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from listener.deidentify.profile import OPTIONS, read_table
from listener.deidentify.scanning import Leaf, Unreadable, scan
from listener.dicom.file_meta import read_file_meta
from listener.dicom.source import FileSource
from listener.disk.files import opened
from listener.ledger.reader import Reader
from listener.ledger.rows import SeriesRow
from listener.reasons import FileFault

_WORD = re.compile(r"[A-Za-z]+")
_TEXTS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC"})
_PAGE = 1000


class Word(NamedTuple):
    """A word, in how many series it stands, and whether a cleaned text may hold it."""

    word: str
    series: int
    allowed: bool


def count(reader: Reader, data_dir: str, allowed: Collection[str]) -> tuple[list[Word], int]:
    """Return the words in texts that clean-descriptors cleans, of one instance of each series, the most frequent first;
    and how many series could not be read.
    """
    place = OPTIONS.index("clean-descriptors")
    tags = {tag for tag, entry in read_table().items() if entry.options[place] == "C"}
    found: Counter[str] = Counter()
    unread = 0
    for series in _series(reader):
        instances = reader.instances_of(series)
        try:
            leaves = _leaves(os.path.join(data_dir, instances[0].path)) if instances else []
        except (OSError, FileFault, Unreadable):
            unread += 1
            continue
        texts = (leaf.value.decode("latin-1") for leaf in leaves if leaf.tag in tags and leaf.vr in _TEXTS)
        found.update({word.lower() for text in texts for word in _WORD.findall(text)})
    return [Word(word, number, word in allowed) for word, number in found.most_common()], unread


def _series(reader: Reader) -> Iterator[SeriesRow]:
    """Yield all series of a collection, the newest first."""
    page = reader.listed(limit=_PAGE)
    while page:
        yield from page
        page = reader.listed(after=(page[-1].last_ns, page[-1].id), limit=_PAGE)


def _leaves(path: str) -> list[Leaf]:
    with opened(path) as descriptor:
        meta = read_file_meta(FileSource(descriptor, os.fstat(descriptor).st_size))
        return scan(descriptor, meta.dataset_offset, meta.TransferSyntaxUID).leaves

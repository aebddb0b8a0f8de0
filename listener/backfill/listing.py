"""Which files a part has: those of its directories in incoming, or those that a list names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import IO, NamedTuple

from listener.backfill.request import NAME, Share
from listener.errors import ConfigError
from listener.planning.names import OWN, is_temporary
from listener.planning.seahash import seahash, seahashes

_CHUNK = 2**20

#: Names that are hashed at once.
_AT_ONCE = 1_000

#: Lines that are named where a list is refused.
_MOST_NAMED = 5

#: Links of a directory that has no directory in it, where the file system counts them.
_LEAF = 2


def in_share(text: str, share: Share) -> bool:
    """Return whether a path below incoming (or a file name) belongs to this share: its SeaHash says which."""
    return seahash(os.fsencode(text)) % share.parts == share.part


def walk_share(
    root: str, share: Share, trouble: Callable[[OSError], None], *, counts_links: bool = True
) -> Iterator[str]:
    """Yield every path below `root` that belongs to the share, but directories and temporary names. Links are not
    followed. `trouble` is called for a directory that cannot be read. `counts_links`: the file system counts a link for
    each directory in a directory, so that one without any need not be listed if its files belong to others.
    """
    pending = [root]
    while pending:
        directory = pending.pop()
        is_ours = share.by == NAME or in_share(directory[len(root) + 1 :], share)
        try:
            if not is_ours and counts_links and os.stat(directory).st_nlink == _LEAF:
                continue
            with os.scandir(directory) as entries:
                files = _files(entries, pending)
                if share.by == NAME:
                    yield from _named_ours(files, share)
                else:
                    yield from (entry.path for entry in files if is_ours and not is_temporary(entry.name))
        except OSError as error:
            trouble(error)


def _files(entries: Iterable[os.DirEntry[str]], pending: list[str]) -> Iterator[os.DirEntry[str]]:
    """Yield those of these entries that are no directories; put the directories into `pending`."""
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != OWN:
                pending.append(entry.path)
        else:
            yield entry


def _named_ours(files: Iterable[os.DirEntry[str]], share: Share) -> Iterator[str]:
    """Yield the paths of those files whose names belong to the share, but temporary ones. Each part looks at each name
    of a directory with millions of them, so they are hashed many at once.
    """
    left = iter(files)
    while some := list(islice(left, _AT_ONCE)):
        hashes = seahashes([os.fsencode(entry.name) for entry in some])
        ours = (entry for entry, value in zip(some, hashes, strict=True) if value % share.parts == share.part)
        yield from (entry.path for entry in ours if not is_temporary(entry.name))


class Names(NamedTuple):
    """A list that was checked: its digest, how many names it has, how many of these are ours or temporary (`ignored`)
    and how many stand there twice (`repeated`).
    """

    digest: str
    names: int
    ignored: int
    repeated: int


class FileList:
    """Names of files, absolute or below incoming, each ended by NUL or a newline. `file` is read twice."""

    def __init__(self, file: IO[bytes], roots: tuple[str, ...], share: Share | None = None) -> None:
        self._file = file
        self._roots = roots
        self._real = tuple(map(os.path.realpath, roots))
        self._share = share
        self._followed: dict[str, bool] = {}

    def check(self, note: Callable[[int, str], bool]) -> Names:
        """Read the list, call `note` for each file (as __iter__ yields them), which returns whether that is new, and
        return what it holds.

        Raises ConfigError for a list that cannot be meant: cut in the middle of a name, or with names that lie outside
        incoming or behind a link. Nothing was touched then.
        """
        digest, problems = blake2b(digest_size=8), _Problems()
        total = ignored = repeated = 0
        for number, raw in enumerate(self._raw(digest.update, problems.cut), 1):
            path, problem = self._resolve(raw)
            if problem:
                problems.add(number, problem)
            elif path and self._is_ours(path):
                total += 1
                repeated += not note(self._root_of(path), path)
            elif not path:
                ignored += 1
        problems.raise_if_any()
        return Names(digest.hexdigest(), total, ignored, repeated)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield index of the incoming directory and path, in the order of the list. Call check() before."""
        for raw in self._raw(lambda _: None, lambda: None):
            path, _ = self._resolve(raw)
            if path and self._is_ours(path):
                yield self._root_of(path), path

    def _raw(self, update: Callable[[bytes], None], cut: Callable[[], None]) -> Iterator[bytes]:
        """Yield the names; call `cut` if the last one has no end."""
        self._file.seek(0)
        rest, separator = b"", b""
        while chunk := self._file.read(_CHUNK):
            update(chunk)
            separator = separator or (b"\0" if b"\0" in chunk else b"\n")
            *names, rest = (rest + chunk).split(separator)
            yield from filter(None, names)
        if rest:
            cut()

    def _resolve(self, raw: bytes) -> tuple[str, str]:
        """Return the path of a name, and why it is refused; both "" for what is ours or temporary."""
        name = os.fsdecode(raw)
        if "\0" in name:
            return "", "holds a NUL among newlines"
        if ".." in name.split("/"):
            return "", "goes through '..'"
        path = os.path.normpath(name if name.startswith("/") else self._below(name))
        root = self._root_of(path)
        if root < 0:
            return "", "is not below incoming"
        *folders, last = path[len(self._roots[root]) + 1 :].split("/")
        if OWN in folders or is_temporary(last):
            return "", ""
        if not self._leads_below(os.path.dirname(path), root):
            return "", "goes through a link"
        return path, ""

    def _below(self, relative: str) -> str:
        """Return the path of a relative name: below the first incoming directory that has it, else below the first."""
        paths = [f"{root}/{relative}" for root in self._roots]
        if len(paths) == 1:
            return paths[0]
        return next((path for path in paths if os.path.lexists(path)), paths[0])

    def _root_of(self, path: str) -> int:
        return next((index for index, root in enumerate(self._roots) if path.startswith(f"{root}/")), -1)

    def _leads_below(self, directory: str, root: int) -> bool:
        """Return whether a directory (or what is left of it) is where its path says, without a link on the way."""
        known = self._followed.get(directory)
        if known is None:
            below = directory[len(self._roots[root]) :]
            known = self._followed[directory] = os.path.realpath(directory) == self._real[root] + below
        return known

    def _is_ours(self, path: str) -> bool:
        if self._share is None:
            return True
        directory, name = os.path.split(path)
        below = directory[len(self._roots[self._root_of(path)]) + 1 :]
        return in_share(name if self._share.by == NAME else below, self._share)


class _Problems:
    """What is wrong with a list: numbers of names, never the names, which may hold a patient's."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._counts: dict[str, int] = {}
        self._is_cut = False

    def add(self, number: int, problem: str) -> None:
        """Note that name `number` (from 1) has a problem."""
        self._counts[problem] = self._counts.get(problem, 0) + 1
        numbers = self._numbers.setdefault(problem, [])
        if len(numbers) < _MOST_NAMED:
            numbers.append(number)

    def cut(self) -> None:
        """Note that the last name has no end."""
        self._is_cut = True

    def raise_if_any(self) -> None:
        """Raise ConfigError that tells them all."""
        texts = [
            f"--files-from: {self._counts[problem]} names refused, each {problem} (name {', '.join(map(str, numbers))}"
            f"{' ...' if self._counts[problem] > len(numbers) else ''}); list regular files below --incoming"
            for problem, numbers in self._numbers.items()
        ]
        if self._is_cut:
            texts.append(
                "--files-from: the last name has no end (NUL or newline), so the list may be cut; write it anew"
            )
        if texts:
            raise ConfigError(texts)

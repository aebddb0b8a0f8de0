"""PURE. Cases that show how cost grows: with number and size of files, series and patients, workers, and mounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from listener.benchmark.request import Options, Request, Shape

_KIB, _MIB = 1024, 1024**2

#: Small files, for cases in which only the number matters.
_SMALL = Shape(size=2 * _KIB, header=0)

#: Sizes in bytes and number of files of each; fewer large ones, since they fill the disk.
_SIZES = ((2 * _KIB, 20_000), (230 * _KIB, 4_000), (100 * _MIB, 12))


class Row(NamedTuple):
    """One run of `once`, or of `cp` without options. `across`: onto the other mount."""

    name: str
    shape: Shape
    options: Options | None
    across: bool = False


class Case(NamedTuple):
    """Rows that are compared with the first of them."""

    title: str
    rows: tuple[Row, ...]


def cases(request: Request, workers: int) -> Iterator[Case]:
    """Yield what is measured with --growth N: no row has more than N files."""
    most, plain = request.growth, Options(workers)
    counts = [count for count in (1000, 10_000, 100_000, 1_000_000, 10_000_000) if count <= most] or [most]
    # The slope of a thousand files is rough: the others are compared with 10,000.
    counts.sort(key=lambda count: (count != 10_000, count))
    yield Case(
        "number of files, 2 KiB each", tuple(Row(f"{count:,}", replace(_SMALL, files=count), plain) for count in counts)
    )
    files = min(most, 20_000)
    yield Case(
        f"{files:,} files of 2 KiB",
        (
            Row("in 100 series", replace(_SMALL, files=files, series=100), plain),
            Row("in one series", replace(_SMALL, files=files), plain),
            Row(f"of {files // 2:,} patients", replace(_SMALL, files=files, patients=max(1, files // 2)), plain),
        ),
    )
    yield Case(
        "size of files",
        tuple(
            Row(_size(size), Shape(files=min(most, count), size=size, header=min(110 * _KIB, size // 2)), plain)
            for size, count in _SIZES
        ),
    )
    shape = replace(request.shape, files=min(most, request.shape.files))
    yield Case("workers", tuple(Row(f"{count}", shape, Options(count)) for count in (1, 2, 4)))
    yield Case("mounts", tuple(_mounts(shape, plain, request.other_mount)))


def _mounts(shape: Shape, plain: Options, data: str) -> Iterator[Row]:
    yield Row("same mount", shape, plain)
    yield Row("same mount, --keep-source", shape, replace(plain, keep_source=True))
    yield Row("same mount, cp -r", shape, None)
    if data:
        yield Row("across mounts", shape, replace(plain, data=data))
        yield Row("across mounts, --keep-source", shape, replace(plain, data=data, keep_source=True))
        yield Row("across mounts, cp -r", shape, None, across=True)


def _size(size: int) -> str:
    return f"{size // _MIB} MiB" if size >= _MIB else f"{size // _KIB} KiB"

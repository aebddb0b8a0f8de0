"""What a benchmark is to measure: the corpus, the programs and how often. One row an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from listener import parse
from listener.config import Option, row, rows_of
from listener.errors import ConfigError

#: Parts of the benchmark, in order; the last one, which fills a disk, only where it is asked for.
PARTS = (
    "once",
    "parts",
    "repackers",
    "headers",
    "run",
    "paced",
    "xcr",
    "route",
    "failover",
    "export",
    "deidentify",
    "notify",
    "beside",
)

#: Ratio of files in the large and the small run of `once`.
SPREAD = 6


@dataclass(frozen=True, slots=True)
class Shape:
    """The corpus: `files` of `size` bytes, `header` of them before the pixels, in `series` of each of `patients`.
    `source`: a folder of files to copy with new UIDs instead; `compressed`: RLE Lossless.
    """

    files: int = 2000
    size: int = 230 * 1024
    header: int = 110 * 1024
    patients: int = 1
    series: int = 1
    source: str = ""
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `once` and `run`."""

    workers: int
    fsync: str = "none"
    keep_source: bool = False


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a number; give one above 0") from None
    if not 0 < value < 10**9:
        raise ValueError("is out of range; give a number above 0")
    return value


def _parts(text: str) -> tuple[str, ...]:
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in PARTS]:
        raise ValueError(f"does not know {', '.join(unknown)}; give some of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in words)


#: Fields whose option has another name.
_SPELLED = {"source": "from", "directory": "dir", "parts": "only"}


@dataclass(frozen=True, slots=True)
class Request:
    """A whole benchmark; `keep_source` as for `once`."""

    keep_source: bool = False
    files: int = row(2000, parse.whole(1, 10**7), "N", "files of the large run; the small one has a sixth of them")
    size: int = row(230 * 1024, parse.size(2048), "SIZE", "size of a file", shown="230KiB")
    header: int = row(110 * 1024, parse.size(0), "SIZE", "so much of it stands before the pixels", shown="110KiB")
    patients: int = row(1, parse.whole(1, 10**6), "N", "patients that the files belong to")
    series: int = row(1, parse.whole(1, 10**6), "N", "series of each patient")
    source: str = row(
        "", parse.directory, "DIR", "copy the files in DIR, with new UIDs, instead of synthetic ones", shown="none"
    )
    compressed: bool = row(False, parse.boolean, "", "pixels in RLE Lossless, encapsulated")
    parts: tuple[str, ...] = row(
        PARTS[:-1], _parts, "PARTS", f"some of {', '.join(PARTS)}, with commas", shown=f"all but {PARTS[-1]}"
    )
    repeat: int = row(3, parse.whole(1, 1000), "N", "rounds; figures are medians")
    senders: int = row(4, parse.whole(1, 64), "N", "senders at once")
    pace: float = row(0.5, _positive, "SHARE", "paced senders: share of storescp's own rate")
    few: int = row(20, parse.whole(1, 10**6), "N", "files for px-repack; rx-repack gets ten times as many")
    jobs: int = row(1, parse.whole(1, 1000), "N", "processes of px-repack and rx-repack at once")
    directory: str = row(
        "", parse.directory, "DIR", "where to work, best a new and empty ext4", shown="the temporary directory"
    )
    watts_per_core: float = row(10.0, _positive, "W", "what a busy processor takes, where RAPL cannot be read")
    grid_intensity: float = row(475.0, _positive, "G", "g CO2e a kWh")
    emissions: str = row("", parse.file, "FILE", "add a row for each program to this emissions.csv", shown="none")
    plot: str = row("", parse.file, "FILE", "draw a picture (SVG)", shown="none")
    json: bool = row(False, parse.boolean, "", "figures for programs")

    @classmethod
    def of(cls, given: Mapping[str, Any], *, keep_source: bool = False) -> Request:
        """Make a request of the command line's values. Raises ConfigError that names everything that is wrong."""
        values: dict[str, Any] = {"keep_source": keep_source}
        problems = []
        for name, option in options().items():
            text = given.get(name)
            try:
                if text is not None:
                    values[name] = option.parse(text)
            except ValueError as error:
                problems.append(f"{flag(name)} {error} (given: {text!r})")
        if problems:
            raise ConfigError(problems)
        return cls(**values)

    @property
    def shape(self) -> Shape:
        """Return the corpus, of the options that are named as its fields."""
        return Shape(**{each.name: getattr(self, each.name) for each in fields(Shape)})


def options() -> dict[str, Option]:
    """Return the rows of the options, by field."""
    return rows_of(Request)


def flag(name: str) -> str:
    """Return the spelling of an option on the command line."""
    return f"--{_SPELLED.get(name, name).replace('_', '-')}"

"""PURE. What a benchmark is to measure: the corpus, the programs and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from listener import parse
from listener.errors import ConfigError

#: Parts of the benchmark, in order.
PARTS = ("once", "repackers", "headers", "run", "paced", "xcr")

#: Ratio of files in the large and the small run of `once`.
SPREAD = 6

T = TypeVar("T")


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


#: The defaults.
_SHAPE = Shape()


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `once` and `run`; `data` is the directory on another mount for their trees, "" for none."""

    workers: int
    fsync: str = "none"
    keep_source: bool = False
    data: str = ""


@dataclass(frozen=True)
class Request:
    """A whole benchmark. `few`: files for a program with one process a file; `pace`: share of storescp's own rate."""

    shape: Shape
    parts: tuple[str, ...] = PARTS
    growth: int = 0
    repeat: int = 3
    jobs: int = 1
    few: int = 20
    senders: int = 4
    pace: float = 0.5
    keep_source: bool = False
    other_mount: str = ""
    watts_per_core: float = 10.0
    grid_intensity: float = 475.0
    directory: str = ""
    as_json: bool = False
    markdown: bool = False
    plot: str = ""
    save: str = ""
    emissions: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Request:
        """Make a request of the command line's values. Raises ConfigError that names everything that is wrong."""
        words = _Values(given)
        request = cls(
            shape=_shape(words),
            parts=words.read("only", _parts, cls.parts),
            growth=words.read("growth", parse.whole(0, 10**7), cls.growth),
            repeat=words.read("repeat", parse.whole(1, 1000), cls.repeat),
            jobs=words.read("jobs", parse.whole(1, 1000), cls.jobs),
            few=words.read("few", parse.whole(1, 10**6), cls.few),
            senders=words.read("senders", parse.whole(1, 64), cls.senders),
            pace=words.read("pace", _positive, cls.pace),
            keep_source=bool(given.get("keep_source")),
            other_mount=words.read("other_mount", parse.directory, ""),
            watts_per_core=words.read("watts_per_core", _positive, cls.watts_per_core),
            grid_intensity=words.read("grid_intensity", _positive, cls.grid_intensity),
            directory=words.read("directory", parse.directory, ""),
            as_json=bool(given.get("as_json")),
            markdown=bool(given.get("markdown")),
            save=words.read("save", parse.directory, ""),
            plot=words.read("plot", parse.directory, ""),
            emissions=words.read("emissions", parse.directory, ""),
        )
        if words.problems:
            raise ConfigError(words.problems)
        return request


class _Values:
    """The command line's values, read one by one; problems are collected."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.problems: list[str] = []

    def read(self, name: str, reader: Callable[[str], T], otherwise: T) -> T:
        text = self._given.get(name)
        if text is None:
            return otherwise
        try:
            return reader(text)
        except ValueError as error:
            spelled = _SPELLED.get(name, name).replace("_", "-")
            self.problems.append(f"--{spelled} {error} (given: {text!r})")
            return otherwise


#: Fields whose option has another name.
_SPELLED = {"source": "from", "directory": "dir"}


def _shape(words: _Values) -> Shape:
    return Shape(
        files=words.read("files", parse.whole(1, 10**7), _SHAPE.files),
        size=words.read("size", parse.size(2048), _SHAPE.size),
        header=words.read("header", parse.size(0), _SHAPE.header),
        patients=words.read("patients", parse.whole(1, 10**6), _SHAPE.patients),
        series=words.read("series", parse.whole(1, 10**6), _SHAPE.series),
        source=words.read("source", parse.directory, ""),
        compressed=words.read("compressed", bool, False),
    )


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

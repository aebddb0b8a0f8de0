"""PURE. How long a backfill takes: the formula of docs/scale.md, and a table of predicted and measured seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

#: Metadata operations a file, as strace counts them; with --keep-source more.
OPERATIONS, OPERATIONS_COPIED = 9, 13


class Load(NamedTuple):
    """An archive: `files`, bytes that are moved a file (read and written ones), metadata operations a file, and parts,
    all at once.
    """

    files: int
    moved: float
    operations: int
    parts: int


class Constants(NamedTuple):
    """What a machine does. Processor seconds: `start` of a part, `file` of all processes, `loop` of it in a part's
    parent. `operations` on metadata and `moved` bytes a second of the storage, and the processors that were there.
    """

    start: float
    file: float
    loop: float
    operations: float
    moved: float
    processors: float


class Prediction(NamedTuple):
    """Seconds of a backfill, and which of the four bounds it."""

    seconds: float
    bound: str


def predict(load: Load, constants: Constants) -> Prediction:
    """Return the seconds of a backfill: those of all starts, and the largest of the four."""
    bounds = {
        "processors": load.files * constants.file / constants.processors,
        "loop": load.files * constants.loop / load.parts,
        "metadata": load.files * load.operations / constants.operations,
        "bytes": load.files * load.moved / constants.moved,
    }
    bound = max(bounds, key=bounds.__getitem__)
    return Prediction(load.parts * constants.start / constants.processors + bounds[bound], bound)


class Check(NamedTuple):
    """One corpus in one round: what was predicted by these constants, and what was measured."""

    corpus: str
    load: Load
    constants: Constants
    prediction: Prediction
    seconds: float

    @property
    def ratio(self) -> float:
        """Return predicted seconds by measured ones."""
        return self.prediction.seconds / self.seconds


HEADS = (
    "corpus", "files", "bound by", "start ms", "c us", "l us", "M ops/s", "B MB/s", "processors", "predicted s",
    "measured s", "predicted / measured",
)  # fmt: skip


def row(rounds: Sequence[Check]) -> dict[str, Any]:
    """Return one corpus: medians of its rounds, by the words of HEADS; last the ratio of every round."""
    first = rounds[0]
    middle = Constants(*(statistics.median(each) for each in zip(*(one.constants for one in rounds), strict=True)))
    values = (
        first.corpus,
        first.load.files,
        statistics.mode(one.prediction.bound for one in rounds),
        middle.start * 1e3,
        middle.file * 1e6,
        middle.loop * 1e6,
        middle.operations,
        middle.moved / 1e6,
        middle.processors,
        statistics.median(one.prediction.seconds for one in rounds),
        statistics.median(one.seconds for one in rounds),
        statistics.median(one.ratio for one in rounds),
    )
    return {**dict(zip(HEADS, values, strict=True)), "ratios": [round(one.ratio, 2) for one in rounds]}

"""A data set as two programs can compare it: for tests, and for scripts in other environments, beside which it lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def values(dataset: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Elements by their path, private ones without their creators; values as they are printed."""
    for element in dataset:
        name = f"{path}{int(element.tag):08x}"
        if element.VR == "SQ":
            yield name, "sequence"
            for number, item in enumerate(element.value):
                yield from values(item, f"{name}.{number}.")
        else:
            yield name, "" if element.value is None else str(element.value)

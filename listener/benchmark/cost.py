"""PURE. Energy and carbon of a figure, measured or estimated from processor time."""

from __future__ import annotations

from typing import NamedTuple

from listener.benchmark.figures import Figure

JOULES_A_KWH = 3.6e6


class Cost(NamedTuple):
    """Cost of a number of files: joules, watt hours, grams of CO2e; `measured`, or estimated from processor time."""

    joules: float
    watt_hours: float
    grams: float
    measured: bool


def cost(figure: Figure, files: int, watts_per_core: float, grid_intensity: float) -> Cost:
    """Return the cost of `files` files. `watts_per_core` is that of a busy processor, `grid_intensity` g CO2e a kWh."""
    measured = figure.joules is not None
    seconds = figure.together_cpu_us or figure.cpu_us
    joules = figure.joules * files if figure.joules is not None else seconds / 1e6 * files * watts_per_core
    return Cost(joules, joules / 3600, joules / JOULES_A_KWH * grid_intensity, measured)

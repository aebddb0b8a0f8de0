"""Numbers as a person reads them, by the units that Grafana names."""

from __future__ import annotations

import math

_SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))

#: The units that the dashboard may use.
UNITS = ("none", "short", "s", "bytes", "Bps", "cps", "percentunit")


def shown(value: float, unit: str) -> str:
    """A value with its unit. ValueError for a unit that is none of UNITS."""
    if unit not in UNITS:
        raise ValueError(unit)
    if not math.isfinite(value):
        return "-"
    if unit == "s":
        return _scaled(value, _SECONDS)
    if unit in ("bytes", "Bps"):
        return _scaled(value, _BYTES) + ("/s" if unit == "Bps" else "")
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    number = f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.2g}"
    return number + ("/s" if unit == "cps" else "")


def _scaled(value: float, scale: tuple[tuple[float, str], ...]) -> str:
    if value == 0:
        return "0"
    size, name = next((one for one in scale if abs(value) >= one[0]), scale[-1])
    number = value / size
    return f"{number:.0f} {name}" if abs(number) >= 100 else f"{number:.3g} {name}"

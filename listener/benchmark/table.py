"""PURE. Figures as a table for people, which is Markdown too, and as a value for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from listener.benchmark.cost import Cost
from listener.benchmark.figures import Figure


class Row(NamedTuple):
    """A figure, and the cost of a million files."""

    figure: Figure
    cost: Cost


class Group(NamedTuple):
    """Programs that are compared with the first of them."""

    title: str
    rows: Sequence[Row]


class _Column(NamedTuple):
    head: str
    value: Callable[[Row], str]


def number(value: float | None) -> str:
    """Return three digits or all before the point; "" for what was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _lags(figure: Figure) -> str:
    lags = (figure.lag_p50_ms, figure.lag_p95_ms, figure.lag_p99_ms, figure.lag_max_ms)
    return "" if figure.lag_p50_ms is None else " / ".join(map(number, lags))


_COMMON = (
    _Column("files", lambda row: f"{row.figure.files:,}"),
    _Column("RSS MB", lambda row: number(row.figure.rss_mb)),
    _Column("PSS MB", lambda row: number(row.figure.pss_mb)),
    _Column("processes", lambda row: str(row.figure.processes)),
    _Column("Wh a million", lambda row: number(row.cost.watt_hours) + ("" if row.cost.measured else " *")),
    _Column("g CO2e", lambda row: number(row.cost.grams)),
)

_REPACKING = (
    _Column("program", lambda row: row.figure.program),
    _COMMON[0],
    _Column("CPU us a file", lambda row: number(row.figure.cpu_us)),
    _Column("times", lambda row: number(row.figure.ratio)),
    _Column("files/s", lambda row: number(row.figure.files_a_second)),
    _Column("MB/s", lambda row: number(row.figure.mb_a_second)),
    *_COMMON[1:],
)

_RECEIVING = (
    _Column("program", lambda row: row.figure.program),
    _COMMON[0],
    _Column("received/s", lambda row: number(row.figure.received_a_second)),
    _Column("of alone", lambda row: number(row.figure.share)),
    _Column("files/s", lambda row: number(row.figure.files_a_second)),
    _Column("lag ms p50 / p95 / p99 / max", lambda row: _lags(row.figure)),
    _Column("CPU us: storescp", lambda row: number(row.figure.receiver_cpu_us)),
    _Column("listener", lambda row: number(row.figure.cpu_us)),
    _Column("together", lambda row: number(row.figure.together_cpu_us)),
    *_COMMON[1:],
)

_BUSY = (
    _REPACKING[0],
    _Column("% of a processor", lambda row: number(row.figure.busy_percent)),
    *_COMMON[1:4],
)

_NOT_OF_LAGS = ("received/s", "of alone", "CPU us: storescp", "together")
_LAGS = tuple(column for column in _RECEIVING if column.head not in _NOT_OF_LAGS)


def text(groups: Iterable[Group]) -> str:
    """Return tables in columns of equal width."""
    return "\n".join(f"{title[0].upper()}{title[1:]}\n\n{aligned(cells)}" for title, cells in _tables(groups))


def value(groups: Iterable[Group], facts: dict[str, Any]) -> dict[str, Any]:
    """Return everything, for JSON: `facts` of the machine, and groups of figures. Units are in the names."""
    return {
        "machine": facts,
        "groups": [
            {
                "title": group.title,
                "figures": [{**asdict(row.figure), "a_million_files": row.cost._asdict()} for row in group.rows],
            }
            for group in groups
        ],
    }


def _tables(groups: Iterable[Group]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield title and cells of each group, and of the time in each step where that was measured."""
    for group in groups:
        yield group.title, _cells(group)
        if any(row.figure.steps_us for row in group.rows):
            yield f"{group.title}: us a file in each step of a worker", _steps(group)


def _steps(group: Group) -> list[list[str]]:
    timed = [row.figure for row in group.rows if row.figure.steps_us]
    names = list(timed[0].steps_us or ())
    rows = [[figure.program, *(number((figure.steps_us or {}).get(name)) for name in names)] for figure in timed]
    return [["program", *names], *rows]


def _cells(group: Group) -> list[list[str]]:
    columns: Sequence[_Column] = _REPACKING
    if any(row.figure.receiver_cpu_us is not None for row in group.rows):
        columns = _RECEIVING
    elif any(row.figure.busy_percent is not None for row in group.rows):
        columns = _BUSY
    elif any(row.figure.lag_p50_ms is not None for row in group.rows):
        columns = _LAGS
    return [[column.head for column in columns]] + [[column.value(row) for column in columns] for row in group.rows]


def aligned(cells: list[list[str]]) -> str:
    """Return rows of cells as a table in columns of equal width; the first row is its head."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    head, *rows = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in escaped)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))

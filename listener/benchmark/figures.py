"""PURE. Figures of samples: medians, quantiles, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lag:
    """Quantiles of the seconds from a file's close to its outcome."""

    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, lags: Sequence[float]) -> Lag:
        """Return the quantiles of the lags of all files, at least one."""
        ordered = sorted(lags)
        return cls(*(ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99, 1)))


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one program. `cpu`: processor seconds a file, with all child processes, without the start of a
    service; `wall`: seconds; `joules`: of the processors, None where not readable; `receiver`: processor seconds a file
    of storescp; `rate`: files a second that storescp received, from the first to the last; `steps`: seconds a file in
    each step of a worker; `busy`: the share of one processor that a program took.
    """

    program: str
    files: int
    size: int
    cpu: float
    wall: float
    rss: int = 0
    pss: int = 0
    processes: int = 0
    joules: float | None = None
    lag: Lag | None = None
    receiver: float | None = None
    rate: float | None = None
    steps: Mapping[str, float] | None = None
    busy: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of one program in units for people. `ratio`: processor time relative to the group's first program;
    `share`: storescp's rate relative to its rate alone in the same round. None: not measured.
    """

    program: str
    files: int
    cpu_us: float
    ratio: float | None
    files_a_second: float
    mb_a_second: float
    rss_mb: float
    pss_mb: float
    processes: int
    joules: float | None
    lag_p50_ms: float | None = None
    lag_p95_ms: float | None = None
    lag_p99_ms: float | None = None
    lag_max_ms: float | None = None
    received_a_second: float | None = None
    share: float | None = None
    receiver_cpu_us: float | None = None
    together_cpu_us: float | None = None
    steps_us: Mapping[str, float] | None = None
    busy_percent: float | None = None


def figures(samples: Sequence[Sequence[Sample]]) -> list[Figure]:
    """Return a figure for each program of a group, compared with the first one. One sequence of samples a round."""
    if not samples or not samples[0]:
        return []
    base = [sample.cpu for sample in (each[0] for each in samples)]
    alone = [sample.rate for sample in (each[0] for each in samples)]
    return [_figure([each[number] for each in samples], base, alone) for number in range(len(samples[0]))]


def _figure(rounds: Sequence[Sample], base: Sequence[float], alone: Sequence[float | None]) -> Figure:
    def median(of: Callable[[Sample], float | None], times: float = 1) -> float | None:
        values = [value for sample in rounds if (value := of(sample)) is not None]
        return statistics.median(values) * times if values else None

    def known(of: Callable[[Sample], float]) -> float:
        return statistics.median(map(of, rounds))

    ratios = [sample.cpu / cost for sample, cost in zip(rounds, base, strict=True) if cost > 0]
    shares = [sample.rate / rate for sample, rate in zip(rounds, alone, strict=True) if sample.rate and rate]
    first = rounds[0]
    return Figure(
        program=first.program,
        files=first.files,
        cpu_us=known(lambda sample: sample.cpu) * 1e6,
        ratio=statistics.median(ratios) if ratios else None,
        files_a_second=known(lambda sample: sample.files / sample.wall),
        mb_a_second=known(lambda sample: sample.size / sample.wall) / 1e6,
        rss_mb=max(sample.rss for sample in rounds) / 1e6,
        pss_mb=max(sample.pss for sample in rounds) / 1e6,
        processes=max(sample.processes for sample in rounds),
        joules=median(lambda sample: None if sample.joules is None else sample.joules / sample.files),
        lag_p50_ms=median(lambda sample: sample.lag.p50 if sample.lag else None, 1e3),
        lag_p95_ms=median(lambda sample: sample.lag.p95 if sample.lag else None, 1e3),
        lag_p99_ms=median(lambda sample: sample.lag.p99 if sample.lag else None, 1e3),
        lag_max_ms=median(lambda sample: sample.lag.most if sample.lag else None, 1e3),
        received_a_second=median(lambda sample: sample.rate),
        share=statistics.median(shares) if shares else None,
        receiver_cpu_us=median(lambda sample: sample.receiver, 1e6),
        together_cpu_us=median(lambda sample: None if sample.receiver is None else sample.receiver + sample.cpu, 1e6),
        steps_us=_steps([sample.steps for sample in rounds if sample.steps]),
        busy_percent=median(lambda sample: sample.busy, 100),
    )


def _steps(rounds: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """Return the median of each step in microseconds a file."""
    names = rounds[0] if rounds else ()
    return {name: statistics.median(steps[name] for steps in rounds) * 1e6 for name in names} or None

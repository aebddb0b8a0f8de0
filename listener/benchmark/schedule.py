"""Order of the measurements: programs of a group take turns, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from listener.backfill.request import PRIORITIES, SHARED_BY
from listener.benchmark import beside, receiving, repackers, routing, table
from listener.benchmark.corpus import Corpus
from listener.benchmark.deidentifying import Deidentifying
from listener.benchmark.exporting import Exporting, can_export
from listener.benchmark.figures import Figure, Sample, figures
from listener.benchmark.notifying import ENDS, RATE, Notifying, can_notify
from listener.benchmark.reading import readings
from listener.benchmark.request import SPREAD, Options, Request
from listener.benchmark.senders import CHUNK, Batches, sender_program
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import WorkDir, print_progress
from listener.quickstart.processes import dcmtk

_LEVELS = ("none", "batch")

#: Files of both runs of `once` relative to the large one.
_ONCE = 1 + 1 / SPREAD

#: Files a second in the measurement of hops, and files of a study whose worker fails.
_A_SECOND, _A_STUDY = 100.0, 200

#: Files that come beside a backfill or a batch, and how many of them a second.
_LIVE, _LIVE_A_SECOND = 400, 50.0

#: Series of what is exported or cleaned, at least: archives and units are one a series, and several go at once.
_SERIES = 10

#: A measurement.
Step = Callable[[], Sample]


class Measured(NamedTuple):
    """A group of programs, each with its figure, compared with the first."""

    title: str
    figures: list[Figure]


class Rounds:
    """The whole benchmark. `failures`: what did not produce everything."""

    def __init__(self, request: Request, workers: int, workdir: WorkDir) -> None:
        self._request, self._workers, self._workdir = request, workers, workdir
        self._alone = 0.0
        self.failures: list[str] = []

    def measure(self) -> list[Measured]:
        """Measure every group that was asked for and can be measured; return those with figures."""
        self._workdir.estimate_space(self._wanted())
        steps: dict[str, Sequence[Step]] = {
            "repacking": self._repacking(),
            "reading headers of fresh series": self._headers(),
            "receiving": self._receiving(),
            "receiving, paced": self._paced(),
            "sending what lies there": self._sending(),
            "routing what comes": self._routing(),
            f"routing {_A_SECOND:.0f} files a second": self._hops(),
            "seconds until another worker has the study": self._failover(),
            f"{_LIVE_A_SECOND:.0f} files a second beside parts, a batch and an export": self._beside(),
            "exporting": self._exporting(),
            **self._notifying(),
            "cleaning": self._cleaning(),
        }
        groups = [self.group(title, list(made)) for title, made in steps.items() if made]
        return [group for group in groups if group.figures]

    def group(self, title: str, steps: Sequence[Step]) -> Measured:
        """Measure rounds of these programs. One that fails is reported and has no figure; without the first,
        none has.
        """
        rounds: list[dict[int, Sample]] = []
        failed: set[int] = set()
        for number in range(self._request.repeat):
            rounds.append({})
            for place, step in enumerate(steps):
                if place in failed:
                    continue
                try:
                    sample = rounds[-1][place] = step()
                except Unfinished as error:
                    failed.add(place)
                    self.failures.append(f"{title}: {error}")
                    continue
                print_progress(f"{title}, round {number + 1} of {self._request.repeat}: {_line(sample)}")
        kept = [] if 0 in failed else [place for place in range(len(steps)) if place not in failed]
        return Measured(title, figures([[each[place] for place in kept] for each in rounds]))

    # -- what lies there

    def _repacking(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        steps: list[Step] = []
        if "once" in request.parts:
            for level in _LEVELS:
                options = Options(self._workers, level, request.keep_source)
                more = " --keep-source" if request.keep_source else ""
                steps.append(partial(repackers.once, workdir, workdir.corpus, options, f"once --fsync {level}{more}"))
            if request.keep_source:
                steps.append(partial(repackers.copying, workdir, workdir.corpus))
        if "parts" in request.parts:
            options = Options(self._workers, "none", request.keep_source)
            for by in SHARED_BY:
                name = f"once --part of {repackers.BACKFILL_PARTS} --part-by {by} --fsync none"
                steps.append(partial(repackers.in_parts, workdir, workdir.corpus, options, by, name))
        if "repackers" in request.parts:
            for program in repackers.predecessors():
                files = self._few(program)
                steps.append(partial(repackers.a_file, workdir, workdir.corpus, program, files, request.jobs))
        return steps

    def _headers(self) -> Sequence[Step]:
        if "headers" not in self._request.parts:
            return []
        return readings(self._workdir.home / "fresh", self._request.source)

    def _few(self, program: str) -> int:
        return min(self._request.files, self._request.few * repackers.PREDECESSORS[program])

    # -- what is received

    def _receiving(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if not {"run", "xcr"} & set(request.parts) or not _can_receive():
            return []
        batches = Batches(workdir.home / "sent", workdir.corpus, request.senders)
        steps: list[Step] = [partial(self._alone_at_full_rate, batches)]
        if "run" in request.parts:
            for level in _LEVELS:
                options = Options(self._workers, level)
                steps.append(partial(receiving.behind, workdir, batches, options, f"storescp | run --fsync {level}"))
        if "xcr" in request.parts:
            for program in repackers.predecessors():
                shape = replace(workdir.corpus.shape, files=self._few(program))
                few = Batches(workdir.home / f"sent-{program}", Corpus(shape), request.senders)
                steps.append(partial(receiving.starting, workdir, few, program, f"storescp -xcr {program}"))
        return steps

    def _alone_at_full_rate(self, batches: Batches) -> Sample:
        sample = receiving.alone(self._workdir, batches, "storescp alone")
        self._alone = sample.rate or self._alone
        return sample

    def _paced(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "paced" not in request.parts or not _can_receive():
            return []
        batches = Batches(workdir.home / "sent-paced", workdir.corpus, request.senders, CHUNK)
        steps: list[Step] = [lambda: receiving.alone(workdir, batches, "storescp alone", self._pace())]
        for level in _LEVELS:
            behind = partial(receiving.behind, workdir, batches, Options(self._workers, level))
            steps.append(partial(self._at_pace, behind, f"storescp | run --fsync {level}"))
        return steps

    def _sending(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "route" not in request.parts or not _can_receive():
            return []
        batches = Batches(workdir.home / "sent-straight", workdir.corpus, 1)
        options, program = Options(self._workers), sender_program() or ""
        return [
            partial(routing.straight, workdir, batches, program),
            partial(routing.queued, workdir, batches, options, "route"),
            partial(routing.queued, workdir, batches, options, "route, worker without TCP_NODELAY", nodelay=False),
        ]

    def _routing(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "route" not in request.parts or not _can_receive():
            return []
        batches = Batches(workdir.home / "sent-routed", workdir.corpus, 1)
        options, program = Options(self._workers), sender_program() or ""
        return [
            partial(routing.straight, workdir, batches, program),
            partial(routing.live, workdir, batches, options, "storescp | run | route | worker"),
        ]

    def _hops(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "route" not in request.parts or not _can_receive():
            return []
        batches, options = Batches(workdir.home / "sent-one-by-one", workdir.corpus, 1), Options(self._workers)
        hop = partial(routing.hop, workdir, batches, options, _A_SECOND)
        return [partial(beside.intake, workdir, batches, options, _A_SECOND), *_both(hop)]

    def _failover(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "failover" not in request.parts or not _can_receive():
            return []
        # All of one study.
        shape = replace(workdir.corpus.shape, files=min(_A_STUDY, request.files), patients=1, series=1)
        batches, options = Batches(workdir.home / "sent-study", Corpus(shape), 1), Options(self._workers)
        return [partial(routing.failed_over, workdir, batches, options, fault) for fault in routing.FAULTS]

    def _beside(self) -> list[Step]:
        request, workdir = self._request, self._workdir
        if "beside" not in request.parts or not _can_receive():
            return []
        shape = replace(workdir.corpus.shape, files=min(_LIVE, request.files))
        batches = Batches(workdir.home / "sent-beside", Corpus(shape), 1)
        live = (workdir, batches, Options(self._workers, "batch"), _LIVE_A_SECOND)
        parts = [partial(beside.intake_beside_parts, *live, priority) for priority in PRIORITIES]
        export = [partial(beside.intake_beside_export, *live)] if can_export() else []
        return [partial(beside.intake, *live), *parts, partial(beside.intake_beside_batch, *live), *export]

    def _exporting(self) -> list[Step]:
        if "export" not in self._request.parts or not can_export():
            return []
        return [step for _, step in Exporting(self._workdir, self._several_series()).programs()]

    def _cleaning(self) -> list[Step]:
        if "deidentify" not in self._request.parts:
            return []
        return [step for _, step in Deidentifying(self._workdir, self._several_series()).programs()]

    def _several_series(self) -> Corpus:
        """Return the corpus in some series at least."""
        shape = self._workdir.corpus.shape
        series = min(max(shape.series, -(-_SERIES // shape.patients)), shape.files)
        return Corpus(replace(shape, series=series))

    def _notifying(self) -> dict[str, Sequence[Step]]:
        request = self._request
        if "notify" not in request.parts or not can_notify() or not _can_receive():
            return {}
        notifying = Notifying(self._workdir, request.files, Options(self._workers))
        return {
            "registering series of one file": [notifying.alone, notifying.registering, notifying.telling],
            f"until the message of a series is there, {ENDS:.0f} a second": [notifying.told],
            "what the stage notify takes": [notifying.idle, notifying.growing],
            f"intake of {RATE:.0f} files a second while brokers hang": _both(notifying.hanging),
        }

    def _at_pace(self, behind: Callable[[str, float], Sample], name: str) -> Sample:
        return behind(name, self._pace())

    def _pace(self) -> float:
        """Return files a second: a share of storescp's rate alone, which is measured if it was not."""
        if not self._alone:
            batches = Batches(self._workdir.home / "sent-first", self._workdir.corpus, self._request.senders)
            self._alone_at_full_rate(batches)
        return self._alone * self._request.pace

    # -- how much it is

    def _wanted(self) -> float:
        """Return the number of files that all runs write."""
        request, repeat = self._request, self._request.repeat
        copies = 2 if request.keep_source else 1
        whole = {
            "once": 2 * repeat * _ONCE * copies,
            "parts": repeat * _ONCE * copies,
            "run": 3 * repeat + 1,
            "paced": 3 * repeat + 2,
            "route": 12 * repeat + 3,
            "export": 7 * repeat + 2,
            "notify": 5 * repeat + 1,
            "deidentify": 6 * repeat + 2,
        }
        others = 2 * beside.EACH * self._workers + 2 * beside.BATCH + 2 * beside.EXPORTED
        archives = repeat * others if "beside" in request.parts else 0
        return archives + request.files * sum(whole.get(part, 0) for part in request.parts)


def _both(measure: Callable[[], tuple[Sample, Sample]]) -> list[Step]:
    """Return two steps, of which the first measures for both."""
    measured: list[Sample] = []

    def first() -> Sample:
        measured[:] = measure()
        return measured[0]

    return [first, lambda: measured[1]]


def _can_receive() -> bool:
    return dcmtk("storescp") and sender_program() is not None


def _line(sample: Sample) -> str:
    cpu = f"{(sample.cpu + (sample.receiver or 0)) * 1e6:,.0f} us CPU a file"
    lag = f", lag p99 {sample.lag.p99 * 1e3:.1f} ms" if sample.lag else ""
    return f"{sample.program}: {sample.files:,} files, {cpu}, {table.number(sample.files / sample.wall)} files/s{lag}"

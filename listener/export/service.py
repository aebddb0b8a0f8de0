"""The stage export: takes deliveries of series in several threads, and tells in the loop what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from listener.diagnostics import log
from listener.dicom.attributes import is_keyword
from listener.dicom.reader import Wanted
from listener.errors import ConfigError, LedgerFault
from listener.export import columns, metric_rows, parquet
from listener.export.address import parse
from listener.export.directory import DirectoryTarget
from listener.export.due import Wants
from listener.export.faults import TargetFault, TargetRefuses
from listener.export.flow import Flow, Turns
from listener.export.heap import return_large_blocks
from listener.export.instances import ALWAYS, Survey
from listener.export.options import ExportOptions
from listener.export.places import place_of
from listener.export.receiver import SeriesReceiver
from listener.export.series import Exported, Rules, SeriesExporter
from listener.export.spool import Spool
from listener.export.table import PartRules, Table, member
from listener.export.target import Target
from listener.export.upload import Rules as UploadRules
from listener.export.upload import Uploader
from listener.ledger.delivery_threads import Consumer, DeliveryThreads
from listener.ledger.interests import text_of
from listener.ledger.reader import reading
from listener.planning.template import compile_template
from listener.stages.outbox import Outbox
from listener.stages.service import Tools
from listener.telemetry.health import Checks
from listener.telemetry.metric_rows import Row

#: Seconds for which a delivery is leased; renewed while it is worked on.
_LEASE = 120.0

#: Seconds between two looks whether a stage that is to end has nothing to do any more.
_HURRY = 0.02

#: Bytes of objects that may be on their way to a store at once: two large ones, with three and with two parts.
_MEMORY = 40 * 2**20

#: Seconds that a thread is waited for when what it does was aborted.
_LAST_SECONDS = 5.0


class Collection(NamedTuple):
    """What is exported: directories of the collection's state and data."""

    state: str
    data: str


def open_target(options: ExportOptions) -> Target:
    """Return the target of --to. Raises ConfigError."""
    try:
        address = parse(options.to)
    except ValueError as error:  # Only of an option that was not given: the others were parsed.
        raise ConfigError([f"--to: {error}"]) from None
    if address.scheme == "file":
        return DirectoryTarget(os.path.abspath(address.path))
    from listener.export.objects import ObjectTarget

    return ObjectTarget(address, options.endpoint, options.part, _MEMORY)


def part_rules(options: ExportOptions) -> PartRules:
    """Return when parts of the table are closed, and its further columns."""
    return PartRules(options.part_rows, options.part_every, options.columns)


def require(collection: Collection, target: Target, *, table: bool) -> None:
    """Raise ConfigError where the collection has no ledger, the target will never take anything by itself, or what
    writes the table is not installed.
    """
    problems = []
    if table:
        parquet.require()
    try:
        with reading(collection.state) as reader:
            reader.data_dir()
    except LedgerFault as fault:
        problems.append(f"--state: '{collection.state}': {fault}")
    try:
        target.probe()
    except TargetRefuses as fault:
        problems.append(f"--to: {fault.detail}")
    except TargetFault as fault:
        log.warning("%s (%s); what is due waits until it can", fault, target.shown)
    if problems:
        raise ConfigError(problems)


def layout(options: ExportOptions) -> Rules:
    """Return how series are laid out. Raises ConfigError where the names of archives would not be unique."""
    name = compile_template(options.archive_name, is_keyword) if options.archive_name else None
    if name and options.archive == "series" and "SeriesInstanceUID" not in name.fields:
        raise ConfigError(["--archive-name: would name two series of a study alike; put %SeriesInstanceUID into it"])
    if name and options.archive == "none":
        raise ConfigError(["--archive-name: is of no use without --archive; give both, or none"])
    return Rules(
        by_uid=options.keys == "uid",
        verified=options.verify,
        archive=options.archive,
        compress=options.compress == "gzip",
        volume=options.volume,
        name=name,
    )


class ExportStage:
    """See Stage."""

    name = metric_rows.NAME
    rows: Sequence[Row] = metric_rows.ROWS

    def __init__(self, collection: Collection, options: ExportOptions, target: Target) -> None:
        self._collection, self._options, self._target = collection, options, target
        self._layout = layout(options)
        self._wanted = Wanted.of(_keywords(options, self._layout))  # Before the start is told: it loads pydicom.
        #: Seconds until the next turn where nothing wakes it: a stage that is to end looks often whether it can.
        self.pause = 1.0

    def begin(self, tools: Tools) -> Sequence[int]:
        """Start the threads."""
        return_large_blocks()
        self._tools = tools
        options, flow = self._options, Flow(self._options.rate)
        self._pool = ThreadPoolExecutor(options.uploads, thread_name_prefix="listener-upload")
        rules = self._layout
        reads = options.verify == "read"
        plan = Survey(self._collection.data, self._wanted, options.allow_identified, flow.tick, reads, Turns().taken)

        self._outbox = outbox = Outbox(tools.wakeup.set)
        uploader = Uploader(self._target, UploadRules(reads=reads), flow, outbox.count)
        exporter = SeriesExporter(self._target, uploader, plan, rules, self._pool)
        wants = Wants(options.archive, options.incomplete == "send")
        self._receiver = SeriesReceiver(self._collection.state, wants, exporter, flow, outbox)
        consumer = Consumer(self.name, "stage export", text_of(wants.interest), _LEASE)
        self._threads = DeliveryThreads(options.uploads, consumer, self._receiver, self._collection.state)
        self._spool = Spool(self._collection.state)
        self._receiver.keep = self._keep
        self._table: Table | None = None
        if not options.no_parquet:
            self._begin_table(uploader)
        self._threads.start(outbox.answered(self.name))
        return ()

    def _keep(self, exported: Exported) -> None:
        has_table = not self._options.no_parquet
        one = member(exported.manifest, exported.new, self._collection.data) if has_table else None
        self._spool.add(one, place_of(exported.manifest, exported.key, self._target.shown))

    def _begin_table(self, uploader: Uploader) -> None:
        def written(about: Mapping[str, Any]) -> None:
            self._outbox.count("export_parts_total")
            self._outbox.event("export-part", **about)

        self._table = Table(self._spool, self._target, uploader, part_rules(self._options), written)
        self._table.start()

    def turn(self, now: float) -> float:
        """Tell what the threads have to tell."""
        self._outbox.empty(self._tools)
        metrics = self._tools.metrics
        metrics.set("export_in_flight", self._receiver.in_flight)
        metrics.set("export_target_ok", float(not self._receiver.fault))
        oldest = metrics.gauges["consumer_oldest_pending_timestamp_seconds"][(self.name,)]
        metrics.set("export_oldest_pending_age_seconds", max(0.0, time.time() - oldest) if oldest else 0.0)
        return now + self.pause

    def checks(self) -> Checks:
        """Tell whether the target takes what is exported."""
        fault = self._receiver.fault
        return {"target": (not fault, fault or f"{self._target.shown} takes what is exported")}

    def shown(self) -> Mapping[str, Any]:
        """Return what is shown of the stage."""
        return {
            "to": self._target.shown,
            "in_flight": self._receiver.in_flight,
            "counters": {name: dict(_named(series)) for name, series in self._tools.metrics.counters.items()},
        }

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is due, or nothing that is can be done now; it is asked when that is to be the end."""
        self.pause = _HURRY
        return self._threads.is_idle and not self._receiver.is_waited_for

    def drain(self) -> bool:
        """Take nothing new."""
        self.pause = _HURRY
        self._threads.finish()
        if self._threads.is_working:
            return False
        if self._table:
            self._table.finish()
        return not (self._table and self._table.is_working)

    def end(self) -> None:
        """Stop: what is under way is given back."""
        self._threads.stop(_LAST_SECONDS)
        self._pool.shutdown(cancel_futures=True)
        if self._table:
            self._table.stop(_LAST_SECONDS)
        self._spool.close()
        self.turn(time.monotonic())
        self._target.close()


def _keywords(options: ExportOptions, rules: Rules) -> frozenset[str]:
    """Return what is read of each header: for names of archives, and for the table."""
    of_table = () if options.no_parquet else columns.keywords(options.columns)
    return ALWAYS.union(rules.name.keywords if rules.name else (), of_table)


def _named(series: Mapping[tuple[str, ...], int]) -> Mapping[str, int]:
    return {",".join(labels): value for labels, value in series.items() if labels}

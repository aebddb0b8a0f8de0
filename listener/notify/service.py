"""The stage notify: two consumers, each with its thread, and what is told of open series."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listener.diagnostics import log
from listener.errors import ConfigError, LedgerFault, NotTaken
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.interests import Interest, text_of
from listener.ledger.kept_reader import KeptReader
from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from listener.notify import metric_rows
from listener.notify.broker import Broker, broker_url
from listener.notify.cube import Cube, read_secret
from listener.notify.nats_client import Nats, library, server_url
from listener.notify.options import NotifyOptions
from listener.notify.registering import Confirming, CubeReceiver
from listener.notify.registration import Refused, pacs_of
from listener.notify.telling import NatsReceiver, ProgressTeller
from listener.stages.outbox import Outbox
from listener.stages.service import Tools
from listener.telemetry.health import Checks
from listener.telemetry.metric_rows import Row

#: Seconds for which a delivery is leased: longer than any attempt.
_LEASE = 60.0

#: Most open series whose progress is told.
_MOST_OPEN = 10_000

#: Seconds until the next turn where no progress is told, and of a stage that is to end.
_PAUSE, _HURRY = 1.0, 0.02


class Collection(NamedTuple):
    """What is told of: directories of the collection's state and data."""

    state: str
    data: str


class Targets(NamedTuple):
    """Who is told: servers of NATS, the broker of CUBE's tasks, and CUBE itself; None: not."""

    nats_urls: tuple[str, ...]
    broker: Broker | None
    cube: Cube | None


def targets_of(options: NotifyOptions) -> Targets:
    """Return who is told. Raises ConfigError with all problems."""
    problems: list[str] = []
    nats_urls = options.nats or tuple(_from_file("--nats-file", options.nats_file, server_url, problems))
    brokers = (
        [options.celery] if options.celery else _from_file("--celery-file", options.celery_file, broker_url, problems)
    )
    if not nats_urls and not brokers and not problems:
        problems.append("notify: nobody is to be told; give --nats, --celery, or both")
    if options.cube and not brokers:
        problems.append("--cube: asks whether a series is registered, for which CUBE must be told: give --celery")
    if bool(options.cube) != bool(options.cube_login):
        problems.append("--cube and --cube-login: give both, or none")
    if options.cube_login:
        try:
            read_secret(options.cube_login)
        except (OSError, ValueError) as error:
            problems.append(f"--cube-login: {error}")
    if problems:
        raise ConfigError(problems)
    if nats_urls:
        library()
    broker = Broker(brokers[0], options.celery_queue) if brokers else None
    return Targets(nats_urls, broker, Cube(options.cube, options.cube_login) if options.cube else None)


def _from_file(flag: str, path: str, read: Any, problems: list[str]) -> list[str]:
    """Return the URLs in a file, a line each."""
    if not path:
        return []
    try:
        return [read(line.strip()) for line in read_secret(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:  # An error's text has no URL in it.
        problems.append(f"{flag}: {error}")
        return []


def require(collection: Collection) -> None:
    """Raise ConfigError where the collection has no ledger, or its data directory is not the ledger's."""
    try:
        with reading(collection.state) as reader:
            data = reader.data_dir()
    except LedgerFault as fault:
        raise ConfigError([f"--state: '{collection.state}': {fault}"]) from None
    if data and data != collection.data:
        raise ConfigError([f"--data: '{collection.data}' is not the ledger's, which is '{data}'"])


def is_oxidicom(state_dir: str) -> bool:
    """Return whether the series that ended last lies where CUBE looks for it; True where there is none."""
    with reading(state_dir) as reader:
        last = reader.ended(1)
    try:
        return bool(not last or not last[0].folder or pacs_of(last[0].folder))
    except Refused:
        return False


class NotifyStage:
    """See Stage."""

    name = metric_rows.NAME

    def __init__(self, collection: Collection, options: NotifyOptions, targets: Targets) -> None:
        self._collection, self._options, self._targets = collection, options, targets
        self.consumers = [
            *([metric_rows.NATS] if targets.nats_urls else []),
            *([metric_rows.CUBE] if targets.broker else []),
        ]
        self.rows: Sequence[Row] = metric_rows.rows([name.removeprefix(f"{self.name}-") for name in self.consumers])
        self._nats: Nats | None = None
        self._progress: ProgressTeller | None = None
        self._ledger = KeptReader(collection.state)
        self._open: list[SeriesRow] = []
        self._cube: CubeReceiver | None = None
        self._threads: list[DeliveryThread] = []
        self._next_progress = 0.0
        self._is_ending = False

    def begin(self, tools: Tools) -> Sequence[int]:
        """Connect, and start a thread for each consumer."""
        self._tools = tools
        self._outbox = Outbox(tools.wakeup.set)
        if self._targets.broker and not is_oxidicom(self._collection.state):
            log.warning("CUBE registers series of the layout oxidicom alone; give listener run --layout oxidicom")
        if self._targets.nats_urls:
            self._begin_nats()
        if self._targets.broker:
            self._begin_cube(self._targets.broker)
        for thread, consumer in zip(self._threads, self.consumers, strict=True):
            thread.answered = self._outbox.answered(consumer)
            thread.start()
        return ()

    def _begin_nats(self) -> None:
        self._nats = nats = Nats(self._targets.nats_urls, self._connection_changed)
        self._progress = ProgressTeller(self._options.nats_root, nats, self._outbox)
        wants = text_of(Interest(("series-complete", "series-incomplete", "set-aside")))
        consumer = Consumer(metric_rows.NATS, "stage notify (NATS)", wants, _LEASE)
        receiver = NatsReceiver(self._options.nats_root, nats, self._outbox)
        self._threads.append(DeliveryThread(consumer, receiver, self._collection.state))
        nats.start()

    def _begin_cube(self, broker: Broker) -> None:
        options = self._options
        confirming = Confirming(options.confirm_after, options.cube_rate)
        dirs = (self._collection.state, self._collection.data)
        self._cube = CubeReceiver(dirs, broker, self._targets.cube, confirming, self._outbox)
        events = ("series-complete", *(("series-incomplete",) if options.register == "all" else ()))
        consumer = Consumer(metric_rows.CUBE, "stage notify (CUBE)", text_of(Interest(events)), _LEASE)
        self._threads.append(DeliveryThread(consumer, self._cube, self._collection.state))

    def _connection_changed(self) -> None:
        if self._progress:
            self._progress.begin_anew()
        self._tools.wakeup.set()

    def turn(self, now: float) -> float:
        """Tell progress where it is due, and what the threads have to tell."""
        self._outbox.empty(self._tools)
        metrics = self._tools.metrics
        if self._nats:
            metrics.set("notify_connected", float(self._nats.is_connected), "nats")
        if self._cube:
            metrics.set("notify_connected", float(not self._cube.fault), "cube")
        if self._is_ending:
            return now + _HURRY
        if not self._progress:
            return now + _PAUSE
        if now >= self._next_progress:
            if self._ledger.has_changed():
                self._open = self._ledger.ask(lambda reader: reader.in_flight(_MOST_OPEN))
            self._progress.tell(self._open)
            self._next_progress = time.monotonic() + self._options.progress
        return self._next_progress

    def checks(self) -> Checks:
        """Tell whether both targets take what is told."""
        found: dict[str, tuple[bool, str]] = {}
        if self._nats:
            connected = self._nats.is_connected
            found["nats"] = (connected, f"{self._nats.shown}: {'connected' if connected else 'not connected'}")
        if self._cube and self._targets.broker:
            fault = self._cube.fault
            found["cube"] = (not fault, fault or f"{self._targets.broker.shown} takes what is told")
        return found

    def shown(self) -> Mapping[str, Any]:
        """Return what is shown of the stage."""
        broker, cube = self._targets.broker, self._targets.cube
        return {
            "nats": self._nats.shown if self._nats else "",
            "celery": broker.shown if broker else "",
            "cube": cube.shown if cube else "",
            "notes": {metric_rows.CUBE: self._cube.note} if self._cube and self._cube.note else {},
        }

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is due, or nothing that is can be done now; it is asked when that is to be the end."""
        self._is_ending = True
        return all(thread.idle.is_set() for thread in self._threads)

    def drain(self) -> bool:
        """Take nothing new."""
        self._is_ending = True
        for thread in self._threads:
            thread.finish()
        return not any(thread.is_working for thread in self._threads)

    def end(self) -> None:
        """Stop, and disconnect."""
        for thread in self._threads:
            thread.stop()
        self._outbox.empty(self._tools)
        self._ledger.close()
        if self._cube:
            self._cube.close()
        if self._nats:
            self._nats.close()
        if self._targets.broker:
            self._targets.broker.close()


def unreachable(targets: Targets, seconds: float = 5.0) -> list[str]:
    """Return why targets do not answer within so many seconds, each with its address; CUBE too, where it is asked."""
    problems = []
    if targets.nats_urls:
        problems += _unreachable_nats(targets.nats_urls, seconds)
    for target in (targets.broker, targets.cube):
        try:
            if isinstance(target, Broker):
                target.check()
            elif target:
                target.find("0")  # No series has this UID; what counts is that CUBE answers.
        except NotTaken as fault:
            problems.append(fault.detail)
    return problems


def _unreachable_nats(urls: tuple[str, ...], seconds: float) -> list[str]:
    nats = Nats(urls, lambda: None)
    nats.start()
    end = time.monotonic() + seconds
    while not nats.is_connected and time.monotonic() < end:
        time.sleep(_HURRY)
    connected = nats.is_connected
    nats.close()
    return [] if connected else [f"{nats.shown}: not connected within {seconds:g} s"]

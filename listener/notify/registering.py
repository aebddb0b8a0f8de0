"""What is done with the end of a series for CUBE: told once, asked for until it is there, or given up by name."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from listener.disk.retry import delivery_pause
from listener.errors import NotTaken, Postponed
from listener.ledger.kept_reader import KeptReader
from listener.ledger.rows import Delivery, SeriesRow
from listener.notify.broker import Broker
from listener.notify.cube import Cube
from listener.notify.questions import Questions
from listener.notify.registration import Refused, Registration
from listener.notify.series import registration_of
from listener.stages.outbox import Outbox, about
from listener.status.formatting import several

#: Why a delivery waits: kept with it, and so known to the process after this one.
_WAITS, _ASKS = "CUBE has not registered it yet", "CUBE is asked whether it has an earlier part of it"

#: How often a series is sent that CUBE does not register.
_SENDS = 5

#: Seconds until CUBE is asked for the first time, and at most between two questions.
_FIRST, _LONGEST, _MOST_DOUBLED = 2.0, 60.0, 6

#: Deliveries whose sending is remembered; one that is forgotten counts as sent once.
_MOST_SENT = 100_000


class Confirming(NamedTuple):
    """How registration is confirmed: seconds after which CUBE has lost or refused a message, and questions a second."""

    after: float = 60.0
    rate: float = 5.0


@dataclass(slots=True)
class _Sent:
    """What was done for a delivery: how often it was sent and when last (monotonic clock), how often CUBE was asked
    since, and whether it was asked before the first time.
    """

    times: int = 0
    at: float = 0.0
    questions: int = 0
    asked_before: bool = False


class CubeReceiver:
    """See Receiver in listener.ledger.delivery_threads; its one thread calls it. Without `cube` a message that the
    broker took is the end.
    """

    def __init__(
        self, dirs: tuple[str, str], broker: Broker, cube: Cube | None, confirming: Confirming, outbox: Outbox
    ) -> None:
        state_dir, self._data_dir = dirs
        self._ledger = KeptReader(state_dir)
        self._broker, self._confirming, self._outbox = broker, confirming, outbox
        self._questions = Questions(cube, confirming.rate) if cube else None
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._broker_fault = ""
        self._late = 0

    def close(self) -> None:
        """Close its connection to the ledger, when its thread has ended."""
        self._ledger.close()

    @property
    def note(self) -> str:
        """Return what is shown of it beside its deliveries: of generations that CUBE does not show; "" for none."""
        if not self._late:
            return ""
        return f"{several(self._late, 'series', 'series')} grew after CUBE had registered them, since the start"

    @property
    def fault(self) -> str:
        """Return why nothing can be registered; "" while it can."""
        return self._broker_fault or (self._questions.fault if self._questions else "")

    def abort(self) -> None:
        """Nothing that is under way takes longer than its own limits."""

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Register the series of a delivery. Raises NotTaken and Postponed."""
        if delivery.series is None or delivery.change is None:
            return
        try:
            self._register(delivery, delivery.series, self._record(delivery))
        except Refused as refused:
            self._forget(delivery)
            self._broker_fault = ""  # Where others wait for the broker, they say so again.
            self._outbox.event("notify-failed", **about(delivery), reason=refused.reason, error=refused.detail)
            raise
        self._forget(delivery)

    def _record(self, delivery: Delivery) -> _Sent:
        """Return what was done for a delivery; what a process before this one sent counts as sent just now."""
        sent = self._sent.get(delivery.key)
        if sent is None:
            sent = self._sent[delivery.key] = _Sent(int(delivery.error == _WAITS), time.monotonic())
            if len(self._sent) > _MOST_SENT:
                self._sent.popitem(last=False)
        return sent

    def _forget(self, delivery: Delivery) -> None:
        self._sent.pop(delivery.key, None)
        if self._questions:
            self._questions.forget(delivery.key)

    def _register(self, delivery: Delivery, series: SeriesRow, sent: _Sent) -> None:
        if self._questions and self._is_there(self._questions, delivery, series, sent):
            return
        if sent.times and time.monotonic() < sent.at + self._confirming.after:
            raise self._waiting(sent)
        if sent.times >= _SENDS:
            raise Refused("not-registered", self._likely(delivery, series))
        registration = self._registration(delivery, series)
        self._send(registration)
        self._told(delivery, registration, sent)
        sent.times, sent.at, sent.questions = sent.times + 1, time.monotonic(), 0
        if self._questions:
            raise self._waiting(sent)
        self._registered(delivery)

    def _send(self, registration: Registration) -> None:
        try:
            self._broker.send(registration.arguments)
        except NotTaken as failure:
            self._broker_fault = failure.detail
            raise
        self._broker_fault = ""

    def _is_there(self, questions: Questions, delivery: Delivery, series: SeriesRow, sent: _Sent) -> bool:
        """Return whether CUBE has the series; tell of one that was there before this generation was sent. A first
        generation is not asked for before it is sent: CUBE refuses a second message.
        """
        is_first = delivery.change is not None and delivery.change.generation == 1
        if not sent.times and (is_first or sent.asked_before):
            return False
        found = questions.ask(delivery.key, series.SeriesInstanceUID, _WAITS if sent.times else _ASKS)
        sent.asked_before = True
        if not any(one.pacs in (series.sender, *series.folder.split("/")[2:3]) for one in found):
            return False
        if sent.times:
            self._registered(delivery)
        else:
            self._outbox.event("late", **about(delivery), instances=series.instances)
            self._outbox.count("notify_late_total")
            self._late += 1
        return True

    def _waiting(self, sent: _Sent) -> Postponed:
        """Return what lets a delivery wait for 2, 4, 8 ... seconds, at most for half of --confirm-after."""
        pause = min(_FIRST * 2.0 ** min(sent.questions, _MOST_DOUBLED), _LONGEST, max(self._confirming.after / 2, 0.1))
        sent.questions += 1
        return Postponed(_WAITS, pause)

    def _registration(self, delivery: Delivery, series: SeriesRow) -> Registration:
        paths = self._ledger.ask(lambda reader: reader.paths_of(series))
        try:
            return registration_of(series, paths, self._data_dir, delivery.attempts)
        except OSError as error:  # This series' own: others go on.
            pause = delivery_pause(delivery.attempts)
            raise Postponed(f"the series cannot be read ({error.strerror})", pause) from None

    def _likely(self, delivery: Delivery, series: SeriesRow) -> str:
        """Return what is known of why CUBE does not register a series, without patient data."""
        told = self._registration(delivery, series)
        changed = f"; adjusted: {', '.join(told.adjusted)}" if told.adjusted else ""
        return (
            f"CUBE was told {_SENDS} times of {told.arguments['ndicom']} instances{changed}; look at its worker's log,"
            " and whether its storage is this --data"
        )

    def _told(self, delivery: Delivery, registration: Registration, sent: _Sent) -> None:
        self._outbox.count("notify_messages_total", 1, "cube", "again" if sent.times else "registration")
        if registration.adjusted and not sent.times:
            self._outbox.event("adjusted", **about(delivery), keywords=list(registration.adjusted))
            for keyword in registration.adjusted:
                self._outbox.count("notify_adjusted_total", 1, keyword)
        if sent.times:
            self._outbox.event("unconfirmed", **about(delivery), times=sent.times)

    def _registered(self, delivery: Delivery) -> None:
        if delivery.change is None:
            return
        seconds = max(0.0, time.time() - delivery.change.at_ns / 1e9)
        self._outbox.observe("notify_confirmed_seconds", seconds)
        self._outbox.event(
            "registered", **about(delivery), instances=delivery.change.instances, seconds=round(seconds, 3)
        )

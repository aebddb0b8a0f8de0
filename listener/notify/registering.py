"""What is done with the end of a series for CUBE: told once, asked for until it is there, or given up by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from listener.errors import NotTaken, Postponed
from listener.ledger.reader import reading
from listener.ledger.rows import Delivery, SeriesRow
from listener.notify.broker import Broker
from listener.notify.cube import Cube
from listener.notify.registration import Refused, Registration
from listener.notify.series import registration_of
from listener.stages.outbox import Outbox, about

#: How often a series is sent that CUBE does not register.
_SENDS = 5

#: Seconds until CUBE is asked for the first time, and at most between two questions.
_FIRST, _LONGEST = 2.0, 60.0


class Confirming(NamedTuple):
    """How registration is confirmed: seconds after which CUBE has lost or refused a message, and questions a second."""

    after: float = 60.0
    rate: float = 5.0


@dataclass(slots=True)
class _Sent:
    """A message that CUBE has not answered for yet: how often it was sent, and when, on the monotonic clock."""

    times: int = 0
    at: float = 0.0
    questions: int = 0


class CubeReceiver:
    """See Receiver in listener.ledger.taking; its one thread calls it. Without `cube` a message that the broker took is
    the end.
    """

    def __init__(
        self, dirs: tuple[str, str], broker: Broker, cube: Cube | None, confirming: Confirming, outbox: Outbox
    ) -> None:
        self._state_dir, self._data_dir = dirs
        self._broker, self._cube, self._confirming, self._outbox = broker, cube, confirming, outbox
        self._sent: dict[str, _Sent] = {}
        self._next_question = 0.0
        #: Why nothing can be registered; "" while it can.
        self.fault = ""

    def abort(self) -> None:
        """Nothing that is under way takes longer than its own limits."""

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Register the series of a delivery. Raises NotTaken and Postponed."""
        if delivery.series is None or delivery.change is None:
            return
        try:
            self._register(delivery, delivery.series)
        except Refused as refused:
            self._sent.pop(delivery.key, None)
            self._outbox.event("notify-failed", **about(delivery), reason=refused.reason, error=refused.detail)
            raise
        except NotTaken as failure:
            self.fault = failure.detail
            raise
        self.fault = ""
        self._sent.pop(delivery.key, None)

    def _register(self, delivery: Delivery, series: SeriesRow) -> None:
        sent = self._sent.get(delivery.key)
        if self._cube and self._is_there(self._cube, delivery, series, sent):
            return
        if sent and time.monotonic() < sent.at + self._confirming.after:
            raise Postponed("CUBE has not registered it yet", self._pause(sent))
        if sent and sent.times >= _SENDS:
            raise Refused("not-registered", self._likely(series))
        registration = self._registration(series)
        self._broker.send(registration.arguments)
        self._told(delivery, registration, sent)
        if self._cube:
            sent = self._sent.setdefault(delivery.key, _Sent())
            sent.times, sent.at, sent.questions = sent.times + 1, time.monotonic(), 0
            raise Postponed("CUBE has not registered it yet", self._pause(sent))
        self._registered(delivery)

    def _is_there(self, cube: Cube, delivery: Delivery, series: SeriesRow, sent: _Sent | None) -> bool:
        """Return whether CUBE has the series; tell of one that was there before this generation was sent."""
        self._pace()
        found = cube.find(series.SeriesInstanceUID)
        if not any(one.pacs in (series.sender, *series.folder.split("/")[2:3]) for one in found):
            return False
        if sent is None and delivery.change and delivery.change.generation > 1:
            self._outbox.event("late", **about(delivery), instances=series.instances)
            self._outbox.count("notify_late_total")
        else:
            self._registered(delivery)
        return True

    def _pace(self) -> None:
        """Wait until CUBE may be asked again."""
        now = time.monotonic()
        wait = self._next_question - now
        if wait > 0:
            raise Postponed("CUBE is asked no faster than --cube-rate", wait)
        self._next_question = now + 1 / self._confirming.rate

    def _pause(self, sent: _Sent) -> float:
        sent.questions += 1
        return min(_FIRST * 2.0 ** (sent.questions - 1), _LONGEST, max(self._confirming.after / 2, 0.1))

    def _registration(self, series: SeriesRow) -> Registration:
        with reading(self._state_dir) as reader:
            paths = reader.paths_of(series)
        return registration_of(series, paths, self._data_dir)

    def _likely(self, series: SeriesRow) -> str:
        """Return what is known of why CUBE does not register a series, without patient data."""
        told = self._registration(series)
        changed = f"; adjusted: {', '.join(told.adjusted)}" if told.adjusted else ""
        return (
            f"CUBE was told {_SENDS} times of {told.arguments['ndicom']} instances{changed}; look at its worker's log,"
            " and whether its storage is this --data"
        )

    def _told(self, delivery: Delivery, registration: Registration, sent: _Sent | None) -> None:
        self._outbox.count("notify_messages_total", 1, "cube", "again" if sent else "registration")
        if registration.adjusted and not sent:
            self._outbox.event("adjusted", **about(delivery), keywords=list(registration.adjusted))
            for keyword in registration.adjusted:
                self._outbox.count("notify_adjusted_total", 1, keyword)
        if sent:
            self._outbox.event("unconfirmed", **about(delivery), times=sent.times)

    def _registered(self, delivery: Delivery) -> None:
        if delivery.change is None:
            return
        seconds = max(0.0, time.time() - delivery.change.at_ns / 1e9)
        self._outbox.observe("notify_confirmed_seconds", seconds)
        self._outbox.event(
            "registered", **about(delivery), instances=delivery.change.instances, seconds=round(seconds, 3)
        )

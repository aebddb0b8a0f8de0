"""What is told over NATS: how many instances of each open series are there, and how each generation ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event

from listener.ledger.rows import Delivery, SeriesRow
from listener.notify import lonk
from listener.notify.nats_client import Nats, Progress
from listener.notify.registration import Refused, pacs_of
from listener.planning.names import sanitize
from listener.stages.outbox import Outbox


def pacs(series: SeriesRow) -> str:
    """Return the name under which CUBE knows the PACS of a series: its directory in the layout oxidicom, which is the
    calling AE title, sanitised.
    """
    try:
        return pacs_of(series.folder)
    except Refused:
        return sanitize(series.sender)


class NatsReceiver:
    """See Receiver in listener.ledger.delivery_threads; its one thread calls it."""

    def __init__(self, root: str, nats: Nats, outbox: Outbox) -> None:
        self._root, self._nats, self._outbox = root, nats, outbox

    def abort(self) -> None:
        """Nothing that is under way takes longer than its own limits."""

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Tell the end of a generation, or that a file of a series was set aside. Raises NotTaken."""
        kinds = list(self._messages(delivery))
        if not kinds:
            return
        key = delivery.series.id if delivery.series else 0
        generation = delivery.change.generation if delivery.change else 0
        self._nats.tell_end(key, generation, [(subject, data) for _, subject, data in kinds])
        for kind, _, _ in kinds:
            self._outbox.count("notify_messages_total", 1, "nats", kind)

    def _messages(self, delivery: Delivery) -> Iterator[tuple[str, str, bytes]]:
        """Yield kind, subject and data of each message."""
        aside, series, change = delivery.aside, delivery.series, delivery.change
        if aside is not None:
            if aside.SeriesInstanceUID:
                subject = lonk.subject(self._root, sanitize(aside.sender), aside.SeriesInstanceUID)
                yield "error", subject, lonk.error(f"a file was set aside: {aside.reason}")
        elif series is not None and change is not None:
            subject = lonk.subject(self._root, pacs(series), series.SeriesInstanceUID)
            if change.state == "incomplete":
                text = f"incomplete: {change.instances} of {change.expected} instances"
                yield "error", subject, lonk.error(text)
            else:
                yield "number", subject, lonk.number(change.instances)
                yield "done", subject, lonk.done()


class ProgressTeller:
    """Tells numbers of instances that grew; keeps what was told of each open series."""

    def __init__(self, root: str, nats: Nats, outbox: Outbox) -> None:
        self._root, self._nats, self._outbox = root, nats, outbox
        self._told: dict[int, int] = {}
        self._anew = Event()

    def begin_anew(self) -> None:
        """Tell the number of each open series again, for what was told before a connection was lost may be lost; from
        any thread.
        """
        self._anew.set()

    def tell(self, rows: Sequence[SeriesRow]) -> None:
        """Tell of these series, which are all that are open; nothing is kept while NATS is away."""
        if self._anew.is_set():
            self._anew.clear()
            self._told = {}
        grown = [row for row in rows if row.instances and row.instances != self._told.get(row.id)]
        if not grown:
            return
        if not self._nats.tell_progress([self._progress(row) for row in grown]):
            self._outbox.count("notify_dropped_total", len(grown))
            return
        self._told = {row.id: row.instances for row in rows}
        self._outbox.count("notify_messages_total", len(grown), "nats", "number")

    def _progress(self, row: SeriesRow) -> Progress:
        subject = lonk.subject(self._root, pacs(row), row.SeriesInstanceUID)
        return Progress(row.id, row.generation, subject, row.instances)

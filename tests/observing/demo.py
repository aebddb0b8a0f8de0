"""`make demo`: storescp, listener and Prometheus on the loopback interface, four senders, two faults, and the alerts.

The series is the real one where it is at hand. Alerts wait for two seconds here instead of minutes, and look back over
fifteen; all else is as it is shipped. Exit status 0: every alert that should fire fired and cleared, and what was sent
is in the tree, bit by bit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.accounting import account, sent
from tests.observing import rules
from tests.observing.prometheus import Prometheus, hastened
from tests.observing.scene import (
    Scene,
    dealt,
    finish,
    hung_workers,
    real_series,
    scene,
    start_senders,
    synthetic_series,
)
from tests.service_process import Service
from tests.waiting import until

#: What must fire, and clear.
STALLED, ABSENT = "ListenerIngestStalled", "ListenerAbsent"

#: The threshold of the first, in seconds, instead of a quarter of an hour.
STALLED_AFTER = 4.0


class Demonstration:
    """What is done, told as it happens."""

    def __init__(self, stage: Scene, series: Sequence[Path]) -> None:
        self._stage = stage
        self._thirds = [series[third::3] for third in range(3)]
        self._total = len(series)
        self._sent = sent(list(series))
        self.begun = time.time()

    def run(self) -> None:
        """Everything. AssertionError where something does not happen in time."""
        stage = self._stage
        with stage.listener() as running:
            until(lambda: stage.prometheus.value("listener_ready") == 1, 20, what="Prometheus sees the listener")
            stage.until_clears(ABSENT)
            self.begun = time.time()
            self.tell("storescp, listener and Prometheus run; the listener is ready")
            stage.send(dealt(self._thirds[0]))
            self._until_published(len(self._thirds[0]))
            self.tell(f"four senders have sent {len(self._thirds[0])} instances; all are published")
            self._first_fault(running)
            self._second_fault(running)
        with stage.listener():
            self.tell("it is started again, and does what was left in incoming and in its hands")
            stage.until_clears(ABSENT)
            self.tell(f"{ABSENT} is over")
            self._until_published(self._total)
        account(stage.places, self._sent)
        self.tell(f"all {self._total} instances are accounted for: tree, documents, and nothing left in incoming")

    def _first_fault(self, running: Service) -> None:
        with hung_workers(running):
            self.tell("fault 1: the workers hang, as with a volume that does not answer; the senders go on")
            self._stage.send(dealt(self._thirds[1]))
            self.tell(f"{len(self._thirds[1])} more were acknowledged to their senders; they wait in incoming")
            self._stage.until_fires(STALLED)
            self.tell(f"{STALLED} fires")
        self.tell("the volume answers again")
        self._until_published(len(self._thirds[0]) + len(self._thirds[1]))
        self._stage.until_clears(STALLED)
        self.tell(f"{STALLED} is over")

    def _second_fault(self, running: Service) -> None:
        senders = start_senders(self._stage.receiver.port, dealt(self._thirds[2]))
        running.kill()
        self.tell("fault 2: the listener is killed (SIGKILL) while four senders are at work")
        finish(senders)
        self.tell(f"{len(self._thirds[2])} more were acknowledged: storescp does not need the listener")
        self._stage.until_fires(ABSENT)
        self.tell(f"{ABSENT} fires")

    def _until_published(self, count: int) -> None:
        def there() -> bool:
            found = sum(1 for _ in self._stage.places.data.rglob("*.dcm"))
            assert found == count, f"{found} of {count} instances are in the tree"
            return True

        until(there, 40, what=f"{count} instances are in the tree")

    def tell(self, words: str) -> None:
        """One line, with the time since the beginning."""
        print(f"{time.time() - self.begun:6.1f} s  {words}", flush=True)


def summary(server: Prometheus, start: float) -> dict[str, bool]:
    """Print which alerts fired and when; for each whether it is over."""
    end = time.time()
    over: dict[str, bool] = {}
    print("\nalert                            fired     cleared")
    for labels, points in server.query_range('ALERTS{alertstate="firing"}', start, end, 0.5):
        name = labels["alertname"]
        over[name] = name not in server.firing()
        cleared = f"{points[-1][0] - start:6.1f} s" if over[name] else "not yet"
        print(f"{name:30} {points[0][0] - start:6.1f} s  {cleared}")
    return over


def main() -> int:
    """The demonstration; the exit status."""
    for name in [name for name in os.environ if name.startswith("LISTENER_")]:
        del os.environ[name]  # settings of somebody's own listener
    shipped = rules.PLAIN.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="listener-demo-") as scratch:
        folder = Path(scratch)
        series = real_series()
        print(
            "a real series of 192 instances"
            if series
            else "a synthetic series of 192 instances, for want of a real one"
        )
        series = series or synthetic_series(folder / "source", 192)
        with scene(folder, hastened(shipped, IngestStalled=STALLED_AFTER)) as stage:
            demonstration = Demonstration(stage, series)
            demonstration.run()
            over = summary(stage.prometheus, demonstration.begun)
    fine = all(over.get(name) for name in (STALLED, ABSENT))
    print("both faults were told and are over" if fine else "an alert that should have fired and cleared did not")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

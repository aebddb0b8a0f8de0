"""One thread for answers that may wait for a disk, so that a volume that hangs holds up those and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

#: Questions that wait at most.
MOST = 32

Asker = TypeVar("Asker")


class Later(Generic[Asker]):
    """Works questions off, one after another; `done` is called in its thread when an answer can be fetched."""

    def __init__(self, done: Callable[[], None], most: int = MOST) -> None:
        self._done = done
        self._questions: Queue[tuple[Asker, Callable[[], bytes]] | None] = Queue(most)
        self._answers: SimpleQueue[tuple[Asker, bytes]] = SimpleQueue()
        self._thread = Thread(target=self._work, name="listener-pages", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, asker: Asker, work: Callable[[], bytes]) -> bool:
        """Let `work` be done, which must not raise; False when too many wait."""
        try:
            self._questions.put_nowait((asker, work))
        except Full:
            return False
        return True

    def answers(self) -> Iterator[tuple[Asker, bytes]]:
        """What is answered by now: who asked, and the answer."""
        while True:
            try:
                yield self._answers.get_nowait()
            except Empty:
                return

    def _work(self) -> None:
        for asker, work in iter(self._questions.get, None):
            self._answers.put((asker, work()))
            self._done()

    def stop(self, timeout: float) -> None:
        """Answer no more; a volume that hangs is waited for until `timeout` seconds are over."""
        with self._questions.mutex:
            self._questions.queue = deque([None])
            self._questions.not_empty.notify()
        self._thread.join(timeout)

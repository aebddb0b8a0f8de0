"""Brokers that are away, hang, are full or refuse the password, and a stage that is killed: each end is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.dicomnet import accepts, free_port
from tests.notify.servers import Subscriber, messages, program, subscriber
from tests.notify.stage import CHRIS, Running, arrive, ask, bring, following, follows, pending, series_uid
from tests.service_process import Places, service
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SERIES = 200

#: Seconds for which a broker is away.
AWAY = 20


class Brokers:
    """A Redis that forgets nothing and a NATS, both with a password, which can be taken away and come back."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._ports = free_port(), free_port()
        (base / "redis").mkdir()
        self._configure("right")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"redis://:right@127.0.0.1:{self._ports[0]}/0"
        self.start()
        self._redis = redis.Redis.from_url(self.url)
        self.watcher = f"nats://watcher:w@127.0.0.1:{self._ports[1]}"

    def flags(self) -> tuple[str, ...]:
        """Options that name both."""
        texts = {"celery": self.url, "nats": f"nats://stage:right@127.0.0.1:{self._ports[1]}"}
        for name, text in texts.items():
            path = self._base / name
            path.write_text(text)
            path.chmod(0o600)
        return ("--celery-file", str(self._base / "celery"), "--nats-file", str(self._base / "nats"))

    def _configure(self, password: str) -> None:
        users = f"{{user: watcher, password: w}}, {{user: stage, password: {password}}}"
        text = f"listen: 127.0.0.1:{self._ports[1]}\nauthorization {{users: [{users}]}}\n"
        (self._base / "nats.conf").write_text(text)

    def start(self) -> None:
        keeps = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", str(self._base / "redis"))
        at = ("--port", str(self._ports[0]), "--bind", "127.0.0.1", "--requirepass", "right")
        for command in (
            [program("redis-server"), *at, *keeps],
            [program("nats-server"), "-c", str(self._base / "nats.conf")],
        ):
            null = subprocess.DEVNULL
            self._processes.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null))
        until(lambda: all(map(accepts, self._ports)), 20, what="both answer")

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()
        self._processes.clear()

    def signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)

    def fill(self, size: str) -> None:
        """Redis may take so much memory; 0: all."""
        self._redis.config_set("maxmemory", size)

    def password(self, password: str) -> None:
        """Change the password of both, and throw out who is there."""
        self._redis.config_set("requirepass", password)
        self._redis.client_kill_filter(_type="normal", skipme=True)
        self._configure(password)
        self._processes[1].send_signal(signal.SIGHUP)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    made = Brokers(tmp_path)
    yield made
    made.signal(signal.SIGCONT)
    made.stop()


@pytest.fixture
def ear(brokers: Brokers) -> Iterator[Subscriber]:
    with subscriber(brokers.watcher) as made:
        yield made


#: What happens, and what ends it.
WAYS: dict[str, tuple[Callable[[Brokers], None], Callable[[Brokers], None]]] = {
    "restarted": (Brokers.stop, Brokers.start),
    "stopped": (lambda one: one.signal(signal.SIGSTOP), lambda one: one.signal(signal.SIGCONT)),
    "full": (lambda one: one.fill("1"), lambda one: one.fill("0")),
    "password": (lambda one: one.password("wrong"), lambda one: one.password("right")),
}


@contextmanager
def coming(places: Places, seconds: float) -> Iterator[threading.Thread]:
    """SERIES series of one or two instances come within about so many seconds."""

    def come() -> None:
        for series in range(1, SERIES + 1):
            arrive(places, series, *range(1, 2 + series % 2))
            time.sleep(seconds / SERIES)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def all_ended(places: Places) -> bool:
    """Whether each series has ended."""
    (ended,) = ask(places, "SELECT count(*) FROM series WHERE state <> 'open' AND instances > 0")[0]
    return bool(ended == SERIES + 1)


def check_told(brokers: Brokers, ear: Subscriber) -> Counter[str]:
    """Each series is in the broker, and ended over NATS with its last number; how often each is in the broker."""
    told = messages(brokers.url)
    sent = Counter(message["kwargs"]["SeriesInstanceUID"] for message in told)
    wanted = {series_uid(series): 1 + series % 2 for series in range(1, SERIES + 1)}
    assert sent.keys() == wanted.keys()
    assert {message["kwargs"]["SeriesInstanceUID"]: message["kwargs"]["ndicom"] for message in told} == wanted
    for uid, instances in wanted.items():
        assert ear.of(uid)[-2:] == [("number", instances), ("done",)], uid
    return sent


@pytest.mark.parametrize("way", WAYS)
def test_a_broker_is_away_among_200_series(places: Places, brokers: Brokers, ear: Subscriber, way: str) -> None:
    bring(places, 0, 1)
    begin, end = WAYS[way]
    with following(places, *brokers.flags()) as stage, service(places, *CHRIS):
        follows(places, "notify-nats", "notify-cube")
        with coming(places, 15):
            until(lambda: len(messages(brokers.url)) > SERIES // 10, 60)
            begin(brokers)
            time.sleep(AWAY)
            end(brokers)
        until(lambda: all_ended(places) and pending(places) == 0, 150, what="all are told")
        assert stage.process.poll() is None
    sent = check_told(brokers, ear)
    if way in ("full", "password"):  # It answered.
        assert set(sent.values()) == {1}
    assert b"right" not in stage.stdout + stage.stderr.encode()


def test_a_stage_that_is_killed_at_50_moments_forgets_nothing(
    places: Places, brokers: Brokers, ear: Subscriber
) -> None:
    seed = int(os.environ.get("LISTENER_TEST_SEED", "0")) or random.randrange(10**6)
    dice = random.Random(seed)
    bring(places, 0, 1)
    kills = 50
    with following(places, *brokers.flags()):
        follows(places, "notify-nats", "notify-cube")
    with service(places, *CHRIS), coming(places, 60):
        for _ in range(kills):
            stage = Running(places, *brokers.flags())
            time.sleep(dice.uniform(0.3, 2.0))
            stage.stop(signal.SIGKILL)
        with following(places, *brokers.flags()):
            until(lambda: all_ended(places) and pending(places) == 0, 150, what=f"all are told (seed {seed})")
    sent = check_told(brokers, ear)
    assert sum(sent.values()) <= SERIES + kills, "a kill repeats what was under way, and nothing else"


def test_a_ledger_that_was_made_anew_is_followed(places: Places, brokers: Brokers, ear: Subscriber) -> None:
    bring(places, 0, 1)
    with following(places, *brokers.flags()) as stage:
        follows(places, "notify-nats", "notify-cube")
        bring(places, 1, 1)
        until(lambda: pending(places) == 0 and messages(brokers.url), 30)
        for path in places.state.glob("ledger.sqlite*"):
            path.unlink()
        bring(places, 2, 1)
        follows(places, "notify-nats", "notify-cube")
        bring(places, 3, 1)
        until(lambda: ("done",) in ear.of(series_uid(3)), 30)
        until(lambda: pending(places) == 0, 30)
        assert stage.process.poll() is None
    told = [message["kwargs"]["SeriesInstanceUID"] for message in messages(brokers.url)]
    # What had ended before may be told again.
    assert (told[0], told[-1]) == (series_uid(1), series_uid(3))
    assert told.count(series_uid(3)) == 1

"""RabbitMQ, a Redis that is found by a sentinel, and a CUBE whose worker is killed again and again."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import authority
from tests.dicomnet import accepts, free_port
from tests.notify.servers import cube_of, messages, program, redis_server
from tests.notify.stage import CHRIS, bring, errors, following, follows, notify, pending, series_uid, write
from tests.service_process import Places, service
from tests.waiting import until

kombu: Any = importlib.import_module("kombu")  # It has types, and does not say which.

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


class RabbitMQ:
    """A node of its own: its data below `base`, its name-server of the host."""

    def __init__(self, base: Path) -> None:
        found = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        self._program = str(found) if found.exists() else program("rabbitmq-server")
        self._base, self.port = base, free_port()
        self.issuer, secure = authority(base), free_port()
        pair = self.issuer.issue("rabbitmq")
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "listeners.ssl.1": f"127.0.0.1:{secure}",
            "ssl_options.cacertfile": self.issuer.cert,
            "ssl_options.certfile": pair.cert,
            "ssl_options.keyfile": pair.key,
        }
        (base / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        self.secure_url = f"amqps://127.0.0.1:{secure}//"
        self._variables = {
            **os.environ,
            "HOME": str(base),
            "RABBITMQ_NODENAME": f"notify{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "plugins"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
        }
        self.url = f"amqp://127.0.0.1:{self.port}//"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._base / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [self._program], env=self._variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        until(lambda: accepts(self.port), 120, what="RabbitMQ answers")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(120)

    def close(self) -> None:
        """Stop it, and the name-server that it started."""
        self.stop()
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-kill"], env=self._variables, capture_output=True, timeout=120, check=False)

    def told(self) -> list[str]:
        """The series in the queue, which is empty then."""
        found = []
        with kombu.Connection(self.url) as connection:
            queue = kombu.Queue("main2", channel=connection.default_channel)
            while (message := queue.get(no_ack=True)) is not None:
                found.append(message.payload[1]["SeriesInstanceUID"])
        return found


@pytest.fixture
def rabbit(tmp_path: Path) -> Iterator[RabbitMQ]:
    made = RabbitMQ(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_rabbitmq_takes_series_also_after_it_was_away(places: Places, rabbit: RabbitMQ) -> None:
    bring(places, 0, 1)
    assert notify(places, "check", "--celery", rabbit.url).status == 0
    with following(places, "--celery", rabbit.url) as stage:
        follows(places, "notify-cube")
        bring(places, 1, 1)
        until(lambda: pending(places) == 0, 60)
        rabbit.stop()
        bring(places, 2, 1)
        rabbit.start()
        until(lambda: pending(places) == 0, 90)
        assert stage.process.poll() is None
    assert rabbit.told() == [series_uid(1), series_uid(2)]


def test_rabbitmq_behind_tls_takes_series_where_its_certificate_is_trusted(
    places: Places, rabbit: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(places, 0, 1)
    assert notify(places, "once", "--celery", rabbit.url).status == 0
    bring(places, 1, 1)
    done = notify(places, "once", "--celery", rabbit.secure_url)
    assert done.status == 1
    assert "certificate verify failed" in done.stderr
    monkeypatch.setenv("SSL_CERT_FILE", str(rabbit.issuer.cert))
    until(lambda: notify(places, "once", "--celery", rabbit.secure_url).status == 0, 60)  # After its pause.
    assert rabbit.told() == [series_uid(1)]


@contextmanager
def sentinel(base: Path, port: int) -> Iterator[int]:
    """A sentinel that knows the Redis at `port` as chris, by its port."""
    own, file = free_port(), base / "sentinel.conf"
    file.write_text(f"port {own}\nbind 127.0.0.1\nsentinel monitor chris 127.0.0.1 {port} 1\n")
    null = subprocess.DEVNULL
    process = subprocess.Popen([program("redis-server"), str(file), "--sentinel"], stdin=null, stdout=null, stderr=null)
    try:
        until(lambda: accepts(own), 20, what="the sentinel answers")
        yield own
    finally:
        process.terminate()
        process.wait()


def test_a_redis_is_found_by_its_sentinel(places: Places, tmp_path: Path) -> None:
    bring(places, 0, 1)
    with redis_server() as (url, _), sentinel(tmp_path, int(url.rpartition(":")[2].partition("/")[0])) as port:
        given = ("--celery", f"sentinel://127.0.0.1:{port}/0?master_name=chris")
        assert notify(places, "check", *given).status == 0
        with following(places, *given):
            follows(places, "notify-cube")
            bring(places, 1, 1)
            until(lambda: pending(places) == 0, 60)
        assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(url)] == [series_uid(1)]


def test_each_series_is_registered_once_though_the_worker_is_killed(places: Places, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("secret")
    login.chmod(0o600)
    dice, series = random.Random(18), range(1, 41)
    bring(places, 0, 1)
    with redis_server() as (url, _), cube_of(url, places.data, tmp_path) as cube, service(places, *CHRIS):
        asks = ("--cube", cube.url, "--cube-login", str(login), "--confirm-after", "3", "--cube-rate", "50")
        with following(places, "--celery", url, *asks) as stage:
            follows(places, "notify-cube")
            for one in series:
                if one % 8:
                    write(places, one, 1)
                else:
                    with cube.hold():
                        before = len(cube.begun)
                        write(places, one, 1)
                        until(lambda before=before: len(cube.begun) > before, 60, what="it works")  # type: ignore[misc]
                        cube.kill_worker()
                    stage.process.send_signal(
                        signal.SIGSTOP
                    )  # It asks a few times only; a worker may be long in coming.
                    cube.start_worker()
                    stage.process.send_signal(signal.SIGCONT)
                time.sleep(dice.uniform(0, 0.2))
            until(lambda: len(cube.registered) == len(series) and pending(places) == 0, 120, what="all are there")
            events = stage.stop()
    rows = [row["SeriesInstanceUID"] for row in cube.registered]
    assert sorted(rows) == sorted(map(series_uid, series))
    told = [event["SeriesInstanceUID"] for event in events if event["event"] == "registered"]
    assert sorted(told) == sorted(rows)
    assert errors(places, "notify-cube") == {}
    assert [event for event in events if event["event"] == "unconfirmed"], "what the killed worker had begun"

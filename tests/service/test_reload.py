"""SIGHUP: what can change in place does, what cannot is named, and a wrong file changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import settings
from listener.config import Config, options
from listener.service.reload import reloaded
from tests.hooks.receiver import Receiver
from tests.instances import write_instance
from tests.service_process import Event, Places, Service, service, until_value
from tests.waiting import until

# -- what changes in place -------------------------------------------------------------------------------------------


def config(**given: str) -> Config:
    return settings.load({name: [text] for name, text in given.items()}, {}, "run")


def test_what_reloads_is_taken_and_what_does_not_stays() -> None:
    old = config(min_free="1GB", layout="rx", log_level="info")
    found = reloaded(old, config(min_free="2GB", layout="px", log_level="debug", rescan="9", fsync="none"))
    assert (found.config.min_free, found.config.log_level, found.config.rescan) == (2 * 10**9, "debug", 9)
    assert (found.config.layout, found.config.fsync) == ("rx", "batch")
    assert set(found.changed) == {"--min-free", "--log-level", "--rescan"}
    assert found.waiting == ["--layout", "--fsync"]


def test_nothing_changes_when_nothing_changed() -> None:
    old = config()
    assert reloaded(old, config()) == (old, [], [])


def test_the_tables_of_hooks_change_in_place(tmp_path: Path) -> None:
    path = tmp_path / "listener.toml"
    path.write_text("[hooks.one]\nurl = 'http://127.0.0.1:9/'\n")
    new = settings.load({}, {}, "run", str(path))
    found = reloaded(config(), new)
    assert found.config.hooks == new.hooks
    assert found.changed == ["hooks"]


def test_directories_workers_and_ports_do_not_reload() -> None:
    fixed = {
        "incoming",
        "data",
        "log",
        "state",
        "workers",
        "http",
        "http_cert",
        "layout",
        "fsync",
        "on_conflict",
        "poll",
    }
    assert not [name for name in fixed if options()[name].reloads]


# -- the service -----------------------------------------------------------------------------------------------------


class Running:
    """A service with a file of options that can be written again."""

    def __init__(self, running: Service, path: Path) -> None:
        self.service = running
        self._path = path

    def write(self, text: str) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(text)
        beside.rename(self._path)

    def reload(self, text: str) -> Event:
        """The event that a signal causes, with the file like that."""
        self.write(text)
        names = ("reloaded", "reload-refused")
        before = len(self.service.events(*names))
        os.kill(self.service.pid, signal.SIGHUP)
        found = until(lambda: self.service.events(*names)[before:], 10, what="the configuration is read again")
        return found[0]


@pytest.fixture
def running(places: Places, tmp_path: Path) -> Iterator[Running]:
    path = tmp_path / "listener.toml"
    path.write_text("")
    with service(places, "--config", str(path)) as started:
        yield Running(started, path)


pytestmark = pytest.mark.real


def test_it_goes_on_with_the_same_workers_and_port(running: Running) -> None:
    before = (running.service.workers(), running.service.address)
    for number in range(5):
        assert running.reload(f"log-level = '{('debug', 'info')[number % 2]}'")["changed"] == ["--log-level"]
    assert (running.service.workers(), running.service.address) == before
    assert running.service.get("/readyz").status == 200
    write_instance(running.service.places.incoming / "one")
    running.service.wait_for("published")
    assert not running.service.events("draining", "stopped")


def test_what_cannot_change_in_place_is_named(running: Running) -> None:
    event = running.reload("layout = 'px'\nworkers = 7\nrescan = 0.2\nlog-level = 'error'")
    assert sorted(event["changed"]) == ["--log-level", "--rescan"]
    assert event["waiting"] == ["--layout"], "the flag --workers goes before the file"
    until(lambda: "restart for" not in running.service.stderr, 1)


def test_a_wrong_file_is_refused_with_all_its_problems(running: Running) -> None:
    running.reload("ready-backlog = 7")
    event = running.reload("ready-backlog = 9\nresacn = 3\nlayout = 'py'\nsettle = 'soon'")
    assert (event["event"], event["problems"]) == ("reload-refused", 3)
    said = running.service.stderr
    assert all(words in said for words in ("did you mean 'rescan'?", "layout", "settle", "is refused"))
    until(lambda: "of 7 files" in running.service.get("/readyz").body.decode(), 5)
    running.reload("ready-backlog = 8")
    os.unlink(running._path)
    os.kill(running.service.pid, signal.SIGHUP)
    running.service.wait_for("reload-refused", 2)
    assert running.service.get("/readyz").status == 200


def test_min_free_holds_at_once_and_so_does_its_return(running: Running) -> None:
    # The flag of the tests' service says 0, and goes before the file: so it is a limit of the backlog that is tried.
    running.reload("ready-backlog = 1")
    until(lambda: "of 1 files" in running.service.get("/readyz").body.decode(), 5)
    running.reload("")
    until(lambda: "of 100000 files" in running.service.get("/readyz").body.decode(), 5)


def test_rescan(running: Running, places: Places) -> None:
    running.reload("rescan = 3600")
    running.reload("rescan = 0.1")
    before = running.service.scrape()
    key = ("listener_rescan_duration_seconds_count", ())
    until(lambda: running.service.scrape()[key] > before[key] + 5, 10)


@pytest.mark.parametrize(("before", "after"), [(3600, 0.3), (0.3, 3600)])
def test_a_series_that_is_open_follows_the_new_quiet(running: Running, before: float, after: float) -> None:
    quiet = "series-quiet = {}\nstudy-quiet = 0\n"
    running.reload(quiet.format(before if before > 1 else 3600))
    write_instance(running.service.places.incoming / "one")
    running.service.wait_for("published")
    if before > after:
        running.reload(quiet.format(after))
        running.service.wait_for("series-complete")
        running.service.wait_for("study-complete")
    else:
        until_value(running.service, 1, "series", state="open")
        assert not running.service.events("series-complete")


def test_tokens_of_another_file(running: Running, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("anna:" + "0123456789abcdef" * 4)
    tokens.chmod(0o600)
    assert running.service.get("/api/v1/status").status == 200
    assert running.reload(f"token-file = '{tokens}'")["changed"] == ["--token-file"]
    assert running.service.get("/api/v1/status").status == 401
    tokens.chmod(0o644)
    assert running.reload(f"token-file = '{tokens}'\nrescan = 1")["event"] == "reload-refused"
    assert running.service.get("/api/v1/status").status == 401
    running.reload("")
    assert running.service.get("/api/v1/status").status == 200


@pytest.mark.parametrize(
    ("which", "kinds"),
    [("all", {"published", "set-aside", "reloaded"}), ("series", {"set-aside", "reloaded"}), ("off", set())],
)
def test_which_events_are_told(running: Running, which: str, kinds: set[str]) -> None:
    before = len(running.service.events())
    if which == "all":
        running.reload("log-level = 'debug'")
    else:
        running.write(f"events = '{which}'\n")
        os.kill(running.service.pid, signal.SIGHUP)
        until(lambda: '"text":"the configuration was read again' in running.service.stderr, 10)
    write_instance(running.service.places.incoming / "one")
    (running.service.places.incoming / "junk").write_bytes(b"no DICOM" * 100)
    until_value(running.service, 2, "files_processed_total")
    told = {event["event"] for event in running.service.events()[before:]}
    assert told == kinds


# -- hooks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made = [Receiver(), Receiver()]
    yield made
    for receiver in made:
        receiver.close()


def test_hooks_come_and_go_and_each_series_is_told_to_those_of_its_time(
    running: Running, receivers: list[Receiver]
) -> None:
    first, second = receivers
    quiet = "series-quiet = 0.2\n"
    running.reload(f"{quiet}[hooks.first]\nurl = '{first.url}'\nevents = ['series-complete']\n")
    write_instance(running.service.places.incoming / "one", SeriesInstanceUID="1.2.3.1", SOPInstanceUID="1.2.3.1.1")
    until(lambda: [event["SeriesInstanceUID"] for event in first.told("series-complete")] == ["1.2.3.1"], 15)
    both = "".join(
        f"[hooks.{name}]\nurl = '{to.url}'\nevents = ['series-complete']\n"
        for name, to in (("first", first), ("second", second))
    )
    running.reload(quiet + both)
    until(lambda: "hooks that are served now: first, second" in running.service.stderr, 10)
    write_instance(running.service.places.incoming / "two", SeriesInstanceUID="1.2.3.2", SOPInstanceUID="1.2.3.2.1")
    until(lambda: len(second.posts) == 1 and len(first.posts) == 2, 15)
    running.reload(f"{quiet}[hooks.second]\nurl = '{second.url}'\nevents = ['series-complete']\n")
    until(lambda: "the first hook is not asked for any more" in running.service.stderr, 10)
    write_instance(running.service.places.incoming / "three", SeriesInstanceUID="1.2.3.3", SOPInstanceUID="1.2.3.3.1")
    until(lambda: len(second.posts) == 2, 15)
    assert len(first.posts) == 2


def test_a_reload_in_the_start_and_in_the_end_harms_nothing(places: Places, tmp_path: Path) -> None:
    path = tmp_path / "listener.toml"
    path.write_text("")
    with service(places, "--config", str(path), ready=False) as started:
        started.wait_for("started")
        for _ in range(20):
            os.kill(started.pid, signal.SIGHUP)
        started.wait_for("ready")
        started.wait_for("reloaded")
        started.process.send_signal(signal.SIGTERM)
        while started.process.poll() is None:
            os.kill(started.pid, signal.SIGHUP)
        assert started.process.returncode == 0

"""Several hooks of a configuration, with filters, files of header fields and studies, beside real services."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from listener.config import Config
from listener.errors import NotTaken
from listener.hook_config import HookConfig
from listener.hooks import payload
from listener.hooks.dispatch import HookManager
from listener.hooks.payload import Payload, example_of
from listener.hooks.targets import Webhook
from listener.ledger.connection import path_of
from listener.ledger.interests import EVENTS, STUDY_EVENTS
from listener.ledger.reader import reading
from tests.hooks.receiver import Receiver
from tests.instances import uid, write_instance
from tests.service_process import Places, listener, once, service
from tests.waiting import until

TOLD = Payload("1.2.3/1", "series-complete", b'{"event":"series-complete"}\n')
FAST = ("--series-quiet", "0.3", "--study-quiet", "1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def other() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def bring(places: Places, number: int, series: int = 0, **attributes: Any) -> None:
    made = write_instance(places.base / "made.dcm", series=series, number=number, **attributes)
    made.rename(places.incoming / f"{series}-{number}.dcm")


def file_of(places: Places, text: str) -> tuple[str, ...]:
    path = places.base / "listener.toml"
    path.write_text(text)
    return ("--config", str(path))


def states(config: Config) -> dict[str, str]:
    with reading(config.state) as reader:
        return {row.name: row.state for row in reader.consumers()}


# -- one attempt -------------------------------------------------------------------------------------------------------


def test_header_fields_are_read_for_each_attempt_and_never_told(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "headers"
    hook = Webhook(HookConfig("a", url=receiver.url, headers_file=str(path)))
    with pytest.raises(NotTaken, match="the file of header fields cannot be read"):
        hook.send(TOLD)
    for token in ("first", "second"):
        path.write_text(f"Authorization: Bearer {token}\nUser-Agent: ours\n")
        hook.send(TOLD)
    assert [post.head["authorization"] for post in receiver.posts] == ["Bearer first", "Bearer second"]
    assert receiver.posts[0].head["user-agent"] == "ours"
    path.write_text("s3cret")
    with pytest.raises(NotTaken) as caught:
        hook.send(TOLD)
    assert "s3cret" not in caught.value.detail
    assert len(receiver.posts) == 2


def test_a_hook_has_a_time_limit_of_its_own(receiver: Receiver) -> None:
    receiver.answer = lambda _: None
    with pytest.raises(NotTaken, match=r"within 0\.3 s"):
        Webhook(HookConfig("a", url=receiver.url, timeout=0.3)).send(TOLD)


@pytest.mark.parametrize("event", EVENTS)
def test_an_example_is_like_its_event_and_marked(event: str) -> None:
    told = json.loads(example_of(event, "test/1", 10**18).body)
    assert (told["event"], told["example_of"], told["key"]) == ("test", event, "test/1")
    names = {"set-aside": "reason"}.get(event, "senders" if event in STUDY_EVENTS else "SeriesInstanceUID")
    assert names in told
    assert not {"PatientID", "AccessionNumber", "folder", "StudyDescription"} & told.keys()


# -- who is registered -------------------------------------------------------------------------------------------------


def test_a_service_retires_its_own_hooks_that_are_gone_and_no_stage(tmp_path: Path) -> None:
    first = HookConfig("archive", url="http://x/")
    config = Config(state=str(tmp_path), hooks=(first, first._replace(name="other")), on_series_complete=("http://y/",))
    HookManager(config, retires=True)
    with closing(sqlite3.connect(path_of(config.state))) as connection, connection:
        connection.execute("INSERT INTO consumers (name, since_ns) VALUES ('stage', 0)")
    assert states(config) == dict.fromkeys(("archive", "other", "stage", "webhook"), "active")
    HookManager(Config(state=str(tmp_path), hooks=(first,)), retires=True)
    assert states(config) == {"archive": "active", "other": "retired", "stage": "active", "webhook": "retired"}


def test_what_a_hook_wants_follows_the_configuration(tmp_path: Path) -> None:
    for events in (("set-aside",), ("study-complete",)):
        hook = HookConfig("archive", url="http://x/")
        HookManager(Config(state=str(tmp_path), hooks=(hook._replace(wants=hook.wants._replace(events=events)),)))
        with closing(sqlite3.connect(path_of(str(tmp_path)))) as connection:
            ((wants,),) = connection.execute("SELECT wants FROM consumers").fetchall()
        assert tuple(json.loads(wants)["events"]) == events


def test_of_several_changes_that_wait_the_newest_holds(tmp_path: Path) -> None:
    """Each in a thread of its own, as SIGHUPs in a row start them."""
    first = Config(state=str(tmp_path), hooks=(HookConfig("first", url="http://127.0.0.1:9/"),))
    last = replace(first, hooks=(HookConfig("last", url="http://127.0.0.1:9/"),))
    manager, now, goes_on = HookManager(first, retires=True), [first], Event()

    def slowly() -> Config:
        goes_on.wait(120)
        return first

    threads = [Thread(target=manager.change, args=(newest,)) for newest in (slowly, lambda: now[-1], lambda: now[-1])]
    for thread in threads:
        thread.start()
    now.append(last)
    goes_on.set()
    for thread in threads:
        thread.join(120)
    manager.stop()
    assert states(first) == {"first": "retired", "last": "active"}


# -- services ----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_each_hook_is_told_what_it_wants(places: Places, receiver: Receiver, other: Receiver) -> None:
    """Two URLs by flags, and a table that wants MR studies alone; a CT series beside."""
    table = f'[hooks.studies]\nurl = "{other.url}"\nevents = "study-complete"\nmodality = "MR"'
    flags = ("--on-series-complete", receiver.url, "--on-series-complete", other.url)
    with service(places, *file_of(places, table), *FAST, *flags) as running:
        bring(places, 1, series=0, Modality="MR")
        bring(places, 1, series=1, Modality="CT", StudyInstanceUID=uid("study", 9))
        running.wait_for("study-complete", 2)
        until(lambda: len(other.posts) == 3, 10)
        page = running.get("/metrics").body.decode()
        until(
            lambda: (
                'listener_deliveries{hook="studies",state="delivered"} 1.0' in running.get("/metrics").body.decode()
            ),
            10,
        )
    assert sorted(post.json["Modality"] for post in receiver.posts) == ["CT", "MR"]
    (study,) = other.told("study-complete")
    assert study["ModalitiesInStudy"] == ["MR"]
    assert 'listener_delivery_oldest_timestamp_seconds{hook="webhook-2"}' in page


@pytest.mark.real
def test_a_study_is_told_with_its_folder_where_that_may_be(places: Places, receiver: Receiver) -> None:
    """To a program always: it runs here. To a URL with --phi."""
    told = places.base / "told"
    command = f"sh -c 'cat >> {told}'"
    common = (*FAST, "--on-study-complete", receiver.url, "--on-study-complete-exec", command)
    with service(places, *common):
        bring(places, 1, StudyDescription="HEAD^DOE", AccessionNumber="A77")
        (public,) = receiver.wait_for("study-complete")
        until(lambda: told.exists() and told.read_text().endswith("\n"), 10)
    local = json.loads(told.read_text())
    assert Path(local["folder"]).is_relative_to(places.data)
    assert len(list(Path(local["folder"]).rglob("*.dcm"))) == 1
    assert local["StudyDescription"] == "HEAD^DOE"
    assert not {"PatientID", "AccessionNumber"} & local.keys()
    assert not {"folder", "StudyDescription", "PatientID", "AccessionNumber"} & public.keys()
    assert public["SeriesInstanceUID"] == [uid("series", 0, 0, 0)]
    with service(places, *common, "--phi"):
        bring(places, 2, StudyDescription="HEAD^DOE", AccessionNumber="A77")
        told_again = receiver.wait_for("study-complete", 2)[1]
    assert told_again["generation"] == 2
    assert told_again["folder"] == local["folder"]
    assert (told_again["PatientID"], told_again["AccessionNumber"]) == ("P0000", "A77")


@pytest.mark.real
def test_a_study_is_told_once_over_kills_and_late_series(places: Places, receiver: Receiver) -> None:
    """Killed while it waits, while the receiver refuses, and after it took it."""
    flags = (*FAST, "--on-study-complete", receiver.url)
    receiver.answer = lambda _: 503
    with service(places, *flags) as running:
        bring(places, 1, series=0)
        running.wait_for("series-complete")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    with service(places, *flags) as running:
        running.wait_for("study-complete")
        until(lambda: receiver.posts, 10)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    refused = len(receiver.posts)
    receiver.answer = lambda _: 200
    with service(places, *flags) as running:
        until(lambda: len(receiver.posts) > refused, 20)
        bring(places, 1, series=1)
        # The first end may be announced again here: the kill came before it was known that it had been.
        (ended,) = until(lambda: [one for one in running.events("study-complete") if one["generation"] == 2], 20)
        until(lambda: len({post.json["key"] for post in receiver.posts}) == 2, 20)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    study = uid("study", 0, 0)
    assert (ended["StudyInstanceUID"], ended["generation"], ended["series"]) == (study, 2, 2)
    assert {post.json["key"] for post in receiver.posts} == {f"study/{study}/1", f"study/{study}/2"}
    with closing(sqlite3.connect(path_of(str(places.state)))) as connection:
        assert connection.execute("SELECT generation FROM study_ends ORDER BY id").fetchall() == [(1,), (2,)]
        assert connection.execute("SELECT count(*) FROM deliveries WHERE study_id > 0").fetchone() == (2,)


@pytest.mark.real
def test_once_ends_a_study_and_tells_it(places: Places, receiver: Receiver) -> None:
    bring(places, 1)
    done = once(places, "--series-quiet", "0", "--study-quiet", "0", "--on-study-complete", receiver.url)
    assert done.status == 0
    assert [event["event"] for event in done.events][-2:] == ["series-complete", "study-complete"]
    assert [post.json["event"] for post in receiver.posts] == ["study-complete"]


@pytest.mark.real
def test_a_test_is_sent_signed_and_leaves_no_trace(places: Places, receiver: Receiver) -> None:
    secret = places.base / "secret"
    secret.write_text("a secret of ours\n")
    table = f'[hooks.archive]\nurl = "{receiver.url}"\nsecret-file = "{secret}"\nevents = "study-complete"'
    words = ("hooks", "test", "archive", "--state", str(places.state), *file_of(places, table))
    done = listener(*words)
    assert (done.status, done.stderr) == (0, "")
    (post,) = receiver.posts
    assert post.head["webhook-signature"].startswith("v1,")
    assert post.head["webhook-id"] == post.json["key"]
    assert (post.json["event"], post.json["example_of"]) == ("test", "study-complete")
    receiver.answer = lambda _: 500
    done = listener(*words, "--json")
    assert done.status == 1
    told = json.loads(done.stdout)
    assert (told["taken"], told["error"]) == (False, "it answered 500")
    assert not Path(path_of(str(places.state))).exists()
    assert payload.key_of(secret.read_bytes()) == b"a secret of ours"

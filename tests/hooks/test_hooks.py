"""Hooks against real receivers, willing and not: told at least once, signed, later and later, holding up nobody."""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import json
import shlex
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.checks import configuration
from listener.config import Config
from listener.errors import NotTaken
from listener.hook_config import HookConfig
from listener.hooks import dispatch, targets
from listener.hooks.dispatch import HookManager
from listener.hooks.payload import Payload, cloud_event_fields, example_of, header_fields, key_of
from listener.hooks.targets import CommandHook, Webhook
from listener.ledger import consumers, deliveries, delivery_retry, delivery_threads
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.interests import About
from listener.ledger.reader import reading
from listener.status import ledger_view
from tests.hooks.receiver import Receiver
from tests.instances import uid, write_instance
from tests.service_process import Places, Service, listener, once, service
from tests.waiting import until

TOLD = Payload("1.2.3/1", "series-complete", b'{"event":"series-complete"}\n')
QUIET = ("--series-quiet", "0.2")
EXAMPLE_STUDY = "1.2.826.0.1.3680043.10.1470.0"
EXAMPLE_SERIES = f"{EXAMPLE_STUDY}.1"


def webhook(url: str, secret: str = "", **more: Any) -> Webhook:
    return Webhook(HookConfig("webhook", url=url, secret_file=secret, **more))


def program(command: str) -> CommandHook:
    return CommandHook(HookConfig("exec", command=command))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def bring(places: Places, first: int, count: int = 1, series: int = 0) -> None:
    """All at once: a series must not be quiet between two of them."""
    made = [
        write_instance(places.base / f"{number}.dcm", series=series, number=number)
        for number in range(first, first + count)
    ]
    for path in made:
        path.rename(places.incoming / path.name)


#: A hook in the status document that was told all, but for the number.
QUIET_HOOK: dict[str, Any] = {"state": "active", "pending": 0, "failed": 0, "oldest": "", "error": ""}


def hooks(running: Service, name: str = "webhook") -> dict[str, Any]:
    found: dict[str, Any] = running.get("/api/v1/status").json()["hooks"].get(name, {})
    return found


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_published_example() -> None:
    """Of standardwebhooks.com: whoever has a library for it can use that."""
    key = key_of(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    told = Payload("msg_p5jXN8AQM9LWM0D4loKWxJek", "x", b'{"test": 2432232314}')
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert header_fields(told, key, 1614265330)["Webhook-Signature"] == signature


def test_without_a_key_nothing_is_signed() -> None:
    assert "Webhook-Signature" not in header_fields(TOLD, b"", 1)
    assert key_of(b"whsec_no base64") == b""
    assert key_of(b"plain words \r\n") == b"plain words"


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        ("series-complete", EXAMPLE_SERIES),
        ("series-incomplete", EXAMPLE_SERIES),
        ("study-complete", EXAMPLE_STUDY),
        ("set-aside", None),
    ],
)
def test_a_post_is_a_cloud_event(receiver: Receiver, event: str, subject: str | None) -> None:
    told = example_of(event, "1.2.3/1", 1_700_000_000_123_456_789)
    webhook(receiver.url).send(told)
    (post,) = receiver.posts
    head = {name: value for name, value in post.head.items() if name.startswith("ce-")}
    source = head.pop("ce-source")
    assert source == f"/listener/{socket.gethostname()}"
    expected = {"ce-specversion": "1.0", "ce-id": "1.2.3/1", "ce-type": "listener.test", "ce-time": post.json["time"]}
    assert head == (expected if subject is None else {**expected, "ce-subject": subject})
    assert post.body == told.body


@given(st.text())
def test_any_uid_of_a_file_becomes_a_subject_that_can_be_read_back(uid: str) -> None:
    fields = cloud_event_fields(TOLD._replace(subject=uid), "/listener/x")
    value = fields.get("ce-subject", "")
    assert all(" " < letter < "\x7f" and letter != '"' for letter in value)
    assert unquote(value) == uid.encode("utf-8", "replace").decode()
    assert fields["ce-type"] == "listener.series-complete"


# -- one attempt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_2xx_takes_it(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda _: status
    webhook(receiver.url).send(TOLD)
    assert [post.body for post in receiver.posts] == [TOLD.body]


@pytest.mark.parametrize("status", [301, 307, 400, 410, 500, 503])
def test_anything_else_does_not_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda _: status
    with pytest.raises(NotTaken, match=f"it answered {status}"):
        webhook(receiver.url).send(TOLD)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize(
    ("status", "said", "pause"),
    [
        (503, "7", 7),
        (429, " 0 ", 0),
        (429, "999999999999", delivery_retry.LONGEST_ASKED),
        (503, "9" * 5000, delivery_retry.LONGEST_ASKED),
        (503, "soon", 0),
        (503, "-5", 0),
        (503, "Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (503, "Thu, 01 Jan 1970 00:00:00", 0),
        (503, "", 90),
        (500, "7", 0),
    ],
)
def test_a_receiver_may_say_when_it_is_to_be_asked_again(
    receiver: Receiver, status: int, said: str, pause: float
) -> None:
    text = said or formatdate(time.time() + 90, usegmt=True)
    receiver.answer, receiver.head = lambda _: status, {"Retry-After": text}
    with pytest.raises(NotTaken, match=f"it answered {status}") as caught:
        webhook(receiver.url).send(TOLD)
    assert caught.value.pause == pytest.approx(pause, abs=0 if said else 30)


def test_a_date_is_compared_with_the_clock_of_who_said_it() -> None:
    answer = b"HTTP/1.1 429 x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n"
    with answering(answer + b"Content-Length: 0\r\n\r\n") as url, pytest.raises(NotTaken) as caught:
        webhook(url).send(TOLD)
    assert caught.value.pause == 30


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives one answer, byte for byte."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NotTaken, match="refused"):
            webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/").send(TOLD)


def test_one_that_hangs_is_left_after_a_while(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SILENCE_SECONDS", 0.3)
    receiver.answer = lambda _: None
    with pytest.raises(NotTaken, match="no answer within"):
        webhook(receiver.url).send(TOLD)


@contextmanager
def dripping() -> Iterator[str]:
    """A server whose answer never ends: a byte now and then."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                try:
                    while not done.wait(0.05):
                        peer.sendall(b"H")
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        done.set()
        thread.join()


def test_one_that_answers_for_ever_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "POST_SECONDS", 0.5)
    with dripping() as url, pytest.raises(NotTaken, match=r"no whole answer within 0.5 s"):
        webhook(url).send(TOLD)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of a server on 127.0.0.1 that nobody has vouched for, with its key."""
    path = tmp_path / "server.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    more = f"-addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.crt"
    subprocess.run([*command.split(), *more.split()], check=True, capture_output=True, timeout=120)
    path.write_bytes(path.read_bytes() + path.with_suffix(".pem.crt").read_bytes())
    return path


def test_a_certificate_must_be_one_that_is_trusted(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = Receiver(context)
    try:
        with pytest.raises(NotTaken, match="TLS: CERTIFICATE_VERIFY_FAILED"):
            webhook(secure.url).send(TOLD)
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        webhook(secure.url).send(TOLD)
    finally:
        secure.close()
    assert len(secure.posts) == 1


def test_a_secret_that_went_away_is_told(receiver: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    hook = webhook(receiver.url, str(secret))
    with pytest.raises(NotTaken, match="the secret cannot be read"):
        hook.send(TOLD)
    secret.write_text("later")
    hook.send(TOLD)  # it is read anew each time
    assert not [post for post in receiver.posts if "webhook-signature" not in post.head]


def script(folder: Path, *lines: str) -> str:
    """A program of ours, as a command."""
    path = folder / "hook.py"
    path.write_text("import json, os, sys, time\n" + "\n".join(lines) + "\n")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def test_a_program_gets_the_same_on_its_standard_input(tmp_path: Path) -> None:
    command = script(tmp_path, "open(sys.argv[1], 'w').write(os.environ['HOOK_EVENT'] + os.environ['HOOK_KEY'])",
                     "open(sys.argv[2], 'wb').write(sys.stdin.buffer.read())")  # fmt: skip
    program(f"{command} {tmp_path}/names '{tmp_path}/with a blank'").send(TOLD)
    assert (tmp_path / "names").read_text() == TOLD.event + TOLD.key
    assert (tmp_path / "with a blank").read_bytes() == TOLD.body


def test_a_program_that_fails_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotTaken, match="exit status 3"):
        program(script(tmp_path, "sys.exit(3)")).send(TOLD)
    with pytest.raises(NotTaken, match="killed by signal 9"):
        program(script(tmp_path, "os.kill(os.getpid(), 9)")).send(TOLD)
    with pytest.raises(NotTaken, match="cannot be started"):
        program(str(tmp_path / "nothing")).send(TOLD)


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(targets, "GRACE_SECONDS", 0.2)
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    lines = ["import signal, subprocess", "signal.signal(15, signal.SIG_IGN)"]
    lines += [f"subprocess.Popen([sys.executable, '-c', {child!r}])", "time.sleep(60)"]
    with pytest.raises(NotTaken, match="it ran for more than"):
        program(script(tmp_path, *lines)).send(TOLD)


def test_a_program_that_reads_nothing_and_hangs_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is longer than a pipe: some of it is never written."""
    monkeypatch.setattr(targets, "COMMAND_SECONDS", 0.5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(NotTaken, match="it ran for more than"):
            program(script(tmp_path, "time.sleep(60)")).send(TOLD._replace(body=bytes(2**20)))
        gc.collect()
    assert [str(one.message) for one in told] == []


# -- a service with hooks ----------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_series_that_is_complete_is_posted_signed(places: Places, receiver: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of ours\n")
    flags = ("--on-series-complete", receiver.url, "--hook-secret-file", str(secret))
    with service(places, *QUIET, *flags) as running:
        bring(places, 1, 3)
        (told,) = receiver.wait_for("series-complete")
        (post,) = receiver.posts
        (ended,) = running.wait_for("series-complete")
        until(lambda: hooks(running) == {**QUIET_HOOK, "delivered": 1}, 10)
        detail = running.get(f"/api/v1/series/{told['SeriesInstanceUID']}").json()
    series = uid("series", 0, 0, 0)
    assert told["SeriesInstanceUID"] == series == ended["SeriesInstanceUID"]
    assert (told["generation"], told["instances"], told["result"]) == (1, 3, "quiet")
    assert told["key"] == post.head["webhook-id"] == f"{series}/1"
    assert post.head["idempotency-key"] == f'"{series}/1"'
    signed = b".".join([post.head["webhook-id"].encode(), post.head["webhook-timestamp"].encode(), post.body])
    expected = base64.b64encode(hmac.new(b"a secret of ours", signed, hashlib.sha256).digest()).decode()
    assert post.head["webhook-signature"] == f"v1,{expected}"
    assert not {"PatientID", "AccessionNumber"} & told.keys()
    assert b"P0000" not in post.body
    (delivery,) = detail["deliveries"]
    assert (delivery["consumer"], delivery["state"], delivery["attempts"]) == ("webhook", "delivered", 1)


@pytest.mark.real
def test_incomplete_late_and_set_aside_are_told_too(places: Places, receiver: Receiver) -> None:
    series = uid("series", 0, 0, 0)
    flags = ("--series-timeout", "0.3", "--on-series-complete", receiver.url, "--phi")
    with service(places, *flags):
        promised = places.log / "seriesData" / f"{series}-retrieve.json"
        promised.parent.mkdir(parents=True, exist_ok=True)
        promised.write_text(json.dumps({"NumberOfSeriesRelatedInstances": "2"}))
        bring(places, 1)
        (places.incoming / "bad").write_bytes(b"no DICOM")
        (aside,) = receiver.wait_for("set-aside")
        (incomplete,) = receiver.wait_for("series-incomplete")
        bring(places, 2)
        (complete,) = receiver.wait_for("series-complete")
    assert (aside["reason"], aside["name"], aside["size"]) == ("not-dicom", "bad", 8)
    assert (incomplete["instances"], incomplete["expected"], incomplete["generation"]) == (1, 2, 1)
    assert (complete["instances"], complete["expected"], complete["generation"]) == (2, 2, 2)
    assert complete["PatientID"] == "P0000", "with --phi"
    assert len({aside["key"], incomplete["key"], complete["key"]}) == 3


@pytest.mark.real
def test_one_that_refuses_is_told_again_the_same(places: Places, receiver: Receiver) -> None:
    """500, then 200: one key and one body, growing pauses, and the failure can be seen meanwhile."""
    seen = threading.Event()
    receiver.answer = lambda _: 200 if seen.is_set() and len(receiver.posts) > 2 else 500
    with service(places, *QUIET, "--on-series-complete", receiver.url) as running:
        bring(places, 1)
        receiver.wait_for("series-complete")
        until(lambda: hooks(running)["error"] == "it answered 500", 10)
        assert hooks(running)["pending"] == 1
        seen.set()
        until(lambda: hooks(running)["delivered"] == 1, 20)
        (delivery,) = running.get(f"/api/v1/series/{uid('series', 0, 0, 0)}").json()["deliveries"]
        assert "the webhook hook failed (it answered 500)" in running.stderr
    assert delivery["attempts"] == len(receiver.posts) >= 3
    assert len({(post.head["webhook-id"], post.body) for post in receiver.posts}) == 1
    first, second, third, *_ = (int(post.head["webhook-timestamp"]) for post in receiver.posts)
    assert third - first >= 3  # a second, then two
    assert second > first


@pytest.mark.real
def test_one_that_hangs_holds_up_neither_intake_nor_the_end(places: Places, receiver: Receiver) -> None:
    """And is told by the next service."""
    receiver.answer = lambda _: None
    with service(places, *QUIET, "--on-series-complete", receiver.url) as running:
        bring(places, 1)
        receiver.wait_for("series-complete")
        bring(places, 2, 20, series=1)
        running.wait_for("published", 21, seconds=10)
        running.wait_for("series-complete", 2, seconds=10)
        assert running.stop(seconds=15) == 0
    before = len(receiver.posts)
    receiver.answer = lambda _: 200
    with service(places, "--on-series-complete", receiver.url):
        receiver.wait_for("series-complete", before + 2, seconds=10)
    assert {post.head["webhook-id"] for post in receiver.posts[before:]} == {
        f"{uid('series', 0, 0, number)}/1" for number in (0, 1)
    }


@pytest.mark.real
def test_what_a_killed_service_had_to_tell_is_told_by_the_next(places: Places, receiver: Receiver) -> None:
    receiver.answer = lambda _: None
    with service(places, *QUIET, "--on-series-complete", receiver.url) as running:
        bring(places, 1)
        receiver.wait_for("series-complete")
        running.kill()
        receiver.answer = lambda _: 200
        with service(places, "--on-series-complete", receiver.url) as successor:
            receiver.wait_for("series-complete", 2, seconds=25)
            until(lambda: hooks(successor)["delivered"] == 1, 10)
        running.process.wait()


@pytest.mark.real
def test_a_program_is_run_and_run_again(places: Places, receiver: Receiver, tmp_path: Path) -> None:
    """Both hooks at once: one that fails does not hold up the other, and does not speak into our events."""
    told = tmp_path / "told"
    command = script(
        tmp_path,
        "print('not an event')",
        f"print(json.load(sys.stdin)['key'], file=open({str(told)!r}, 'a'))",
        f"sys.exit(len(open({str(told)!r}).readlines()) < 2)",
    )
    with service(places, *QUIET, "--on-series-complete-exec", command, "--on-series-complete", receiver.url) as running:
        bring(places, 1)
        until(lambda: hooks(running, "exec").get("delivered") == 1, 20)
        assert "not an event" not in running.stdout.decode()
        assert hooks(running, "webhook")["delivered"] == 1
    assert told.read_text().split() == 2 * [f"{uid('series', 0, 0, 0)}/1"]
    assert len(receiver.posts) == 1


def standing(state: Path) -> dict[str, tuple[str, int, int]]:
    """State, deliveries that wait and that were given up, by consumer."""
    with reading(str(state)) as reader:
        return {row.name: (row.state, row.pending, row.failed) for row in reader.consumers()}


def test_a_hook_that_is_not_asked_for_any_more_is_retired(tmp_path: Path) -> None:
    both = Config(state=str(tmp_path), on_series_complete=("http://x/",), on_series_complete_exec=("x",))
    HookManager(both)
    aside(tmp_path, 1)
    for other in (
        partial(HookManager, replace(both, on_series_complete=())),
        partial(HookManager, replace(both, on_series_complete=(), incoming=("/other",)), retires=True),
    ):
        other()
        assert standing(tmp_path) == dict.fromkeys(("exec", "webhook"), ("active", 1, 0)), "its own alone"
    HookManager(replace(both, on_series_complete=()), retires=True)
    aside(tmp_path, 2)
    assert standing(tmp_path) == {"exec": ("active", 2, 0), "webhook": ("retired", 0, 1)}
    HookManager(both)
    assert standing(tmp_path) == {"exec": ("active", 2, 0), "webhook": ("active", 0, 1)}


@pytest.mark.real
def test_once_beside_a_service_leaves_its_hooks_alone(places: Places, receiver: Receiver) -> None:
    """With another incoming, the same state, and no hook: what waits is told, and what comes."""
    receiver.answer = lambda _: 503
    other = places.beside("other")
    other = Places(other.base, other.incomings, other.data, other.log, places.state)
    with service(places, *QUIET, "--on-series-complete", receiver.url) as running:
        bring(places, 1)
        receiver.wait_for("series-complete")
        bring(other, 1, series=1)
        assert once(other, "--series-quiet", "0").status == 0
        receiver.answer = lambda _: 200
        bring(places, 2, series=2)
        until(lambda: hooks(running).get("delivered") == 3, 20)
        assert "registered again" not in running.stderr
    assert {post.json["key"] for post in receiver.posts} == {f"{uid('series', 0, 0, number)}/1" for number in range(3)}


def test_without_hooks_no_ledger_is_made(tmp_path: Path) -> None:
    HookManager(Config(state=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_once_tells_what_it_ended(places: Places, receiver: Receiver) -> None:
    """And does not wait for a hook that fails; the next one tells it."""
    receiver.answer = lambda _: 500
    bring(places, 1, 3)
    assert once(places, "--series-quiet", "0", "--on-series-complete", receiver.url).status == 0
    receiver.answer = lambda _: 200
    until(lambda: once(places, "--on-series-complete", receiver.url).status == 0 and len(receiver.posts) > 1, 20)
    assert {post.json["key"] for post in receiver.posts} == {f"{uid('series', 0, 0, 0)}/1"}
    assert receiver.posts[-1].json["instances"] == 3


@pytest.mark.real
def test_a_configuration_that_cannot_work_is_told_before_anything_begins(places: Places, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = listener("run", *places.flags(), "--on-series-complete", "ftp://x/", "--on-series-complete-exec", "a 'b")
    assert done.status == 2
    assert "--on-series-complete: 'ftp://x/' is not a URL" in done.stderr
    assert "--on-series-complete-exec" in done.stderr
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        done = listener("check", *places.flags(), "--hook-secret-file", str(path))
        assert done.status == 2
        assert "--hook-secret-file" in done.stderr


def test_check_looks_at_hooks_and_tells_nobody(tmp_path: Path, receiver: Receiver) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)

    def found(**given: Any) -> list[tuple[str, str]]:
        return [(one.level, one.about) for one in configuration.hooks(Config(**given))]

    url, key, command = "--on-series-complete", "--hook-secret-file", "--on-series-complete-exec"
    assert found() == []
    assert found(on_series_complete=(receiver.url,)) == [("note", url)]
    assert found(on_series_complete=(receiver.url,), hook_secret_file=str(secret)) == [("ok", url), ("note", key)]
    secret.chmod(0o600)
    assert found(on_series_complete=(receiver.url,), hook_secret_file=str(secret)) == [("ok", url)]
    assert found(on_series_complete_exec=("sh -c 'exit 0'",)) == [("ok", command)]
    assert found(on_series_complete_exec=("/no/such/program",)) == [("problem", command)]
    assert not receiver.posts


# -- the courier -------------------------------------------------------------------------------------------------------


class Refusing:
    """A hook that never takes anything."""

    name = "refusing"
    wants = ""
    lease = 60.0
    is_local = False

    def __init__(self) -> None:
        self.sent: list[Payload] = []

    def send(self, payload: Payload) -> None:
        self.sent.append(payload)
        raise NotTaken("not today")

    def abort(self) -> None:
        """Nothing is under way."""


def aside(state: Path, number: int) -> None:
    """A file was set aside, and whoever is to hear of it shall."""
    connection = open_writer(path_of(str(state)))
    connection.execute("INSERT INTO set_aside (path, reason, name) VALUES (?, 'empty', 'x')", (f"empty/{number}",))
    deliveries.add_deliveries(
        connection, "set-aside", deliveries.Subject(set_aside_id=number), deliveries.Occasion(1), About()
    )
    connection.close()


def test_after_many_attempts_it_is_given_up_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(delivery_retry, "delivery_pause", lambda attempt: 0.01 * attempt)
    connection = open_writer(path_of(str(tmp_path)))
    deliveries.register(connection, "refusing", 0)
    aside(tmp_path, 1)
    hook = Refusing()
    one = dispatch.thread_of(hook, Config(state=str(tmp_path)))
    one.start()
    try:
        row = until(lambda: connection.execute("SELECT * FROM deliveries WHERE state = 'failed'").fetchone(), 10)
    finally:
        one.stop()
        connection.close()
    assert "not today" in row
    assert len(hook.sent) == 3
    assert {payload.key for payload in hook.sent} == {"set-aside/1"}


def test_a_clock_that_is_set_back_holds_up_no_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried at noon, to be tried a second after noon; and then it is eleven."""
    behind = 0
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - behind)
    connection = open_writer(path_of(str(tmp_path)))
    deliveries.register(connection, "refusing", 0)
    connection.close()
    aside(tmp_path, 1)
    hook = Refusing()
    one = dispatch.thread_of(hook, Config(state=str(tmp_path)))
    one.start()
    try:
        until(lambda: hook.sent, 10)
        behind = 3600 * 10**9
        until(lambda: len(hook.sent) >= 2, 10)
    finally:
        one.stop()


def test_a_ledger_that_was_made_anew_is_told_from(tmp_path: Path) -> None:
    """As `verify --repair` does with a damaged one: whoever is to be told is made known in it."""
    path = path_of(str(tmp_path))
    open_writer(path).close()
    hook = Refusing()
    one = dispatch.thread_of(hook, Config(state=str(tmp_path)))
    one.start()
    try:
        with reading(str(tmp_path)) as reader:
            until(lambda: reader._ask("SELECT * FROM consumers"), 10)
        Path(path).rename(tmp_path / "damaged")
        open_writer(path).close()
        with reading(str(tmp_path)) as reader:
            until(lambda: reader._ask("SELECT * FROM consumers"), 10)
        aside(tmp_path, 1)
        until(lambda: hook.sent, 10)
    finally:
        one.stop()


def test_one_that_refuses_is_not_asked_a_thousand_times_a_second(tmp_path: Path) -> None:
    """Many deliveries are due, and the first fails: the rest wait with it."""
    connection = open_writer(path_of(str(tmp_path)))
    deliveries.register(connection, "refusing", 0)
    connection.close()
    for number in range(1, 30):
        aside(tmp_path, number)
    hook = Refusing()
    one = dispatch.thread_of(hook, Config(state=str(tmp_path)))
    one.start()
    try:
        until(lambda: len(hook.sent) >= 2, 10)
        assert len(hook.sent) <= 3
    finally:
        one.stop()


# -- what a receiver says of itself ------------------------------------------------------------------------------------


@contextmanager
def served_by_a_hook_thread(state: Path, url: str) -> Iterator[sqlite3.Connection]:
    """A courier of the webhook at work, and the ledger."""
    connection = open_writer(path_of(str(state)))
    deliveries.register(connection, "webhook", 0)
    one = dispatch.thread_of(webhook(url), Config(state=str(state)))
    one.start()
    try:
        yield connection
    finally:
        one.stop()
        connection.close()


def states(connection: sqlite3.Connection) -> list[str]:
    return [state for (state,) in connection.execute("SELECT state FROM deliveries ORDER BY id")]


def test_who_asks_for_a_pause_gets_it(tmp_path: Path, receiver: Receiver) -> None:
    """Also for what else is due."""
    receiver.answer, receiver.head = lambda _: 429 if len(receiver.posts) == 1 else 200, {"Retry-After": "3"}
    with served_by_a_hook_thread(tmp_path, receiver.url) as connection:
        begun = time.monotonic()
        for number in (1, 2):
            aside(tmp_path, number)
        until(lambda: states(connection) == ["delivered"] * 2, 10)
        assert time.monotonic() - begun >= 3
    assert len(receiver.posts) == 3


def test_who_is_gone_is_told_nothing_more_until_a_person_says_so(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = lambda _: 410
    with served_by_a_hook_thread(tmp_path, receiver.url) as connection:
        aside(tmp_path, 1)
        until(lambda: receiver.posts and "hook is stopped" in caplog.text, 10)
        aside(tmp_path, 2)
        receiver.answer = lambda _: 200
        time.sleep(1.2)  # Two looks, in which nothing is to happen.
        assert (len(receiver.posts), states(connection)) == (1, ["pending"] * 2)
        told = dict(ledger_view.read(str(tmp_path)).hooks["webhook"])
        assert told.pop("oldest")
        stopped = {"state": "stopped", "pending": 2, "delivered": 0, "failed": 0}
        assert told == {**stopped, "error": "it answered 410, which means for good"}
        consumers.redeliver(connection, 1, time.time_ns())
        until(lambda: states(connection) == ["delivered"] * 2, 10)
    assert caplog.text.count("hook is stopped") == 1


def test_the_next_start_asks_who_was_gone_again(tmp_path: Path) -> None:
    config = Config(state=str(tmp_path), on_series_complete=("http://x/",))
    HookManager(config)
    with reading(str(tmp_path)) as reader:
        (row,) = reader.consumers()
    connection = open_writer(path_of(str(tmp_path)))
    consumers.stop(connection, row.id, "gone")
    connection.close()
    for state in ("stopped", "active"):
        with reading(str(tmp_path)) as reader:
            assert [row.state for row in reader.consumers()] == [state]
        HookManager(config)


def test_a_courier_that_was_retired_registers_again_and_misses_nothing(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """What waited, what happened while it was retired, and what comes."""
    receiver.answer = lambda _: 500
    with served_by_a_hook_thread(tmp_path, receiver.url) as connection:
        aside(tmp_path, 1)
        until(lambda: receiver.posts, 10)
        with transaction(connection):
            connection.execute("UPDATE consumers SET active = 0")
            connection.execute("INSERT INTO set_aside (path, reason, name) VALUES ('empty/2', 'empty', 'x')")
            now_ns = time.time_ns()
            connection.execute(
                "UPDATE deliveries SET state = 'failed', error = ?, settled_ns = ?", (deliveries.RETIRED, now_ns)
            )
        receiver.answer = lambda _: 200
        until(lambda: "registered again" in caplog.text, 10)
        aside(tmp_path, 3)
        until(lambda: states(connection) == ["delivered"] * 3, 10)
        assert deliveries.active(connection).keys() == {"webhook"}


def test_a_ledger_that_is_damaged_while_a_hook_is_told_does_not_end_its_thread(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_threads.DeliveryThread, "retry_seconds", 0.1)
    path = Path(path_of(str(tmp_path)))
    with served_by_a_hook_thread(tmp_path, receiver.url):
        aside(tmp_path, 1)
        receiver.wait_for("set-aside", 1)
        for file in tmp_path.glob("ledger.sqlite*"):
            file.unlink()
        path.write_bytes(b"rubbish" * 9000)
        until(lambda: "the ledger cannot be used" in caplog.text, 10)
        time.sleep(0.5)  # Some more tries.
        # Each fault is told once. There may be two: the removed file can be met before what replaced it.
        told = [message for message in caplog.messages if "the ledger cannot be used" in message]
        assert len(told) == len(set(told)) <= 2
        for file in tmp_path.glob("ledger.sqlite*"):
            file.unlink()
        open_writer(str(path)).close()
        with reading(str(tmp_path)) as reader:
            until(reader.consumers, 10)
        aside(tmp_path, 1)
        receiver.wait_for("set-aside", 2)

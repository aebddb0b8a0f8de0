"""Who may look: files of tokens, the decision, and what is counted; the ways there are in test_tls and test_looking."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.telemetry.access import Access, Peer, Token, Visits, read_tokens, visitor_of
from listener.telemetry.http_messages import Request
from tests.waiting import until

ANNA = "0123456789abcdef" * 4
NEXT = "02468ace13579bdf" * 4
BERT = "fedcba9876543210" * 4
TOKENS = (Token("anna", ANNA.encode()), Token("bert", BERT.encode()))
NEAR, FAR = Peer("127.0.0.1"), Peer("192.0.2.7")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def ask(authorization: str = "", host: str = "localhost:9464", *, forwarded: bool = False) -> Request:
    return Request("GET", "/", authorization=authorization, host=host, forwarded=forwarded)


def written(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_file_of_tokens(tmp_path: Path) -> None:
    text = f"# who may look\n\nanna:{ANNA}\n  bert:{BERT}  \nanna:{NEXT}\n"
    tokens, problems = read_tokens(written(tmp_path, text))
    assert problems == []
    assert tokens == (*TOKENS, Token("anna", NEXT.encode()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("# nobody\n", "holds no token"),
        (ANNA, "no name before the colon"),
        (f":{ANNA}", "no name before the colon"),
        (f"an na:{ANNA}", "no name before the colon"),
        ("anna:0123456789abcdef0123456789abcde", "32 or more"),
        (f"anna:{ANNA} {BERT}", "32 or more"),
        ("anna:" + "ä" * 40, "32 or more"),
        ("anna:" + "ab" * 20, "not random"),
        (f"anna:{ANNA}\nbert:{ANNA}", "line 2: another line has the same token"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_without_its_tokens(tmp_path: Path, text: str, words: str) -> None:
    _, problems = read_tokens(written(tmp_path, text))
    (problem,) = problems
    assert words in problem
    assert not any(len(word) > 30 for word in problem.split())


def test_every_line_is_told_at_once(tmp_path: Path) -> None:
    assert len(read_tokens(written(tmp_path, "a\nb\nc", mode=0o644))[1]) == 4


@pytest.mark.parametrize(
    ("mode", "owner", "fine"),
    [
        (0o600, 10001, True),
        (0o400, 10001, True),
        (0o640, 10001, False),
        (0o440, 0, True),  # A Kubernetes secret with defaultMode 0440 and fsGroup.
        (0o640, 0, True),
        (0o660, 0, False),
        (0o644, 0, False),
        (0o444, 0, False),
        (0o604, 0, False),
        (0o602, 10001, False),
        (0o600, 10002, False),
    ],
)
def test_others_may_not_read_it(mode: int, owner: int, fine: bool) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = written(Path(folder), f"anna:{ANNA}", mode)
        os.chown(path, owner, 10001)
        code = f"import sys; sys.path[:] = {sys.path!r}; from listener.telemetry.access import read_tokens\n"
        code += "from os import setgroups, setgid, setuid; setgroups([]); setgid(10001); setuid(10001)\n"
        code += f"print(read_tokens({path!r})[1])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout.strip() == "[]") is fine, done.stdout


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(data)
    path.chmod(0o600)
    tokens, problems = read_tokens(str(path))
    assert bool(problems) or all(token.name and len(token.secret) >= 32 for token in tokens)


# -- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "visitor"),
    [
        ("", ""),
        (f"Bearer {ANNA}", "token anna"),
        (f"bearer   {BERT}", "token bert"),
        (basic(f"anna:{ANNA}"), "token anna"),
        (basic(f"bert:{ANNA}"), ""),
        (basic(f":{ANNA}"), ""),
        (basic(ANNA), ""),
        (f"Basic {ANNA}", ""),
        ("Basic !", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        (f"Bearer {ANNA[:-1]}", ""),
        (f"Bearer {ANNA}x", ""),
        (f"Digest {ANNA}", ""),
        (f"{ANNA}", ""),
    ],
)
def test_a_token_lets_in_by_bearer_and_by_basic(authorization: str, visitor: str) -> None:
    for peer in (NEAR, FAR):
        assert visitor_of(ask(authorization), peer, TOKENS, guarded=True) == visitor


@given(st.text(st.characters(max_codepoint=255)))
def test_nothing_else_lets_in(text: str) -> None:
    for authorization in (text, f"Bearer {text}", f"Basic {text}", basic(text), basic(f"anna:{text}")):
        request = ask(authorization.encode("latin-1", "replace").decode("latin-1"))
        assert not visitor_of(request, FAR, TOKENS, guarded=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_the_machine_itself_may_look_while_nothing_is_configured(address: str) -> None:
    assert visitor_of(ask(), Peer(address), (), guarded=False) == "loopback"
    assert visitor_of(ask(), Peer(address), TOKENS, guarded=True) == ""


@pytest.mark.parametrize("address", ["192.0.2.7", "10.127.0.1", "::2", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"])  # noqa: S104
def test_other_machines_may_not(address: str) -> None:
    assert visitor_of(ask(), Peer(address), (), guarded=False) == ""


def test_what_a_proxy_sent_on_is_not_the_machine_s_own() -> None:
    assert visitor_of(ask(forwarded=True), NEAR, (), guarded=False) == ""


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST:9464", True),
        ("127.0.0.1:9464", True),
        ("192.0.2.7", True),
        ("[::1]:9464", True),
        ("[::1]", True),
        ("evil.example:9464", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:", False),
        ("a]:9464", False),
    ],
)
def test_a_page_elsewhere_that_lets_its_name_lead_here_may_not(host: str, may: bool) -> None:
    assert bool(visitor_of(ask(host=host), NEAR, (), guarded=False)) is may


def test_certificates_and_sockets_let_in() -> None:
    assert visitor_of(ask(), FAR._replace(certificate="anna"), (), guarded=True) == "certificate anna"
    assert visitor_of(ask(), Peer("", uid=0), TOKENS, guarded=True) == "uid 0"


def test_who_may_not_look_is_told_how(tmp_path: Path) -> None:
    closed, guarded = Access().refusal(), Access(written(tmp_path, f"anna:{ANNA}")).refusal()
    assert closed.status == guarded.status == 401
    assert b"--token-file" in closed.body
    assert b"Authorization: Bearer" in guarded.body
    # A browser asks for what Basic names, and shall not where no password would do.
    assert [field.split()[1] for field in closed.fields] == ["Bearer"]
    assert [field.split()[1] for field in guarded.fields] == ["Bearer", "Basic"]


# -- changes ---------------------------------------------------------------------------------------------------------


def test_a_token_that_comes_counts_and_one_that_goes_does_not(tmp_path: Path) -> None:
    access = Access(written(tmp_path, f"anna:{ANNA}"))
    assert access.look() == []
    access.start(lambda: None)
    try:
        assert access.visitor(ask(f"Bearer {ANNA}"), FAR) == "token anna"
        written(tmp_path, f"bert:{BERT}")
        until(lambda: access.visitor(ask(f"Bearer {BERT}"), FAR) == "token bert", 5)
        assert access.visitor(ask(f"Bearer {ANNA}"), FAR) == ""
    finally:
        access.stop()


@pytest.mark.parametrize("change", ["wrong", "gone", "open"])
def test_a_file_that_becomes_wrong_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    path = Path(written(tmp_path, f"anna:{ANNA}"))
    access = Access(str(path))
    assert access.look() == []
    if change == "wrong":
        path.write_text("anna")
    elif change == "gone":
        path.unlink()
    else:
        path.chmod(0o644)
    first = access.look()
    assert first
    assert access.look() == first
    assert access.visitor(ask(f"Bearer {ANNA}"), FAR) == "token anna"
    assert sum("still holds" in record.message for record in caplog.records) == 1
    written(tmp_path, f"bert:{BERT}")
    assert access.look() == []
    assert access.visitor(ask(f"Bearer {ANNA}"), FAR) == ""


def test_another_file_replaces_the_tokens(tmp_path: Path) -> None:
    access = Access(written(tmp_path, f"anna:{ANNA}"))
    access.look()
    other = tmp_path / "other"
    other.mkdir()
    access.change(written(other, f"bert:{BERT}"))
    assert access.visitor(ask(f"Bearer {ANNA}"), FAR) == ""
    assert access.visitor(ask(f"Bearer {BERT}"), FAR) == "token bert"
    access.change("")
    assert access.visitor(ask(f"Bearer {BERT}"), FAR) == ""
    assert access.visitor(ask(), NEAR) == "loopback"


# -- what was seen ---------------------------------------------------------------------------------------------------


def test_visits_are_counted_by_who_whence_and_what() -> None:
    visits = Visits()
    for path in ("/", "/api/v1/status", "/api/v1/series/1.2.3", "/studies/1.2.3"):
        visits.add("token anna", FAR, path)
    visits.add("", FAR, "/")
    assert visits.take() == [
        {"by": "token", "client": "anna", "address": "192.0.2.7", "what": "page", "requests": 2},
        {"by": "token", "client": "anna", "address": "192.0.2.7", "what": "api", "requests": 2},
        {"by": "nobody", "client": "", "address": "192.0.2.7", "what": "page", "requests": 1},
    ]
    assert visits.take() == []


def test_visits_of_a_crowd_are_bounded() -> None:
    visits = Visits()
    for number in range(10_000):
        visits.add("", Peer(f"192.0.{number // 256}.{number % 256}"), "/")
    taken = visits.take()
    assert len(taken) < 250
    assert sum(int(visit["requests"]) for visit in taken) == 10_000


def test_how_long_it_takes_tells_nothing_of_a_token() -> None:
    """A guess that is right up to its last character takes as long as one that is wrong from its first."""

    def took(guess: str) -> float:
        request = ask(f"Bearer {guess}")
        begun = time.process_time_ns()
        for _ in range(2000):
            visitor_of(request, FAR, TOKENS, guarded=True)
        return time.process_time_ns() - begun

    near, far = ANNA[:-1] + "0", "0" + ANNA[1:]
    rounds: list[tuple[float, float]] = []
    ratio = 9.0
    # The least of each; on a busy machine it takes more rounds until both were undisturbed.
    while len(rounds) < 200 and not 0.8 < ratio < 1.25:
        rounds += [(took(near), took(far)) for _ in range(10)]
        least_near, least_far = (min(times) for times in zip(*rounds, strict=True))
        ratio = least_near / least_far
    assert 0.8 < ratio < 1.25

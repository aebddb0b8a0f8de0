"""What CUBE's API answers: what is no answer is named, and no secret is."""

from __future__ import annotations

import contextlib
import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.errors import NotTaken
from listener.notify.cube import Cube, Denied, Found
from tests.dicomnet import free_port
from tests.notify.servers import serving


@contextlib.contextmanager
def answering(status: int, body: bytes, heard: list[str] | None = None) -> Iterator[str]:
    """A server that gives this answer to everything, and keeps how it was asked to be let in."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if heard is not None:
                heard.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def login(tmp_path: Path) -> str:
    path = tmp_path / "login"
    path.write_text("chris:hunter2\n")
    path.chmod(0o600)
    return str(path)


def entry(series: str) -> dict[str, str]:
    return {"SeriesInstanceUID": series, "pacs_identifier": "MYPACS", "folder_path": "SERVICES/PACS/MYPACS/x"}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>welcome</html>", "did not answer as CUBE does"),
        (200, b"", "did not answer as CUBE does"),
        (200, b"[]", "did not answer as CUBE does"),
        (200, b'{"results": [1]}', "did not answer as CUBE does"),
        (200, b'{"results": [{"SeriesInstanceUID": "1.2"}]}', "did not answer as CUBE does"),
        (200, b"\xff\xfe", "did not answer as CUBE does"),
        (500, b"Traceback", "answered 500"),
        (302, b"", "answered 302"),
        (200, b" " * (10 << 20), "more than 1048576 bytes"),
    ],
)
def test_what_is_no_answer_is_named(status: int, body: bytes, said: str, login: str) -> None:
    with answering(status, body) as url, pytest.raises(NotTaken) as caught:
        Cube(url, login).find("1.2")
    assert said in caught.value.detail
    assert url in caught.value.detail
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize("status", [401, 403])
def test_a_user_that_may_not_ask_is_told(status: int, login: str) -> None:
    with answering(status, b"{}") as url, pytest.raises(Denied) as caught:
        Cube(url, login).find("1.2")
    assert "pacs_users" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "sent"), [("chris:hunter2\n", "Basic Y2hyaXM6aHVudGVyMg=="), ("0123abcd\n", "Token 0123abcd")]
)
def test_a_login_is_a_password_or_a_token(text: str, sent: str, login: str) -> None:
    Path(login).write_text(text)
    heard: list[str] = []
    with answering(200, b'{"results": []}', heard) as url:
        Cube(url, login).find("1.2")
    assert heard == [sent]


def test_another_series_is_not_this_one(login: str) -> None:
    body = json.dumps({"results": [entry("1.3"), entry("1.2")]}).encode()
    with answering(200, body) as url:
        assert Cube(url, login).find("1.2") == [Found("MYPACS", "SERVICES/PACS/MYPACS/x")]
        assert Cube(url, login).find("1.4") == []


def test_a_cube_that_is_away_and_one_that_speaks_tls_are_named(login: str) -> None:
    with pytest.raises(NotTaken) as caught:
        Cube(f"http://127.0.0.1:{free_port()}", login).find("1.2")
    assert "refused" in caught.value.detail
    with pytest.raises(NotTaken) as caught:
        Cube("http://no-such-host.invalid", login).find("1.2")
    assert "http://no-such-host.invalid: " in caught.value.detail
    with answering(200, b"{}") as url, pytest.raises(NotTaken) as caught:
        Cube(url.replace("http:", "https:"), login).find("1.2")
    assert "https://127.0.0.1" in caught.value.detail


def test_a_login_that_others_can_read_is_refused(login: str) -> None:
    Path(login).chmod(0o644)
    with pytest.raises(Denied) as caught:
        Cube("http://127.0.0.1", login).find("1.2")
    assert "hunter2" not in caught.value.detail
    assert login in caught.value.detail

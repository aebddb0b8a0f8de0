"""Addresses where no NATS is: named, without secrets, and the stage goes on."""

from __future__ import annotations

import logging

import pytest

from listener.errors import NotTaken
from listener.notify.nats_client import Nats, Progress
from tests.dicomnet import free_port
from tests.notify.servers import saying
from tests.waiting import until


@pytest.mark.parametrize(
    ("scheme", "data"),
    [
        ("nats", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("nats", b"-ERR unknown command\r\n"),
        ("nats", b"INFO {garbage\r\n"),
        ("nats", b"INFO {}\r\n-ERR 'Authorization Violation'\r\n"),
        ("nats", b""),
        ("tls", b'INFO {"server_id":"x","tls_required":false}\r\n'),
        ("nats", None),
        ("nats", "no-such-host.invalid"),
    ],
)
def test_what_is_no_nats_is_named_and_ends_wait(
    scheme: str, data: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with saying(data if isinstance(data, bytes) else b"") as port:
        at = f"{data}:4222" if isinstance(data, str) else f"127.0.0.1:{free_port() if data is None else port}"
        nats = Nats([f"{scheme}://user:hunter2@{at}"], lambda: None)
        nats.start()
        try:
            until(lambda: caplog.records, 10, what="why is said")
            assert not nats.is_connected
            assert not nats.tell_progress([Progress(1, 1, "a.b.c", 1)])
            with pytest.raises(NotTaken) as caught:
                nats.tell_end(1, 1, [("a.b.c", b"\0")])
        finally:
            nats.close()
    for text in (caught.value.detail, *(record.getMessage() for record in caplog.records)):
        assert f"{scheme}://{at}" in text
        assert "hunter2" not in text

"""URLs of brokers: what cannot be one is told, and no secret is shown."""

from __future__ import annotations

import gc

import pytest

from listener.errors import NotTaken
from listener.notify.broker import Broker, broker_url, open_url
from listener.parse import HoldsSecret
from tests.dicomnet import free_port
from tests.notify.servers import saying

SENTINELS = "sentinel://:hunter2@a:26379;sentinel://:hunter2@b:26379/0?master_name=chris"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "rediss://host/0?ssl_ca_certs=/ca.pem",
        "amqp://u:p@host:5672//",
        "amqps://host",
        SENTINELS,
    ],
)
def test_what_is_a_broker(url: str) -> None:
    assert broker_url(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "is no broker"),
        ("redis://", "is no broker"),
        ("redis://host:port", "port"),
        ("redis://a;redis://b", "only sentinels may be several"),
        ("sentinel://a:26379/0", "master_name=NAME"),
        ("sentinel://a:26379;http://b/0?master_name=x", "is no broker"),
        ("redis://a/0?ssl_cert_reqs=none", "is not read"),
        ("rediss://a/0?password=hunter2", "is not read"),
        ("amqps://a//?ssl_ca_certs=/x", "is not read"),
        ("sentinel://a:26379/0?master_name=x&db=3", "is not read"),
        ("", "is no broker"),
    ],
)
def test_what_is_none(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        broker_url(url)


def test_secrets_are_not_for_the_command_line() -> None:
    for url in ("redis://:hunter2@host", "redis://u:@host", SENTINELS):
        with pytest.raises(HoldsSecret) as caught:
            open_url(url)
        assert "hunter2" not in str(caught.value)
    assert open_url("redis://host") == "redis://host"


def test_it_is_shown_without_secrets() -> None:
    assert Broker(SENTINELS, "main2").shown == "sentinel://a:26379, sentinel://b:26379/0"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
def test_a_broker_that_refuses_is_named_without_secrets(scheme: str) -> None:
    port = free_port()
    broker = Broker(f"{scheme}://user:hunter2@127.0.0.1:{port}/0", "main2")
    with pytest.raises(NotTaken) as caught:
        broker.send({"PatientID": "1"})
    assert f"{scheme}://127.0.0.1:{port}/0" in caught.value.detail
    assert "hunter2" not in caught.value.detail
    assert not caught.value.is_final
    broker.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp", "sentinel"])
def test_a_host_that_nobody_knows_is_named(scheme: str) -> None:
    broker = Broker(f"{scheme}://no-such-host.invalid/0{'?master_name=x' if scheme == 'sentinel' else ''}", "main2")
    for reach in (broker.check, lambda: broker.send({"PatientID": "1"})):
        with pytest.raises(NotTaken) as caught:
            reach()
        assert f"{scheme}://no-such-host.invalid/0: " in caught.value.detail
        assert not caught.value.is_final
    broker.close()


def test_a_redis_that_refuses_says_why_by_its_code_alone() -> None:
    with saying(b"-DENIED anna may not do so\r\n") as port:
        broker = Broker(f"redis://127.0.0.1:{port}/0", "main2")
        with pytest.raises(NotTaken) as caught:
            broker.send({"PatientID": "1"})
        broker.close()
    assert "(DENIED)" in caught.value.detail
    assert "anna" not in caught.value.detail


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # amqp leaves a socket open.
@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
def test_what_is_no_broker_is_named_without_secrets(scheme: str, data: bytes) -> None:
    with saying(data) as port:
        broker = Broker(f"{scheme}://user:hunter2@127.0.0.1:{port}/0", "main2")
        with pytest.raises(NotTaken) as caught:
            broker.send({"PatientID": "1"})
        with pytest.raises(NotTaken):
            broker.check()
        broker.close()
    assert f"{scheme}://127.0.0.1:{port}/0" in caught.value.detail
    assert "hunter2" not in caught.value.detail
    del broker, caught
    gc.collect()

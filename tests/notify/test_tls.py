"""Targets behind TLS: taken where their certificate is trusted and is that of the host, else named."""

from __future__ import annotations

import contextlib
import http.server
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from listener.notify.broker import Broker
from listener.notify.cube import Cube
from listener.notify.service import Targets, unreachable
from tests.certificates import Authority, Pair, authority
from tests.dicomnet import free_port
from tests.notify.servers import nats_server, redis_server, serving

pytestmark = [pytest.mark.real]

#: The certificate is that of 127.0.0.1, and of no other address at which a server answers.
OURS, OTHER = "127.0.0.1", "127.0.0.2"


class Trust(NamedTuple):
    """An authority, and a server's certificate of it."""

    issuer: Authority
    server: Pair


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    issuer = authority(tmp_path_factory.mktemp("trust"))
    return Trust(issuer, issuer.issue("server"))


@pytest.fixture
def trusted(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Trust:
    """This machine trusts the authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.issuer.cert))
    return trust


@contextlib.contextmanager
def redis(pair: Pair) -> Iterator[str]:
    """A Redis behind TLS; its address without the host."""
    port = free_port()
    files = ("--tls-cert-file", str(pair.cert), "--tls-key-file", str(pair.key), "--tls-ca-cert-file", str(pair.cert))
    with redis_server(0, "--bind", "0.0.0.0", "--tls-port", str(port), *files, "--tls-auth-clients", "no"):  # noqa: S104
        yield f":{port}/0"


@contextlib.contextmanager
def nats(pair: Pair) -> Iterator[str]:
    with nats_server(0, "-a", "0.0.0.0", "--tls", "--tlscert", str(pair.cert), "--tlskey", str(pair.key)) as (url, _):  # noqa: S104
        yield f":{url.rpartition(':')[2]}"


@contextlib.contextmanager
def cube(pair: Pair) -> Iterator[str]:
    """A server that has no series."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"results": []}')

        def log_message(self, *_: Any) -> None:
            """Silent."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that hangs up."""

    server = Server(("0.0.0.0", 0), Handler)  # noqa: S104
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f":{server.server_port}"


def problems(url: str, login: Path) -> list[str]:
    """What `check` says of a target."""
    if url.startswith(("tls:", "nats:")):
        return unreachable(Targets((url,), None, None))
    if url.startswith("http"):
        login.write_text("secret")
        login.chmod(0o600)
        return unreachable(Targets((), None, Cube(url, str(login))))
    return unreachable(Targets((), Broker(url, "main2"), None))


SERVERS = {"rediss": redis, "tls": nats, "https": cube}


@pytest.mark.parametrize("scheme", SERVERS)
def test_a_certificate_that_is_trusted(scheme: str, trusted: Trust, tmp_path: Path) -> None:
    with SERVERS[scheme](trusted.server) as rest:
        assert problems(f"{scheme}://{OURS}{rest}", tmp_path / "login") == []
        (problem,) = problems(f"{scheme}://{OTHER}{rest}", tmp_path / "login")
        assert f"{scheme}://{OTHER}{rest}" in problem, "the host is another one"


@pytest.mark.parametrize("scheme", SERVERS)
def test_a_certificate_that_nobody_vouches_for(scheme: str, trust: Trust, tmp_path: Path) -> None:
    with SERVERS[scheme](trust.server) as rest:
        (problem,) = problems(f"{scheme}://{OURS}{rest}", tmp_path / "login")
        assert f"{scheme}://{OURS}{rest}" in problem


@pytest.mark.parametrize(("scheme", "plain"), [("rediss", "redis"), ("https", "amqp"), ("https", "http")])
def test_a_server_that_speaks_tls_where_none_is_spoken_is_named(
    scheme: str, plain: str, trust: Trust, tmp_path: Path
) -> None:
    with SERVERS[scheme](trust.server) as rest:
        (problem,) = problems(f"{plain}://{OURS}{rest}", tmp_path / "login")
        assert f"{plain}://{OURS}{rest}" in problem


def test_nats_is_spoken_behind_tls_where_its_server_asks_for_it(trusted: Trust, tmp_path: Path) -> None:
    with nats(trusted.server) as rest:
        assert problems(f"nats://{OURS}{rest}", tmp_path / "login") == []


def test_an_amqps_looks_at_the_name_too(trusted: Trust, tmp_path: Path) -> None:
    with cube(trusted.server) as rest:  # It is no RabbitMQ: which of the two faults is told says whether it was asked.
        (ours,), (other,) = (problems(f"amqps://{host}{rest}//", tmp_path / "login") for host in (OURS, OTHER))
    assert "certificate" not in ours
    assert "certificate verify failed" in other


def test_a_message_goes_through_tls(trusted: Trust) -> None:
    with redis(trusted.server) as rest:
        broker = Broker(f"rediss://{OURS}{rest}", "main2")
        broker.send({"PatientID": "1"})
        broker.close()

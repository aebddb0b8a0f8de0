"""TLS of the HTTP port, with certificates by openssl, and real curl where a person would use it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from listener.telemetry.access import Access, TlsFiles
from listener.telemetry.http_messages import Request, Response
from listener.telemetry.server import Limits, Server
from listener.telemetry.tls import Tls
from tests.certificates import Authority, Pair, authority
from tests.waiting import until

PAGE = b"x" * 200_000
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KEEP = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def metrics(_request: Request) -> Response:
    return Response(200, "text/plain", PAGE)


def who(request: Request) -> Response:
    return Response.json(200, request.visitor)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def pair(ours: Authority, tmp_path: Path) -> Pair:
    """The server's certificate, in files of this test's own."""
    made, mine = ours.issue("server"), Pair(tmp_path / "server.pem", tmp_path / "server.key")
    mine.replace_by(made)
    return mine


Start = Callable[..., Server]


@pytest.fixture
def start(pair: Pair) -> Iterator[Start]:
    started: list[Server] = []

    def begin(client_ca: Path | None = None, **limits: float) -> Server:
        access = Access(tls_files=TlsFiles(str(pair.cert), str(pair.key), str(client_ca or "")))
        server = Server("127.0.0.1:0", {"/metrics": metrics}, print, {"/": who}, access, Limits(**limits))  # type: ignore[arg-type]
        server.start()
        started.append(server)
        return server

    yield begin
    assert all(server.stop(10) for server in started)


def port(server: Server) -> int:
    return int(server.address.rpartition(":")[2])


def plain(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port(server)), timeout=120)


def trusting(issuer: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(issuer))


def connect(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(plain(server), server_hostname="localhost")


def everything(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(65536), b""))


def curl(server: Server, path: str, *args: str | Path) -> tuple[int, str, str]:
    """Exit status of curl, HTTP status, and what it got."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}", *map(str, args)]
    done = subprocess.run([*command, f"https://localhost:{port(server)}{path}"], capture_output=True, check=False)
    body, _, code = done.stdout.decode().rpartition("\n")
    return done.returncode, code, body


# -- curl ------------------------------------------------------------------------------------------------------------


def test_curl_trusts_it_and_only_it(start: Start, ours: Authority, tmp_path: Path) -> None:
    server = start()
    assert server.url.startswith("https://")
    assert curl(server, "/metrics", "--cacert", ours.cert) == (0, "200", PAGE.decode())
    other = authority(tmp_path, "other")
    assert curl(server, "/metrics", "--cacert", other.cert)[:2] == (60, "000")
    # Nothing but TLS 1.2 and 1.3.
    assert curl(server, "/metrics", "--cacert", ours.cert, "--tls-max", "1.2")[1] == "200"
    assert (
        curl(server, "/metrics", "--cacert", ours.cert, "--tls-max", "1.1", "--ciphers", "ALL@SECLEVEL=0")[1] == "000"
    )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_certificate_may_look(start: Start, ours: Authority, tmp_path: Path, version: str) -> None:
    server, mine = start(client_ca=ours.cert), ours.issue("anna")
    trusts = ("--cacert", ours.cert, "--tls-max", version)
    shown = (*trusts, "--cert", mine.cert, "--key", mine.key)
    assert curl(server, "/", *shown) == (0, "200", '"certificate anna"\n')
    # Without one metrics are open, the page is not, and being on this machine does not help.
    assert curl(server, "/metrics", *trusts)[1] == "200"
    assert curl(server, "/", *trusts)[1] == "401"
    # One of another issuer is no certificate at all.
    theirs = authority(tmp_path, "theirs").issue("anna")
    for path in ("/", "/metrics"):
        assert curl(server, path, *trusts, "--cert", theirs.cert, "--key", theirs.key)[1] == "000"


def test_who_speaks_no_tls_harms_nobody(start: Start, ours: Authority) -> None:
    server = start()
    for said in (GET, b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b"\x15\x03\x03\0\2\2\x28", b"\0"):
        with plain(server) as peer:
            with suppress(OSError):  # It was closed before all was read.
                peer.sendall(said)
                peer.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert (b"this port speaks HTTPS" in everything(peer)) is (said == GET)
    assert curl(server, "/metrics", "--cacert", ours.cert)[1] == "200"
    until(lambda: not server._busy)


# -- connections -----------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_and_closed_with_a_word(start: Start, ours: Authority) -> None:
    server = start()
    with connect(server, trusting(ours.cert)) as peer:
        peer.sendall(KEEP * 3 + GET)
        # A context of Python's tells a cut from an end: recv would raise without the goodbye.
        assert everything(peer).count(PAGE) == 4


def test_bytes_may_come_one_by_one(start: Start, ours: Authority) -> None:
    server = start()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(ours.cert).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with plain(server) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def push() -> None:
            for byte in outgoing.read():
                peer.sendall(bytes([byte]))

        def pump(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    push()
                    incoming.write(peer.recv(1))

        pump(client.do_handshake)
        client.write(GET)
        push()
        assert pump(lambda: client.read(15)) == b"HTTP/1.1 200 OK"


def test_half_open_handshakes_cost_a_scrape_nothing(start: Start, ours: Authority) -> None:
    server, context = start(deadline=60), trusting(ours.cert)
    hello = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    said, took = hello.read(), list[float]()
    with ExitStack() as stack:
        for number in range(500):
            stack.enter_context(plain(server)).sendall(said[: number % (len(said) + 1)])
        # Once is enough: a busy machine is seldom quick, a server that looks at all of them never.
        while len(took) < 100 and min(took, default=9) > 0.15:
            begun = time.monotonic()
            with connect(server, context) as peer:
                peer.sendall(GET)
                assert everything(peer).endswith(PAGE)
            took.append(time.monotonic() - begun)
    assert min(took) < 0.15, took


def test_a_handshake_that_does_not_end_is_dropped_at_the_deadline(start: Start) -> None:
    server = start(deadline=0.3)
    with plain(server) as silent, plain(server) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01")
        begun = time.monotonic()
        assert silent.recv(1) == b""
        assert slow.recv(1) == b""
        assert time.monotonic() - begun < 60


# -- other certificates ----------------------------------------------------------------------------------------------


def test_a_certificate_is_replaced_under_load_and_no_request_fails(start: Start, pair: Pair, tmp_path: Path) -> None:
    """Clients that make connections anew, and that keep theirs as Prometheus does, while authorities change."""
    authorities = [authority(tmp_path, f"authority{number}") for number in range(3)]
    trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for one in authorities:
        trusts.load_verify_locations(one.cert)
    pair.replace_by(authorities[0].issue("server0"))
    server, stopping, failures = start(), threading.Event(), []
    served = [0]

    def load() -> None:
        while not stopping.is_set():
            try:
                with connect(server, trusts) as peer:
                    peer.sendall(GET)
                    assert everything(peer).endswith(PAGE)
                served[0] += 1
            except (OSError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in (1, 2):
            pair.replace_by(authorities[number].issue(f"server{number}"))
            only = trusting(authorities[number].cert)
            until(lambda only=only: shaken(server, only), 10, what="the new certificate is shown")  # type: ignore[misc]
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert served[0] > 10


def shaken(server: Server, context: ssl.SSLContext) -> bool:
    """Whether a handshake succeeds."""
    try:
        connect(server, context).close()
    except ssl.SSLError:
        return False
    return True


def test_kept_connections_of_the_certificate_before_are_closed(
    start: Start, pair: Pair, ours: Authority, tmp_path: Path
) -> None:
    server = start()
    with connect(server, trusting(ours.cert)) as peer:
        peer.sendall(KEEP)
        until(lambda: len(server._kept) == 1)
        pair.replace_by(authority(tmp_path, "next").issue("server"))
        assert everything(peer).endswith(PAGE)
        assert not server._kept


def test_a_pair_that_does_not_fit_is_told_and_the_one_before_holds(
    start: Start, pair: Pair, ours: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, following = start(), authority(tmp_path, "next")
    made = following.issue("server")
    pair.key.write_bytes(made.key.read_bytes())
    until(lambda: "what held before still holds" in caplog.text, 5)
    assert shaken(server, trusting(ours.cert))
    pair.cert.write_bytes(made.cert.read_bytes())
    until(lambda: shaken(server, trusting(following.cert)), 5)


@pytest.mark.parametrize("kind", ["absent", "text", "foreign key", "passphrase", "directory"])
def test_files_that_cannot_be_used_are_named(pair: Pair, ours: Authority, tmp_path: Path, kind: str) -> None:
    cert, key = str(pair.cert), str(pair.key)
    if kind == "absent":
        cert = str(tmp_path / "absent")
    elif kind == "text":
        pair.cert.write_text("certificate")
    elif kind == "foreign key":
        key = str(ours.issue("another").key)
    elif kind == "passphrase":
        locked = str(tmp_path / "locked")
        command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"]
        subprocess.run(command, check=True, capture_output=True)
        key = locked
    else:
        key = str(tmp_path)
    with pytest.raises(ValueError, match=r"--http-cert: .*cannot be used .*; name a certificate"):
        Tls(cert, key)
    with pytest.raises(ValueError, match="--http-client-ca: "):
        Tls(str(ours.pair.cert), str(ours.pair.key), str(tmp_path / "absent"))

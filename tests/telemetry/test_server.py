"""The server against real sockets, polite and otherwise; every wait has a deadline and ends with what it waits for."""

from __future__ import annotations

import gc
import gzip
import http.client
import re
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import FatalFault
from listener.telemetry.http_messages import MAX_WAITING, Request, Response, Route, parse
from listener.telemetry.server import HEAD_LIMIT, KEPT, REQUESTS, Limits, Server

PAGE = b"listener_ready 1.0\n" * 1000
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KEEP = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 60.0


def metrics(_request: Request) -> Response:
    return Response(200, "text/plain; version=0.0.4; charset=utf-8", PAGE)


def health(request: Request) -> Response:
    return Response.json(503, {"status": "not-ready", "query": request.query})


def broken(_request: Request) -> Response:
    raise LookupError("a detail that nobody outside may read")


def huge(_request: Request) -> Response:
    return Response(200, "text/plain", b"x" * 50_000_000)


def tagged(_request: Request) -> Response:
    return Response.json(200, {"pad": "x" * 2000})._replace(tagged=True)


ROUTES = {"/tagged": tagged, "/metrics": metrics, "/readyz": health, "/broken": broken, "/huge": huge}

Start = Callable[..., Server]


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def start(errors: list[Exception]) -> Iterator[Start]:
    """Starts servers; afterwards each must stop without leaving its thread."""
    started: list[Server] = []

    def begin(address: str = "127.0.0.1:0", slow: Mapping[str, Route] | None = None, **limits: Any) -> Server:
        server = Server(address, ROUTES, errors.append, slow, limits=Limits(**limits))
        server.start()
        started.append(server)
        return server

    yield begin
    stopped = [server.stop() for server in started]
    assert all(stopped)
    assert not serving()


def serving() -> int:
    """How many servers' threads live."""
    return sum(one.name == "listener-http" for one in threading.enumerate())


def connect(server: Server) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)


def everything(peer: socket.socket) -> bytes:
    """All that the server sends until it says that no more will come."""
    received = bytearray()
    while data := peer.recv(65536):
        received += data
    return bytes(received)


def ask(server: Server, raw: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to raw bytes."""
    with connect(server) as peer, peer.makefile("rb") as stream:
        peer.sendall(raw)
        return answer(stream, raw)


def answer(stream: BinaryIO, raw: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status, head and body of the next answer; the connection may be kept."""
    head = b"".join(iter(stream.readline, b"\r\n"))
    length = re.search(rb"Content-Length: (\d+)", head)
    body = stream.read(int(length[1])) if length and not raw.startswith(b"HEAD") else b""
    return int(head.split(b" ")[1]), head, body


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def send_for_ever(peer: socket.socket, data: bytes, pause: float = 0) -> None:
    """Send until the kernel refuses: OSError, a reset or a broken pipe as it likes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        peer.sendall(data)
        time.sleep(pause)


def client(server: Server) -> http.client.HTTPConnection:
    host, _, port = server.address.rpartition(":")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE)


def test_a_page(start: Start) -> None:
    with closing(client(start())) as peer:
        peer.request("GET", "/metrics")
        response = peer.getresponse()
        assert (response.status, response.read()) == (200, PAGE)
        assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        assert response.getheader("Connection") == "keep-alive"


def test_the_query_reaches_the_route_and_the_status_comes_from_it(start: Start) -> None:
    status, head, body = ask(start(), b"GET /readyz?verbose=1 HTTP/1.0\r\n\r\n")
    assert (status, orjson.loads(body)) == (503, {"status": "not-ready", "query": "verbose=1"})
    assert b"Content-Type: application/json" in head


@pytest.mark.parametrize(
    ("accept", "coded"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("br", False), ("gzip;q=0", False), ("gzip; q=0.000", False)],
)
def test_gzip_when_asked_for(start: Start, accept: str, *, coded: bool) -> None:
    _, head, body = ask(start(), GET[:-2] + f"accept-encoding: {accept}\r\n\r\n".encode())
    assert (b"Content-Encoding: gzip" in head) is coded
    assert (gzip.decompress(body) if coded else body) == PAGE
    assert f"Content-Length: {len(body)}".encode() in head


def test_head_tells_the_length_and_sends_nothing(start: Start) -> None:
    status, head, body = ask(start(), b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, b"")
    assert f"Content-Length: {len(PAGE)}".encode() in head


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /nowhere HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"OPTIONS /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET http://host:9464/metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\n\n", 200),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (GET[:-2] + b"X: " + b"y" * HEAD_LIMIT + b"\r\n\r\n", 431),
        (b"y" * (4 * HEAD_LIMIT), 431),
    ],
)
def test_what_each_request_gets(start: Start, raw: bytes, status: int) -> None:
    found, head, body = ask(start(), raw)
    assert found == status
    assert (b"Allow: GET, HEAD" in head) is (status == 405)
    if status != 200:
        assert b"Content-Type: application/problem+json" in head
        assert orjson.loads(body).items() >= {"type": "about:blank", "status": status}.items()


@pytest.mark.parametrize("coding", ["", "Accept-Encoding: gzip\r\n"])
def test_who_knows_an_answer_gets_it_no_more(start: Start, coding: str) -> None:
    server, asked = start(), f"GET /tagged HTTP/1.1\r\n{coding}".encode()
    status, head, body = ask(server, asked + b"\r\n")
    assert (status, bool(body)) == (200, True)
    assert b"Cache-Control: private, no-cache" in head
    (tag,) = re.findall(rb"\r\nETag: (W/\"\w+\")\r\n", head)
    for known in (tag, tag[2:], b'"other", ' + tag, b"*"):
        status, head, body = ask(server, asked + b"If-None-Match: " + known + b"\r\n\r\n")
        assert (status, body) == (304, b"")
        assert tag in head
        assert b"Content-Length" not in head
    assert ask(server, asked + b'If-None-Match: "other"\r\n\r\n')[0] == 200
    assert b"Cache-Control: no-store" in ask(server, GET)[1], "what changes always has no tag"


def test_garbage_behind_a_request_does_not_cost_its_answer(start: Start) -> None:
    status, _, body = ask(start(), GET + b"\x00garbage\r\n\r\n" * 2000)
    assert (status, body) == (200, PAGE)


def test_who_never_stops_sending_is_cut_off(start: Start) -> None:
    with connect(start(deadline=60)) as peer:
        peer.sendall(GET)
        assert everything(peer).endswith(PAGE)
        with pytest.raises(OSError):
            send_for_ever(peer, b"x" * 65536)


def test_a_route_that_raises_is_500_without_details_and_is_told(start: Start, errors: list[Exception]) -> None:
    server = start()
    status, _, body = ask(server, b"GET /broken HTTP/1.1\r\n\r\n")
    assert status == 500
    assert b"detail" not in body
    assert [type(one) for one in errors] == [LookupError]
    assert ask(server, GET)[0] == 200


def test_five_hundred_half_open_sockets_cost_a_scrape_nothing(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:  # both ends of each connection are in this process
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    server = start(deadline=60)
    took: list[float] = []
    with ExitStack() as stack:
        for at in range(500):
            stack.enter_context(connect(server)).sendall(GET[: at % 20])
        # Once is enough: a busy machine is seldom quick, a server that looks at all of them never.
        while len(took) < 100 and min(took, default=9) > 0.1:
            begun = time.monotonic()
            assert ask(server, GET)[2] == PAGE
            took.append(time.monotonic() - begun)
    assert min(took) < 0.1, took


def test_above_the_limit_the_oldest_idle_connection_makes_room(start: Start) -> None:
    server = start(deadline=60, connections=3)
    with connect(server) as first, connect(server) as second, connect(server), connect(server):
        assert first.recv(1) == b""
        second.sendall(GET)
        assert everything(second).endswith(PAGE)


def test_no_descriptors_left_ends_neither_the_server_nor_new_scrapes(start: Start) -> None:
    server = start(deadline=60)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(server)) for _ in range(3)]
        until(lambda: len(server._busy) == 3)
        late = stack.enter_context(socket.socket())
        highest = max(one.fileno() for one in (*peers, late))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            host, _, port = server.address.rpartition(":")
            late.settimeout(PATIENCE)
            late.connect((host, int(port)))
            late.sendall(GET)
            assert everything(late).endswith(PAGE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("said", [b"", b"GET /met"])
def test_who_does_not_finish_a_request_is_dropped_at_the_deadline(start: Start, said: bytes) -> None:
    with connect(start(deadline=0.2)) as peer:
        begun = time.monotonic()
        peer.sendall(said)
        assert everything(peer) == b""
        assert 0.1 < time.monotonic() - begun < 60


def test_a_slow_loris_is_dropped_at_the_deadline_however_lively_it_is(start: Start) -> None:
    begun = time.monotonic()
    with connect(start(deadline=0.3)) as peer, pytest.raises(OSError):
        send_for_ever(peer, b"X", pause=0.01)
    assert time.monotonic() - begun < 60


def test_who_does_not_read_is_dropped_at_the_deadline(start: Start) -> None:
    server = start(deadline=0.3)
    with connect(server) as peer:
        peer.sendall(b"GET /huge HTTP/1.1\r\n\r\n")
        assert peer.recv(1) == b"H"
        assert ask(server, GET)[2] == PAGE
        until(lambda: not server._busy)


def test_a_large_page_arrives_whole(start: Start) -> None:
    assert len(ask(start(deadline=60), b"GET /huge HTTP/1.1\r\n\r\n")[2]) == 50_000_000


def test_a_peer_that_resets_harms_nobody(start: Start) -> None:
    server = start()
    raw = b"GET /huge HTTP/1.1\r\n\r\n"
    for length in range(len(raw) + 1):
        with connect(server) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            peer.sendall(raw[:length])
    assert ask(server, GET)[0] == 200
    until(lambda: not server._busy)


def test_ipv6(start: Start) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = start("[::]:0")
    assert server.address.startswith("[::]:")
    port = int(server.address.rpartition(":")[2])
    for host in ("::1", "127.0.0.1"):
        with socket.create_connection((host, port), timeout=PATIENCE) as peer:
            peer.sendall(GET)
            assert everything(peer).endswith(PAGE)


@pytest.mark.parametrize("address", ["127.0.0.1:taken", "192.0.2.1:9464", "127.0.0.1:99999", "no.such.host.invalid:0"])
def test_an_address_that_cannot_be_had_says_what_to_do(start: Start, address: str) -> None:
    taken = start().address.rpartition(":")[2]
    address = address.replace("taken", taken)
    with pytest.raises(FatalFault) as caught:
        Server(address, ROUTES, print).start()
    assert address in str(caught.value)
    assert "--http" in str(caught.value)


def test_stop_drops_every_peer_frees_the_port_and_may_be_repeated(errors: list[Exception]) -> None:
    server = Server("127.0.0.1:0", ROUTES, errors.append)
    assert server.stop(PATIENCE)
    server.start()
    assert serving() == 1
    with connect(server) as peer:
        until(lambda: len(server._busy) == 1)
        assert server.stop(PATIENCE)
        assert not serving()
        assert peer.recv(1) == b""
        again = Server(server.address, ROUTES, errors.append)
        again.start()
        assert again.stop(PATIENCE)
        assert again.stop(PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


@given(st.binary(max_size=200))
def test_no_head_breaks_the_parser(head: bytes) -> None:
    for raw in (head, b"GET " + head, b"GET / HTTP/1.1\r\n" + head):
        assert isinstance(parse(raw + b"\r\n\r\n"), Request | Response)


def stop_too_early(held: Held) -> None:
    server = Server("127.0.0.1:0", {"/held": held}, print)
    server.start()
    with connect(server) as peer:
        peer.sendall(b"GET /held HTTP/1.1\r\n\r\n")
        until(lambda: held.asked == 1)
        assert not server.stop(0.01)
        held.let_go.set()
        until(lambda: not server.alive)


def test_a_thread_that_ends_after_stop_gave_up_closes_everything(held: Held) -> None:
    stop_too_early(held)
    gc.collect()  # A socket left open is a ResourceWarning, and so a failure.


# -- slow routes -----------------------------------------------------------------------------------------------------


class Held:
    """A route that answers when it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = 0

    def __call__(self, request: Request) -> Response:
        self.asked += 1
        assert self.let_go.wait(PATIENCE)
        return Response.json(200, {"path": request.path})


@pytest.fixture
def held() -> Iterator[Held]:
    one = Held()
    yield one
    one.let_go.set()


def test_a_slow_route_holds_up_nobody_else(start: Start, held: Held) -> None:
    server = start(slow={"/slow/": held})
    with connect(server) as waiting:
        waiting.sendall(b"GET /slow/1.2.3?x=1 HTTP/1.1\r\nConnection: close\r\n\r\n")
        until(lambda: held.asked == 1)
        assert ask(server, GET)[0] == 200
        held.let_go.set()
        assert everything(waiting).endswith(b'{"path":"/slow/1.2.3"}\n')


def test_a_peer_that_has_said_its_last_word_still_gets_a_slow_answer(start: Start, held: Held) -> None:
    server = start(slow={"/slow": held})
    with connect(server) as waiting:
        waiting.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        waiting.shutdown(socket.SHUT_WR)
        until(lambda: held.asked == 1)
        held.let_go.set()
        assert b" 200 OK" in everything(waiting)


def test_too_many_slow_questions_are_refused_at_once(start: Start, held: Held) -> None:
    server = start(slow={"/slow": held})
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(server)) for _ in range(MAX_WAITING + 2)]
        for number, peer in enumerate(peers):
            peer.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n")
            if not number:
                until(lambda: held.asked == 1)
        assert b" 503 " in everything(peers[-1])
        held.let_go.set()
        assert all(b" 200 " in everything(peer) for peer in peers[:-1])


def test_peers_that_went_away_and_deadlines_leave_slow_answers_to_nobody(start: Start, held: Held) -> None:
    server = start(slow={"/slow": held}, deadline=0.2)
    with connect(server) as gone, connect(server) as late:
        for peer in (gone, late):
            peer.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n")
        until(lambda: held.asked == 1)
        gone.close()
        assert everything(late) == b""
    held.let_go.set()
    until(lambda: held.asked == 2)
    assert ask(server, GET)[0] == 200


def test_it_stops_while_a_slow_route_hangs(start: Start, held: Held) -> None:
    server = start(slow={"/slow": held})
    with connect(server) as waiting:
        waiting.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n")
        until(lambda: held.asked == 1)
        begun = time.monotonic()
        assert server.stop(0.2)
        assert time.monotonic() - begun < 60
        assert not server.alive


@pytest.mark.parametrize("path", ["/", "/slow", "/other/1", "/slow/1/2"])
def test_a_folder_stands_for_what_lies_in_it_only(start: Start, path: str) -> None:
    server = start(slow={"/slow/": metrics})
    assert ask(server, f"GET {path} HTTP/1.1\r\n\r\n".encode())[0] == 404
    assert ask(server, b"GET /slow/1 HTTP/1.1\r\n\r\n")[0] == 200
    assert ask(server, b"POST /slow/1 HTTP/1.1\r\n\r\n")[0] == 405


def test_a_page_may_add_fields_to_the_head(start: Start) -> None:
    def page(_request: Request) -> Response:
        return Response(200, "text/html", b"x", ("Content-Security-Policy: default-src 'none'",))

    _, head, _ = ask(start(slow={"/": page}), b"GET / HTTP/1.1\r\n\r\n")
    assert b"\r\nContent-Security-Policy: default-src 'none'" in head


# -- kept connections ------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request(start: Start) -> None:
    server = start(slow={"/slow": metrics})
    with connect(server) as peer, peer.makefile("rb") as stream:
        for raw in (
            KEEP,
            b"HEAD /metrics HTTP/1.1\r\n\r\n",
            b"GET /slow HTTP/1.1\r\n\r\n",
            b"GET /no HTTP/1.1\r\n\r\n",
            GET,
        ):
            peer.sendall(raw)
            status, head, body = answer(stream, raw)
            assert status == (404 if b"/no" in raw else 200)
            assert body == PAGE or status == 404 or raw.startswith(b"HEAD")
            assert (b"Connection: close" in head) is (raw == GET)
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", False),
        (b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET /metrics HTTP/1.1\r\n\r\n", True),
        (b"GET /metrics HTTP/1.1\r\nConnection: TE, Close\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\n\n", False),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + b"GET /metrics HTTP/1.1\r\n\r\n", False),
        (b"GET /metrics HTTP/2.0\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nHost : x\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\n c\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\n", False),
    ],
)
def test_what_keeps_a_connection(start: Start, raw: bytes, *, kept: bool) -> None:
    """What could be read in two ways ends the connection: nothing behind it is taken for a request of its own."""
    _, head, _ = ask(start(), raw)
    assert (b"Connection: keep-alive" in head) is kept
    with connect(start(idle=0.3)) as peer:
        peer.sendall(raw + b"GET /readyz HTTP/1.1\r\n\r\n")
        assert everything(peer).count(b"HTTP/1.1 ") == 1 + kept


def test_requests_sent_at_once_are_answered_in_their_order_and_others_get_their_turn(start: Start) -> None:
    server, several = start(slow={"/slow": metrics}), 300
    with connect(server) as greedy, greedy.makefile("rb") as stream:
        sending = threading.Thread(
            target=greedy.sendall,
            args=(b"GET /readyz HTTP/1.1\r\n\r\nGET /slow HTTP/1.1\r\n\r\n" * several + GET,),
        )
        sending.start()
        begun = time.monotonic()
        assert ask(server, GET)[0] == 200
        assert time.monotonic() - begun < 60
        found = [answer(stream)[0] for _ in range(2 * several)]
        sending.join()
        assert found == [503, 200] * several
        assert answer(stream)[2] == PAGE


def test_one_who_asks_and_never_reads_is_dropped_and_costs_no_memory(start: Start) -> None:
    server = start(deadline=0.5)
    with connect(server) as peer, pytest.raises(OSError):
        send_for_ever(peer, b"GET /huge HTTP/1.1\r\n\r\n" * 1000)
    until(lambda: not server._busy)


@pytest.mark.parametrize("before", [b"", KEEP])
def test_a_kept_connection_ends_after_its_time(start: Start, before: bytes) -> None:
    with connect(start(idle=0.3, deadline=0.2)) as peer:
        peer.sendall(KEEP + before)
        begun = time.monotonic()
        assert everything(peer).count(b" 200 OK") == 1 + bool(before)
        assert 0.2 < time.monotonic() - begun < 60


def test_the_next_request_has_its_own_deadline_from_its_first_byte(start: Start) -> None:
    with connect(start(idle=60, deadline=0.3)) as peer, peer.makefile("rb") as stream:
        peer.sendall(KEEP)
        answer(stream)
        begun = time.monotonic()
        peer.sendall(b"GET /met")
        assert stream.read() == b""
        assert 0.1 < time.monotonic() - begun < 60


def test_kept_connections_are_bounded_and_the_oldest_goes(start: Start) -> None:
    server = start()
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(server)) for _ in range(KEPT + 2)]
        for peer in peers:
            peer.sendall(KEEP)
            with peer.makefile("rb") as stream:
                answer(stream)
        until(lambda: len(server._kept) == KEPT)
        assert [peer.recv(1) for peer in peers[:2]] == [b"", b""]
        peers[-1].sendall(GET)
        assert everything(peers[-1]).endswith(PAGE)


def test_kept_connections_make_room_before_those_that_ask(start: Start) -> None:
    server = start(connections=2)
    with connect(server) as kept, connect(server) as asking:
        kept.sendall(KEEP)
        with kept.makefile("rb") as stream:
            answer(stream)
        asking.sendall(b"GET /met")
        until(lambda: len(server._busy) == len(server._kept) == 1)
        with connect(server) as third:
            assert kept.recv(1) == b""
            asking.sendall(GET.removeprefix(b"GET /met"))
            third.sendall(GET)
            assert everything(asking).endswith(PAGE)
            assert everything(third).endswith(PAGE)


def test_a_connection_has_so_many_requests_and_no_more(start: Start) -> None:
    with connect(start()) as peer, peer.makefile("rb") as stream:
        for number in range(REQUESTS):
            peer.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            assert (b"Connection: close" in answer(stream)[1]) is (number == REQUESTS - 1)
        assert stream.read() == b""


@given(st.lists(st.sampled_from([KEEP, b"GET /readyz HTTP/1.1\r\n\r\n", b"HEAD /no HTTP/1.1\r\n\r\n"]), max_size=8))
def test_however_requests_are_cut_each_has_its_answer(requests: list[bytes]) -> None:
    server = Server("127.0.0.1:0", ROUTES, print)
    server.start()
    try:
        whole = b"".join([*requests, GET])
        for piece in (1, 7, 61):
            with connect(server) as peer, peer.makefile("rb") as stream:
                for at in range(0, len(whole), piece):
                    peer.sendall(whole[at : at + piece])
                found = [answer(stream, raw)[0] for raw in [*requests, GET]]
            assert found == [404 if b"/no" in raw else 503 if b"/readyz" in raw else 200 for raw in [*requests, GET]]
    finally:
        assert server.stop(PATIENCE)


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([KEEP, b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"Host: x\r\n"]))
    )
)
def test_whatever_is_sent_every_answer_is_whole_and_the_server_goes_on(said: list[bytes]) -> None:
    server = Server("127.0.0.1:0", ROUTES, print, {"/": metrics})
    server.start()
    try:
        with connect(server) as peer:
            peer.sendall(b"".join(said))
            peer.shutdown(socket.SHUT_WR)
            try:
                received = everything(peer)
            except ConnectionResetError:  # It sent on behind what ended its connection.
                received = b""
        while received:
            head, _, rest = received.partition(b"\r\n\r\n")
            assert re.match(rb"HTTP/1\.1 (200|400|401|404|405|431|505) ", head)
            length = re.search(rb"Content-Length: (\d+)", head)
            received = rest[int(length[1]) if length else 0 :]
        assert ask(server, GET)[2] == PAGE
    finally:
        assert server.stop(PATIENCE)


# -- who may look ----------------------------------------------------------------------------------------------------


def test_slow_routes_answer_only_who_may_look(start: Start) -> None:
    server = start(slow={"/slow": metrics})
    for field, status in ((b"", 200), (b"X-Forwarded-For: 127.0.0.1\r\n", 401), (b"Host: evil.example\r\n", 401)):
        assert ask(server, b"GET /slow HTTP/1.1\r\n" + field + b"\r\n")[0] == status
        assert ask(server, b"GET /metrics HTTP/1.1\r\n" + field + b"\r\n")[0] == 200
    _, head, body = ask(server, b"HEAD /slow HTTP/1.1\r\nVia: x\r\n\r\n")
    assert b'WWW-Authenticate: Bearer realm="listener"' in head
    assert body == b""
    assert [(visit["by"], visit["requests"]) for visit in server.access.visits.take()] == [
        ("loopback", 1),
        ("nobody", 3),
    ]


# -- Unix sockets ----------------------------------------------------------------------------------------------------


def at(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(PATIENCE)
    peer.connect(str(path))
    return peer


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "http"
    server = start(f"unix:{path}", slow={"/slow": metrics})
    assert server.address == server.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with at(path) as peer:
        peer.sendall(b"GET /slow HTTP/1.1\r\nHost: any.name\r\nVia: x\r\nConnection: close\r\n\r\n")
        assert everything(peer).endswith(PAGE)
    assert [visit["by"] for visit in server.access.visits.take()] == ["uid"]
    assert server.stop(PATIENCE)
    assert not path.exists()


def test_a_socket_that_a_killed_service_left_is_replaced(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "http"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    start(f"unix:{path}")
    with at(path) as peer:
        peer.sendall(GET)
        assert everything(peer).endswith(PAGE)


def test_what_others_have_there_is_left_alone(start: Start, tmp_path: Path) -> None:
    busy, file = tmp_path / "busy", tmp_path / "file"
    start(f"unix:{busy}")
    file.write_text("mine")
    for path, words in ((busy, "another listener"), (file, "no socket"), (tmp_path / "no" / "such", "No such file")):
        with pytest.raises(FatalFault, match=words):
            Server(f"unix:{path}", ROUTES, print).start()
    assert file.read_text() == "mine"
    with at(busy) as peer:
        peer.sendall(GET)
        assert everything(peer).endswith(PAGE)


def test_a_socket_of_the_next_service_outlives_this_one(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "http"
    first = start(f"unix:{path}")
    path.unlink()
    start(f"unix:{path}")
    assert first.stop(PATIENCE)
    with at(path) as peer:
        peer.sendall(GET)
        assert everything(peer).endswith(PAGE)

"""Who may look, as the people who run it try it: a real service, curl and Prometheus, with tokens, TLS and a socket."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from listener.benchmark.corpus import Corpus
from listener.benchmark.request import Shape
from tests.browser import browser
from tests.certificates import authority
from tests.observing.prometheus import prometheus
from tests.service_process import Places, Service, listener, service
from tests.waiting import until

pytestmark = pytest.mark.real

RULES = "groups: []\n"


class Tokens:
    """A token file of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens"
        self._tokens: dict[str, str] = {}

    def give(self, name: str) -> str:
        """A new token for `name`, in the file from now on."""
        self._tokens[name] = secrets.token_hex(32)
        return self._write()[name]

    def take(self, name: str) -> None:
        """Revoke a token."""
        del self._tokens[name]
        self._write()

    def _write(self) -> dict[str, str]:
        beside = self.path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text("".join(f"{name}:{token}\n" for name, token in self._tokens.items()))
        beside.rename(self.path)
        return self._tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


def curl(*args: str | Path) -> tuple[str, str]:
    """The status and what came."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}", *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=False)
    body, _, code = done.stdout.decode().rpartition("\n")
    return code, body


def codes(running: Service, *args: str | Path, path: str = "/") -> str:
    return curl(*args, f"http://{running.address}{path}")[0]


def test_a_token_opens_page_and_api_until_it_is_taken_away(places: Places, tokens: Tokens) -> None:
    anna, bert = tokens.give("anna"), tokens.give("bert")
    with service(places, "--token-file", str(tokens.path)) as running:
        for path in ("/", "/api/v1/status", "/api/v1/series?limit=1", "/api/v1/openapi.json"):
            assert codes(running, path=path) == "401"
            assert codes(running, "-H", f"Authorization: Bearer {anna}", path=path) == "200"
            assert codes(running, "-u", f"bert:{bert}", path=path) == "200"
            assert codes(running, "-u", f"bert:{anna}", path=path) == "401"
        for path in ("/metrics", "/healthz", "/readyz"):
            assert codes(running, path=path) == "200"
        code, told = curl(f"http://{running.address}/api/v1/status")
        assert code == "401"
        assert "Authorization: Bearer" in json.loads(told)["detail"]
        tokens.take("anna")
        carla = tokens.give("carla")
        until(lambda: codes(running, "-H", f"Authorization: Bearer {anna}") == "401", 5)
        assert codes(running, "-H", f"Authorization: Bearer {carla}") == "200"
    visits = running.events("access")
    assert {(visit["by"], visit["client"]) for visit in visits} == {
        ("token", "anna"),
        ("token", "bert"),
        ("token", "carla"),
        ("nobody", ""),
    }
    assert {visit["address"] for visit in visits} == {"127.0.0.1"}
    for text in (running.stdout.decode(), running.stderr):
        assert not any(token in text for token in (anna, bert, carla))
        assert "limit=1" not in text


def test_a_wrong_token_file_is_told_and_nothing_begins(places: Places, tokens: Tokens) -> None:
    tokens.give("anna")
    tokens.path.chmod(0o644)
    for command in ("run", "check"):
        done = listener(command, *places.flags(), "--token-file", str(tokens.path))
        assert done.status == 2
        assert "--token-file" in done.stderr
        assert "0440" in done.stderr
    assert list(places.state.iterdir()) == []


def test_without_tokens_the_machine_itself_may_look_but_no_proxy_on_it(places: Places) -> None:
    with service(places) as running:
        assert codes(running) == "200"
        assert codes(running, "-H", "X-Forwarded-For: 192.0.2.7") == "401"
        assert codes(running, "-H", "Host: evil.example") == "401"
        assert codes(running, "-H", "X-Forwarded-For: 192.0.2.7", path="/metrics") == "200"


def test_another_machine_may_not(places: Places) -> None:
    """By another address of this machine: whoever asks there comes from it, and not from the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address than the loopback interface's")
        address = probe.getsockname()[0]
    with service(places, "--http", "0.0.0.0:0") as running:
        port = running.address.rpartition(":")[2]
        assert curl(f"http://{address}:{port}/")[0] == "401"
        assert "--token-file" in curl(f"http://{address}:{port}/")[1]
        assert curl(f"http://{address}:{port}/metrics")[0] == "200"
        assert curl(f"http://127.0.0.1:{port}/")[0] == "200"


def test_a_unix_socket_for_curl(places: Places, tokens: Tokens) -> None:
    path = places.base / "http"
    tokens.give("anna")
    with service(places, "--http", f"unix:{path}", "--token-file", str(tokens.path)) as running:
        assert running.address == f"unix:{path}"
        assert curl("--unix-socket", path, "http://listener/")[0] == "200"
        running.kill()
    with service(places, "--http", f"unix:{path}"):
        assert curl("--unix-socket", path, "http://listener/metrics")[0] == "200"
    assert not path.exists()


def test_a_browser_asks_once_and_its_scripts_go_on(places: Places, tokens: Tokens, tmp_path: Path) -> None:
    anna = tokens.give("anna")
    with service(places, "--token-file", str(tokens.path)) as running, browser(tmp_path / "profile") as one:
        # Headless, it has no window to ask in.
        one.open(f"http://{running.address}/")
        assert one.value("document.querySelector('h1') === null")
        # As if name and token had been typed into its window; it keeps them for this address.
        one.open(f"http://anna:{anna}@{running.address}/")
        one.open(f"http://{running.address}/")
        assert one.value("document.querySelector('h1') !== null")
        assert one.value("fetch('/api/v1/status').then(answer => answer.status)") == 200


@pytest.mark.usefixtures("prometheus_server")
def test_prometheus_comes_by_tls_with_basic_auth_with_a_token_and_with_nothing(
    places: Places, tokens: Tokens, tmp_path: Path
) -> None:
    ours, token = authority(tmp_path, "ours"), tokens.give("prometheus")
    pair, client, other = ours.issue("server"), ours.issue("prometheus"), authority(tmp_path, "other")
    trusts = {"ca_file": str(ours.cert)}
    ways: dict[str, dict[str, Any]] = {
        "nothing": {"tls_config": trusts},
        "basic": {"tls_config": trusts, "basic_auth": {"username": "prometheus", "password": token}},
        "bearer": {"tls_config": trusts, "authorization": {"credentials": token}},
        "certificate": {"tls_config": {**trusts, "cert_file": str(client.cert), "key_file": str(client.key)}},
        "other": {"tls_config": {"ca_file": str(other.cert)}},
    }
    tls = ("--http-cert", str(pair.cert), "--http-key", str(pair.key), "--http-client-ca", str(ours.cert))
    with service(places, "--token-file", str(tokens.path), *tls) as running:
        jobs = {name: {"scheme": "https", **way} for name, way in ways.items()}
        with prometheus(tmp_path / "prometheus", running.address, RULES, jobs=jobs) as server:
            for name in ways:
                up = f'sum(up{{job="{name}"}}) + 0 * max(max_over_time(up[30s]))'
                until(lambda up=up, name=name: server.value(up) == (name != "other"), 20, what=name)  # type: ignore[misc]
        https = f"https://{running.address}/"
        assert curl("--cacert", ours.cert, https)[0] == "401"
        assert curl("--cacert", ours.cert, "-u", f"prometheus:{token}", https)[0] == "200"
        assert curl("--cacert", ours.cert, "--cert", client.cert, "--key", client.key, https)[0] == "200"


@pytest.mark.slow
def test_wrong_tokens_without_end_hold_up_neither_files_nor_scrapes(places: Places, tokens: Tokens) -> None:
    """As many as a core can ask; what is measured by hand stands in the documents."""
    tokens.give("anna")
    with service(places, "--token-file", str(tokens.path)) as running:
        host, _, port = running.address.rpartition(":")
        stopping, asked = threading.Event(), [0]
        wrong = f"GET /api/v1/status HTTP/1.1\r\nAuthorization: Bearer {'0123456789' * 5}\r\n\r\n".encode()

        def guess() -> None:
            while not stopping.is_set():
                with socket.create_connection((host, int(port)), timeout=120) as peer:
                    peer.sendall(wrong * 20)
                    asked[0] += peer.recv(65536).count(b" 401 ")

        threads = [threading.Thread(target=guess) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: asked[0] > 200, 10)
            Corpus(Shape(size=4096)).write(places.incoming, 200)
            running.wait_for("published", 200)
            assert running.get("/metrics").status == 200
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

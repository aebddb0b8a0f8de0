"""`listener route`: its command line, and the words that ask targets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.cli import main
from tests.dicomnet import free_port
from tests.network.peers import accept, command, data, peer, read_message, read_pdu


def echoing(connection: socket.socket) -> None:
    accept(connection)
    read_message(connection, has_dataset=False)
    connection.sendall(data(1, command(e0100=0x8030, e0120=1)))
    with contextlib.suppress(ConnectionError, OSError):
        read_pdu(connection)


@pytest.fixture
def port() -> Iterator[int]:
    with peer(echoing) as given:
        yield given


def routes(folder: Path, port: int, more: str = "") -> str:
    path = folder / "routes.toml"
    path.write_text(
        f'[workers.gpu1]\naddress = "127.0.0.1:{port}"\naet = "GPU1"\n'
        f'[destinations.disk]\ndirectory = "{folder}"\n'
        f'[routes.all]\nsender = ["*"]\nworkers = ["gpu1"]\ncopies = ["disk"]\n{more}'
    )
    return str(path)


def test_check_tells_that_all_answer_and_advises_keep_both(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = routes(tmp_path, port, '[inside]\nroots = ["inside"]\n')
    assert main(["route", "check", "--routes", file]) == 0
    first, worker, disk, advice = capsys.readouterr().out.splitlines()
    assert first == "the routes file is in order: 1 route"
    assert worker.startswith("gpu1: answered C-ECHO with status 0000 in ")
    assert disk == "disk: its directory can be written"
    assert "--on-conflict keep-both" in advice


def test_ping_tells_why_nobody_answers_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "ping", "gpu1", "--routes", routes(tmp_path, free_port())]) == 1
    assert capsys.readouterr().out == (
        "gpu1: refused (nobody listens there); start it, or see the port in its address\n"
    )


WRONG = {
    "no file is named": (["route"], "--routes: is missing"),
    "unknown word": (["route", "pign", "gpu1"], "did you mean ping?"),
    "unknown target": (["route", "ping", "gpu2"], "did you mean 'gpu1'?"),
    "nobody is named": (["route", "ping"], "give ping NAME"),
    "check takes none": (["route", "check", "gpu1"], "check takes no name"),
    "a directory": (["route", "check", "--routes", "."], "is a directory"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_command_line_that_is_wrong_says_what_to_give(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, said = WRONG[name]
    given = [] if "--routes" in words or len(words) == 1 else ["--routes", routes(tmp_path, 1)]
    assert main([*words, *given]) == 2
    assert said in capsys.readouterr().err


def test_all_problems_of_the_file_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(
        '[workers.gpu1]\naddress = "nowhere"\naet = "GPU1"\ncolour = "red"\n'
        '[workers.gpu2]\naddress = "127.0.0.1:1"\naet = "GPU2"\ntls = { ca = "/not/there.pem" }\n'
        '[routes.all]\nworkers = ["gpu3"]\n'
    )
    assert main(["route", "check", "--routes", str(path)]) == 2
    told = capsys.readouterr().err
    for piece in ("HOST:PORT", "unknown key 'colour'", "there is no worker 'gpu3'", "neither root nor sender"):
        assert piece in told
    path.write_text(
        '[workers.gpu2]\naddress = "127.0.0.1:1"\naet = "GPU2"\ntls = { ca = "/not/there.pem" }\n'
        '[routes.all]\nsender = ["*"]\nworkers = ["gpu2"]\n'
    )
    assert main(["route", "check", "--routes", str(path)]) == 2
    assert "[workers.gpu2]: tls: its files cannot be used" in capsys.readouterr().err

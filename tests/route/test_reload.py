"""The routes file as it lies there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from listener.errors import ConfigError
from listener.route.reload import Look, load, looks
from listener.route.routes_file import read

TARGET = '[workers.gpu1]\naddress = "127.0.0.1:1"\naet = "GPU1"\ncalling = "US"\n'
ROUTE = '[routes.all]\nsender = ["*"]\nworkers = ["gpu1"]\n'


def test_a_file_gives_routes_and_peers(tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(TARGET + ROUTE)
    loaded = load(str(path))
    assert loaded.text == TARGET + ROUTE
    peer = loaded.peers["gpu1"]
    assert (peer.host, peer.port, peer.called, peer.calling, peer.tls) == ("127.0.0.1", 1, "GPU1", "US", None)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a directory": (lambda path: path.mkdir(), "is a directory"),
    "nothing": (lambda _: None, "cannot be read (No such file or directory)"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
    "too much": (lambda path: path.write_text("#" * 1_000_002), "is no routes file"),
    "no TOML": (lambda path: path.write_text("]"), "it is not TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_routes_file_is_named(name: str, tmp_path: Path) -> None:
    make, said = WRONG[name]
    path = tmp_path / "routes.toml"
    make(path)
    with pytest.raises(ConfigError, match=r".") as caught:
        load(str(path))
    assert said in str(caught.value)


def test_a_change_is_seen_also_by_a_link_that_is_swapped(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "routes.toml").write_text(TARGET + ROUTE)
    link, path = tmp_path / "now", str(tmp_path / "now" / "routes.toml")
    link.symlink_to("one")
    before = Look.of(path)
    assert Look.of(path) == before
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", link)
    assert Look.of(path) != before
    link.unlink()
    assert Look.of(path) == Look()


def test_a_certificate_that_changes_is_a_change_of_the_routes_file(tmp_path: Path) -> None:
    path, ca, key = tmp_path / "routes.toml", tmp_path / "ca.pem", tmp_path / "us.key"
    tls = f'tls = {{ ca = "{ca}", cert = "{tmp_path}/us.pem", key = "{key}" }}\n'
    path.write_text(TARGET + tls + ROUTE)
    routes = read(path.read_text())
    seen = [looks(str(path), routes)]
    for file in (ca, key):
        file.write_text(file.name)
        seen.append(looks(str(path), routes))
    assert len(set(seen)) == 3
    assert looks(str(path), routes) == seen[-1]

"""Entries of an incoming directory that are no ordinary files, and PatientIDs that people and attackers send."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.instances import ABSENT


def odd_files(folder: Path) -> dict[str, Path]:
    """A link to a victim, a dangling link, a FIFO, a socket."""
    (folder.parent / "victim").write_text("do not touch")
    paths = {name: folder / name for name in ("link", "dangling", "fifo", "socket")}
    paths["link"].symlink_to("../victim")
    paths["dangling"].symlink_to("nowhere")
    os.mkfifo(paths["fifo"])
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)
        server.bind("socket")
        os.chdir(here)
    return paths


def make_socket(path: Path) -> None:
    """A socket that nobody listens on (its path may be too long to bind to, so it is made elsewhere and moved)."""
    short = f"/proc/self/fd/{(folder := os.open(path.parent, os.O_RDONLY))}/s"
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(short)
        path.with_name("s").rename(path)
    finally:
        os.close(folder)


#: PatientIDs that people and attackers send; each is filed inside the roots.
HOSTILE = {
    "climbs": "../../x",
    "climbs high": "../../../../../../../../tmp/x",
    "absolute": "/etc/x",
    "dots": "..",
    "dot": ".",
    "NUL": "A\0B",
    "newline": "A\nB",
    "ESC": "A\x1b[31mB",
    "backspaces": "A\b\bB",
    "300 characters": "X" * 300,
    "emoji": "\U0001f600\u200fx",
    "own directory": ".listener",
    "dash": "-rf",
    "spaces": "a  b",
    "json": '"}],"x":{"',
    "empty": "",
    "absent": ABSENT,
}

"""Real servers that an export writes to, each on a free port of this machine with an empty bucket."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from listener.export.address import parse
from listener.export.directory import DirectoryTarget
from listener.export.target import Target
from tests.conftest import PROJECT
from tests.export import google
from tests.waiting import until

#: The account that every Azurite has.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

BUCKET = "bucket"
KINDS = ("directory", "versitygw", "azurite", "gcs")


class Store(NamedTuple):
    """A running server: what --to and --endpoint say, what the environment must hold, and where its objects lie."""

    to: str
    endpoint: str
    environment: dict[str, str]
    folder: Path

    def target(self, part: int = 5 * 2**20) -> Target:
        if not self.endpoint:
            return DirectoryTarget(self.to)
        from listener.export.objects import ObjectTarget

        return ObjectTarget(parse(self.to), self.endpoint, part, 16 * 2**20)

    def flags(self) -> list[str]:
        return ["--to", self.to, *(["--endpoint", self.endpoint] if self.endpoint else [])]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _program(name: str, path: str) -> str:
    found = shutil.which(name) or shutil.which(str(PROJECT / ".venv" / path))
    if not found:
        pytest.skip(f"{name} is not there (.ci/need {name.removesuffix('-blob')})")
    return found


@contextlib.contextmanager
def _serving(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        assert process.poll() is None, command
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        until(answers, 40)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def directory(base: Path) -> Iterator[Store]:
    folder = base / "target"
    folder.mkdir()
    yield Store(str(folder), "", {}, folder)


@contextlib.contextmanager
def versitygw(base: Path, port: int = 0) -> Iterator[Store]:
    port = port or free_port()
    folder = base / "gateway" / BUCKET
    folder.mkdir(parents=True, exist_ok=True)
    command = [_program("versitygw", "bin/versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "posix"]
    keys = {"ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": "a secret of tests"}
    environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a secret of tests", "AWS_REGION": "us-east-1"}
    with _serving([*command, str(folder.parent)], port, **keys):
        yield Store(f"s3://{BUCKET}/some/prefix", f"http://127.0.0.1:{port}", environment, folder / "some/prefix")


@contextlib.contextmanager
def azurite(base: Path) -> Iterator[Store]:
    port = free_port()
    folder = base / "azurite"
    folder.mkdir()
    program = _program("azurite-blob", "azurite/node_modules/.bin/azurite-blob")
    command = [program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"]
    with _serving([*command, "--blobPort", str(port), "--location", str(folder)], port):
        environment = {"AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": _KEY}
        endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        _make_container(endpoint)
        yield Store(f"az://{BUCKET}/some/prefix", endpoint, environment, folder)


def _make_container(endpoint: str) -> None:
    """Create the container by a signed request (Shared Key, of Azure's REST interface)."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate
    from urllib.request import Request, urlopen

    now = formatdate(usegmt=True)
    headers = f"x-ms-date:{now}\nx-ms-version:2021-08-06\n"
    text = "PUT" + "\n" * 12 + f"{headers}/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(_KEY), text.encode(), hashlib.sha256)).decode()
    request = Request(f"{endpoint}/{BUCKET}?restype=container", method="PUT", data=b"")  # noqa: S310 - our own server
    request.add_header("x-ms-date", now)
    request.add_header("x-ms-version", "2021-08-06")
    request.add_header("Content-Length", "0")
    request.remove_header("Content-type")
    request.add_header("Content-Type", "")
    request.add_header("Authorization", f"SharedKey {_ACCOUNT}:{signature}")
    with urlopen(request, timeout=120) as answer:  # noqa: S310
        assert answer.status == 201


@contextlib.contextmanager
def gcs(base: Path) -> Iterator[Store]:
    port = free_port()
    folder = base / "gcs"
    (folder / BUCKET).mkdir(parents=True)
    command = [_program("fake-gcs-server", "bin/fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1"]
    command += ["-port", str(port), "-backend", "filesystem", "-filesystem-root", str(folder)]
    with _serving(command, port), google.front(port) as endpoint:
        yield Store(
            f"gs://{BUCKET}/some/prefix", endpoint, {"GOOGLE_BEARER_TOKEN": "a secret of tests"}, folder / BUCKET
        )


MAKERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Store]]] = {
    "directory": directory,
    "versitygw": versitygw,
    "azurite": azurite,
    "gcs": gcs,
}


@contextlib.contextmanager
def versitygw_of_the_environment(base: Path) -> Iterator[Store]:
    """A versitygw that this process' environment has the credentials of, meanwhile."""
    with pytest.MonkeyPatch.context() as patch, versitygw(base) as one:
        for name, value in one.environment.items():
            patch.setenv(name, value)
        yield one

"""What is measured beside `listener serve`: nginx with frames as files, and Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from listener.benchmark.asking import PATIENCE, times
from listener.benchmark.servers import free_port, running, until
from listener.benchmark.verify import Unfinished

#: Seconds until a program answers.
START = 60.0

_NGINX = """
{user}
worker_processes 1; daemon off; pid {base}/nginx.pid; error_log {base}/nginx-error.log;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000; default_type image/jpeg;
  client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3; uwsgi_temp_path {base}/t4;
  scgi_temp_path {base}/t5; server {{ listen 127.0.0.1:{port}; root {base}/files; }} }}
"""

_PLUGIN = "libOrthancDicomWeb.so"


class Orthanc(NamedTuple):
    """A running Orthanc: its port, and the versions of it and its plugin."""

    port: int
    version: str


def answers(port: int, path: str) -> bool:
    """Return whether a service answers."""
    try:
        return bool(times(port, [path], {}))
    except OSError:
        return False


@contextmanager
def nginx(base: Path) -> Iterator[int]:
    """Run nginx, which serves the files of `base`/files; yield its port once it answers for the file 1."""
    port, file = free_port(), base / "nginx.conf"
    # Begun by root its worker would be somebody else, who may not read what is ours.
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    file.write_text(_NGINX.format(base=base, port=port, user=user), encoding="utf-8")
    with running(["nginx", "-c", str(file)], base / "nginx.txt") as process:
        until(lambda: answers(port, "/1"), process, START, "nginx does not answer")
        yield port


def plugin() -> Path | None:
    """Return Orthanc's plugin of DICOMweb, where it is installed beside Orthanc; None where one of them is not."""
    program = shutil.which("Orthanc")
    if not program:
        return None
    folder = Path(program).parent.parent / "share/orthanc/plugins"
    return next(iter(sorted(folder.glob(f"{_PLUGIN}*"))), None)


@contextmanager
def orthanc(base: Path, found: Path, files: Sequence[Path]) -> Iterator[Orthanc]:
    """Run Orthanc with its plugin `found` and let it hold files; yield it."""
    port, file = free_port(), base / "orthanc.json"
    told: dict[str, Any] = {
        "StorageDirectory": str(base / "orthanc"), "IndexDirectory": str(base / "orthanc"), "HttpPort": port,
        "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "KeepAlive": True, "TcpNoDelay": True, "Plugins": [str(found)],
    }  # fmt: skip
    file.write_text(json.dumps(told), encoding="utf-8")
    program = shutil.which("Orthanc") or ""
    with running([program, str(file)], base / "orthanc.txt") as process:
        until(lambda: answers(port, "/system"), process, START, "Orthanc does not answer")
        for one in files:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/instances", one.read_bytes(), PATIENCE) as answer:
                if answer.status == 200:
                    continue
            raise Unfinished("Orthanc does not take a file")
        versions = [_asked(port, path)["Version"] for path in ("/system", "/plugins/dicom-web")]
        yield Orthanc(port, f"{versions[0]} with its plugin {versions[1]}")


def _asked(port: int, path: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found

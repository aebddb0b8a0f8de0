"""A certificate authority for tests: keys and certificates as the TLS Secrets of a cluster hold them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """An authority in `folder`; `ca.crt` is its certificate."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._make("ca", "-addext", "basicConstraints=critical,CA:TRUE")

    def certify(self, name: str, *names: str) -> Path:
        """A folder with `tls.key`, `tls.crt` and `ca.crt`, for a server of these DNS names or for a client."""
        ours = ("-CA", str(self.folder / "ca.crt"), "-CAkey", str(self.folder / "ca.key"))
        alternatives = ",".join(f"DNS:{one}" for one in names or (name,))
        self._make(name, *ours, "-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=CA:FALSE")
        made = self.folder / name
        made.mkdir()
        (self.folder / f"{name}.key").rename(made / "tls.key")
        (self.folder / f"{name}.crt").rename(made / "tls.crt")
        shutil.copyfile(self.folder / "ca.crt", made / "ca.crt")
        return made

    def _make(self, name: str, *more: str) -> None:
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2"
        files = ("-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.crt"))
        subprocess.run([*command.split(), "-subj", f"/CN={name}", *files, *more], capture_output=True, check=True)

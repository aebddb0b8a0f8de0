"""Certificates of authorities that exist for one test, made by openssl as an administrator makes them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*args: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=120)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path

    def replace_by(self, other: Pair) -> None:
        """Put another pair in its place: the key first, each by a rename, as programs that renew certificates do."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            beside = mine.with_suffix(".new")
            beside.write_bytes(theirs.read_bytes())
            beside.rename(mine)


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuer of certificates."""

    folder: Path
    pair: Pair

    @property
    def cert(self) -> Path:
        return self.pair.cert

    def issue(self, name: str, days: int = 2) -> Pair:
        """A certificate for this machine, with `name` as its common name; one of less than 0 days has expired."""
        made = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, more = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("req", *_EC, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        signed = ("-CA", self.pair.cert, "-CAkey", self.pair.key, "-CAcreateserial", "-days", str(days))
        _openssl("x509", "-req", "-in", request, *signed, "-extfile", more, "-out", made.cert)
        return made


def authority(folder: Path, name: str = "authority") -> Authority:
    """A new authority, in a folder of its own."""
    home = folder / name
    home.mkdir(parents=True)
    pair = Pair(home / "ca.pem", home / "ca.key")
    constraint = ("-addext", "keyUsage=critical,keyCertSign", "-days", "2")
    _openssl("req", "-x509", *_EC, "-keyout", pair.key, "-out", pair.cert, "-subj", f"/CN={name}", *constraint)
    return Authority(home, pair)

"""Other people's Python packages, each in an environment of its own: built once, kept in a cache.

LISTENER_TEST_CACHE names the cache directory (default ~/.cache/dicom-listener-tests).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

_BUILD_SECONDS = 540


class Unreachable(Exception):
    """PyPI cannot be reached."""


def cache() -> Path:
    """Where environments are kept."""
    named = os.environ.get("LISTENER_TEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "dicom-listener-tests"


def environment(name: str, packages: list[str]) -> Path:
    """The folder of a virtual environment with these packages, built first if need be; one builder at a time."""
    folder = cache() / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}-{_key()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(folder.suffix + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _build(folder, packages)
    return folder


def sources(package: str) -> Path:
    """The folder of a package's own source distribution (NAME==VERSION), which has its tests; fetched once."""
    folder = cache() / f"{package.replace('==', '-')}-sources"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            name = package.partition("==")[0]
            _pip(sys.executable, "download", "--no-deps", "--no-binary", name, "--dest", str(folder), package)
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            (folder / "complete").touch()
    return next(path for path in folder.iterdir() if path.is_dir())


def _key() -> str:
    """A hash of this module, which makes the environments: what an older one made is not taken for its own."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def _build(folder: Path, packages: list[str]) -> None:
    """A virtual environment in place (its scripts hold its path, so it cannot be made beside and renamed)."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=_BUILD_SECONDS)
    _pip(str(folder / "bin" / "python"), "install", *packages)
    (folder / "complete").touch()


def _pip(python: str, verb: str, *words: str) -> None:
    """Let pip do something. Raises Unreachable where PyPI is."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", verb]
    command = [*pip, "--quiet", "--retries", "2", "--timeout", "15", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS)
    if done.returncode:
        told = done.stdout + done.stderr
        if "Retrying" in told or "HTTP error" in told or "ConnectionError" in told:
            raise Unreachable(f"{' '.join(words)} cannot be had: PyPI cannot be reached")
        raise AssertionError(f"pip cannot {verb} {' '.join(words)}:\n{told}")

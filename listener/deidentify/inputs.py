"""What is read at the start: the key, words that are allowed, private elements that are safe; DICOM's dictionary."""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from importlib import resources

from listener.deidentify.keys import SECRET
from listener.dicom import loading
from listener.errors import ConfigError

#: What pydicom imports if it is there.
_DECODERS = ("numpy", "PIL", "gdcm", "openjpeg", "pylibjpeg", "jpeg_ls")

_WORD = re.compile(r"[a-z0-9]+")
_SAFE = re.compile(r"([0-9A-Fa-f]{4}),\s*\"?(.+?)\"?,\s*([0-9A-Fa-f]{2})")


def new_key(path: str) -> None:
    """Make a key: 32 random bytes in a new file that its owner alone can read. Raises ConfigError if there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable_key(f"it cannot be made: {error.strerror}") from None
    # A kill before the write leaves an empty file, which no run takes as a key.
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(SECRET))
        file.flush()
        os.fsync(descriptor)


def read_key(path: str) -> bytes:
    """Return the key in a file. Raises ConfigError if there is none, or others can read it."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            secret = file.read(SECRET + 1)
    except OSError as error:
        raise _unusable_key(
            f"it cannot be read: {error.strerror}; 'listener deidentify new-key FILE' makes one"
        ) from None
    # A mounted secret belongs to root, and its group is the only way to it.
    group = stat.S_IRGRP if status.st_uid == os.geteuid() else 0
    if status.st_mode & (stat.S_IRWXO | group):
        raise _unusable_key("others can read it: chmod 600")
    if len(secret) != SECRET:
        raise _unusable_key(f"it is not {SECRET} bytes; 'listener deidentify new-key FILE' makes one")
    return secret


def read_words(paths: tuple[str, ...]) -> frozenset[str]:
    """Return the words that are shipped and those of files: any characters between them, `#` begins a comment. Raises
    ConfigError.
    """
    shipped = resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8")
    texts = [shipped, *(read_text(path) for path in paths)]
    lines = (line.partition("#")[0] for text in texts for line in text.splitlines())
    return frozenset(word for line in lines for word in _WORD.findall(line.lower()))


def read_safe_private(path: str = "") -> frozenset[tuple[str, int, int]]:
    """Return the private elements that are safe: those that are shipped and those of a file, a line each,
    `GGGG,CREATOR,EE` (group, creator, last two digits of the tag; PS3.15 table E.3.10-1). Raises ConfigError with the
    number of a line that is none.
    """
    shipped = resources.files(__package__).joinpath("safe_private.txt").read_text(encoding="utf-8")
    return _safe_private(shipped) | (_safe_private(read_text(path)) if path else frozenset())


def _safe_private(text: str) -> frozenset[tuple[str, int, int]]:
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        told = line.partition("#")[0].strip()
        match = _SAFE.fullmatch(told)
        if match and int(match[1], 16) & 1:
            found.add((match[2], int(match[1], 16), int(match[3], 16)))
        elif told:
            raise ConfigError([f"line {number} of the safe private elements is no GGGG,CREATOR,EE with an odd group"])
    return frozenset(found)


def _unusable_key(why: str) -> ConfigError:
    return ConfigError([f"the key cannot be used: {why}"])


def read_text(path: str) -> str:
    """Return the text of a file in UTF-8, without a byte order mark. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise ConfigError([f"'{os.path.basename(path)}' cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"'{os.path.basename(path)}' is not UTF-8"]) from None


def load_dictionary() -> None:
    """Load pydicom without what it decodes pixels with, which nothing here does: 34 MB where it is installed. Without
    effect where pydicom is there already.
    """
    if "pydicom" in sys.modules:
        return
    absent = [name for name in _DECODERS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        loading.load_pydicom()
    finally:
        for name in absent:
            del sys.modules[name]

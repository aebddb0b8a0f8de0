"""PURE. Turn texts of options into values: each function raises ValueError, whose text says what is wrong and what to
give; and find what was probably meant.
"""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from listener.planning.names import printable

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12}
_UNITS |= {"tb": 10**12, "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30}
_UNITS |= {"ti": 2**40, "tib": 2**40}


class HoldsSecret(ValueError):
    """A text that is not to be repeated in an error: it holds a secret that belongs into a file."""


def closest(given: str, known: Iterable[str]) -> str:
    """Return the one of `known` that was probably meant, "" if none is like it."""
    from difflib import get_close_matches  # only where something is wrong

    return next(iter(get_close_matches(given, list(known), 1)), "")


def directory(text: str) -> str:
    """Return an absolute path, whether it exists or not."""
    if not text.strip():
        raise ValueError("is empty; name a directory")
    if "\0" in text:
        raise ValueError("holds a NUL character; name a directory")
    path = os.path.abspath(text)
    if printable(path) != path:
        raise ValueError(
            f"is '{printable(path)}', which is not UTF-8: no document could name what lies there; rename it"
        )
    return path


def file(text: str) -> str:
    """Return the absolute path of a file."""
    if not text.strip() or "\0" in text:
        raise ValueError("names no file; name one")
    return os.path.abspath(text)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"is not a whole number; give one from {least} to {most}") from None
        if not least <= value <= most:
            raise ValueError(f"is out of range; give a whole number from {least} to {most}")
        return value

    return read


def seconds(least: float) -> Callable[[str], float]:
    """Return a parser of seconds, `least` or more."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"is not a number of seconds; give a number, {least:g} or more") from None
        if not least <= value < 10**9:
            raise ValueError(f"is out of range; give seconds, {least:g} or more")
        return value

    return read


def quiet(text: str) -> tuple[str, float]:
    """Return the modality ("" for any) and the seconds of SECONDS or MODALITY=SECONDS."""
    modality, equals, number = text.rpartition("=")
    if equals and not re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality):
        raise ValueError("has no modality before '='; give one such as CT=5")
    return modality, seconds(0)(number)


def size(least: int) -> Callable[[str], int]:
    """Return a parser of sizes, `least` bytes or more, with an optional unit: 64MiB, 1GB, 4096."""

    def read(text: str) -> int:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
        if not match or match[2].lower() not in _UNITS:
            raise ValueError("is not a size; give bytes or a unit, such as 64MiB or 1GB")
        value = float(match[1]) * _UNITS[match[2].lower()]
        if value < least:
            raise ValueError(f"is too small; give {least} bytes or more")
        if value >= 2**63:
            raise ValueError("is too large; give less than 8 EiB")
        return int(value)

    return read


@dataclass(frozen=True)
class Choice:
    """A parser that accepts one of `words`."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """Return the text."""
        if text not in self.words:
            raise ValueError(f"is not known; give one of {', '.join(self.words)}")
        return text


def choice(*words: str) -> Choice:
    """Return a parser that accepts one of `words`."""
    return Choice(words)


def boolean(text: str) -> bool:
    """Return the value of on/off, true/false, yes/no or 1/0."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("is neither on nor off; give true or false")


def page(text: str) -> str:
    """Return on, off or phi; on and off as boolean() takes them."""
    if text.strip().lower() == "phi":
        return "phi"
    try:
        return "on" if boolean(text) else "off"
    except ValueError:
        raise ValueError("is neither on, off nor phi; give one of these") from None


def url(text: str) -> str:
    """Return a URL to post to, or "" for none."""
    problem = "is not a URL; give one such as https://host/path"
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # brackets that are not closed, a port that is none
        raise ValueError(problem) from None
    if text and not (whole and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(problem)
    if parts.username is not None:
        raise HoldsSecret("holds a name or a password; sign with --hook-secret-file instead")
    return text


def file_or_url(text: str) -> str:
    """Return a web address as url() does, or else a path as file() does. Raises ValueError."""
    return url(text) if text.startswith(("http://", "https://")) else file(text)


def _is_host(name: str) -> bool:
    """Return whether a name can be looked up: its labels have 1 to 63 characters (RFC 1035, section 2.3.4)."""
    return all(1 <= len(label) <= 63 for label in name.removesuffix(".").split("."))


def words(text: str) -> str:
    """Return a command that splits into words as a shell splits them, or "" for none."""
    try:
        shlex.split(text)
    except ValueError:
        raise ValueError("cannot be split into words; close every quote") from None
    if "\0" in text or (text and not text.strip()):
        raise ValueError("names no program; give a command, such as 'notify --quiet'")
    return text


def ae_title(text: str) -> str:
    """Return an application entity title without its outer blanks (PS3.5 section 6.2, VR AE)."""
    title = text.strip(" ")
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("is not an AE title; give 1 to 16 characters of ASCII without backslashes")
    return title


def mode(text: str) -> int:
    """Return permission bits from octal digits: 0644, 0o2775."""
    digits = text.lower().removeprefix("0o")
    if not re.fullmatch(r"[0-7]{3,5}", digits):
        raise ValueError("is not an octal mode; give one such as 0640")
    value = int(digits, 8)
    if value > 0o7777:
        raise ValueError("is not an octal mode; give one such as 0640")
    return value


#: sun_path of unix(7), without its last NUL.
_LONGEST_SOCKET = 107


def address(text: str) -> str:
    """Return ADDR:PORT ([::]:9464 for IPv6), unix:PATH with an absolute path, or "off"."""
    if text == "off":
        return text
    if text.startswith("unix:"):
        path = file(text.removeprefix("unix:"))
        if len(path.encode(errors="surrogateescape")) > _LONGEST_SOCKET:
            raise ValueError(f"is too long for a socket; give a path of at most {_LONGEST_SOCKET} bytes")
        return f"unix:{path}"
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        examples = "0.0.0.0:9464, 127.0.0.1:0 (any free port), unix:/run/listener/http"
        raise ValueError(f"is not ADDR:PORT; give one such as {examples}, or off")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("has an IPv6 address without brackets; give one such as [::]:9464")
    return f"{host or '0.0.0.0'}:{port}"  # noqa: S104 - every address, as asked for by ':PORT'


def template(text: str) -> str:
    """Return a path template in pypx's language, in which `/` makes directories."""
    from listener.dicom.attributes import is_keyword
    from listener.planning.template import TemplateError, compile_template

    if not text or text.startswith("/") or text.endswith("/") or "//" in text:
        raise ValueError("is not a relative path; give components divided by single slashes")
    try:
        for part in text.split("/"):
            compile_template(part, is_keyword)
    except TemplateError as error:
        raise ValueError(f"is not a template: {error}") from None
    return text

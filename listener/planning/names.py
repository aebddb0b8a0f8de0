"""PURE. Names and times in writing: path components of the tree, names of documents, instants."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

#: Longest path component in bytes (NAME_MAX is 255; `.dcm.json` and hash suffixes must still fit).
MAX_COMPONENT = 200

#: Our private directory inside a user's directory; rescans and readers skip it.
OWN = ".listener"

_UNSAFE = re.compile(r"[^A-Za-z0-9.\-]+")
#: Printable ASCII: pypx's programs look a patient up under the raw PatientID, spaces and all.
_PRINTABLE_DOCUMENT = re.compile(r"[ -.0-~]{1,200}")
#: Without the characters that file systems of other systems reject, and `/`.
_SAFE_DOCUMENT = re.compile(r'(?:(?![/:*?"<>|])[ -~]){1,200}')


def short_hash(text: str, digits: int = 8) -> str:
    """Return the first hexadecimal `digits` of a hash of `text`; must never change, since names on disk contain it."""
    from hashlib import blake2b  # It loads OpenSSL, for names that are too long or strange.

    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()[:digits]


def sanitize(text: str, limit: int = MAX_COMPONENT) -> str:
    """Return `text` as one path component: runs of anything but [A-Za-z0-9.-] become `_` (the rule of pypx and
    rx-repack); never `.`, `..`, empty, `.listener`, or longer than `limit` bytes (then cut, with a hash of the whole).
    """
    safe = _UNSAFE.sub("_", text.replace("\0", ""))
    if len(safe) > limit:
        return f"{safe[: limit - 9]}-{short_hash(text)}"
    if not safe.strip("."):
        return "_" * max(1, len(safe))
    return "_listener" if safe == OWN else safe


@lru_cache(maxsize=2048)
def document_name(text: str) -> str:
    """Return the stem of a document's file name: `text` itself where it is safe, else sanitised with a hash of the raw
    text, so that `A/B` and `A_B` never share a document.

    Safe are 1 to 200 printable ASCII characters without `/ : * ? " < > |`, the first of them no dot.
    """
    if _SAFE_DOCUMENT.fullmatch(text) and not text.startswith("."):
        return text
    safe = _UNSAFE.sub("_", text.replace("\0", "")).lstrip(".")[: MAX_COMPONENT - 9]
    return f"{safe or '_'}-{short_hash(text)}"


def former_document_name(text: str) -> str:
    """Return the stem that versions up to 0.1 and px-repack use for a document whose name differs now, "" if none."""
    is_former = _PRINTABLE_DOCUMENT.fullmatch(text) and not text.startswith(".") and document_name(text) != text
    return text if is_former else ""


def printable(path: str) -> str:
    r"""Return a path or name as valid text: bytes that are not UTF-8 become `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def folded(text: str) -> str:
    """Return a text without case and accents, for searching."""
    if text.isascii():
        return text.casefold()
    import unicodedata  # A megabyte that most installations never need.

    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character)).casefold()


def is_temporary(name: str) -> bool:
    """Return whether a file has a temporary name (a dot file, `.part`, `.tmp`): its writer will rename it."""
    return name.startswith(".") or name.endswith((".part", ".tmp"))


def instant(nanoseconds: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 text: UTC, microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")

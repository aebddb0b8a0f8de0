"""PURE. Names and times as they are written: components of the tree, names of documents, instants."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

#: Longest component of a path that we make, in bytes (NAME_MAX is 255; `.dcm.json` and hash suffixes must still fit).
MAX_COMPONENT = 200

#: Our own directory inside a directory of the user's: sweeps and readers leave it alone.
OWN = ".listener"

_UNSAFE = re.compile(r"[^A-Za-z0-9.\-]+")
#: Printable ASCII: pypx's programs look a patient up under the raw PatientID, spaces and all.
_PRINTABLE_DOCUMENT = re.compile(r"[ -.0-~]{1,200}")
#: What other systems' file systems cannot hold (and `/`, which none can) is not kept.
_SAFE_DOCUMENT = re.compile(r'(?:(?![/:*?"<>|])[ -~]){1,200}')


def short_hash(text: str, digits: int = 8) -> str:
    """The first hexadecimal `digits` of a hash of `text`; stable for ever, since names on disk hold it."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()[:digits]


def sanitize(text: str, limit: int = MAX_COMPONENT) -> str:
    """One path component: runs of anything but [A-Za-z0-9.-] become `_` (pypx's and rx-repack's rule); never `.`, `..`,
    empty, our own directory's name, or longer than `limit` bytes (then cut, with a hash of the whole).
    """
    safe = _UNSAFE.sub("_", text.replace("\0", ""))
    if len(safe) > limit:
        return f"{safe[: limit - 9]}-{short_hash(text)}"
    if not safe.strip("."):
        return "_" * max(1, len(safe))
    return "_listener" if safe == OWN else safe


@lru_cache(maxsize=2048)
def document_name(text: str) -> str:
    """The stem of a document's file name: `text` itself where it is safe, else sanitised with a hash of the raw text,
    so that `A/B` and `A_B` never share a document.

    Safe is: 1 to 200 characters of printable ASCII without any of `/ : * ? " < > |`, the first of them no dot.
    """
    if _SAFE_DOCUMENT.fullmatch(text) and not text.startswith("."):
        return text
    safe = _UNSAFE.sub("_", text.replace("\0", "")).lstrip(".")[: MAX_COMPONENT - 9]
    return f"{safe or '_'}-{short_hash(text)}"


def former_document_name(text: str) -> str:
    """The stem under which versions up to 0.1 and px-repack keep a document that has another name now, "" if none."""
    is_former = _PRINTABLE_DOCUMENT.fullmatch(text) and not text.startswith(".") and document_name(text) != text
    return text if is_former else ""


def printable(path: str) -> str:
    r"""A path or name as valid text: bytes that are not UTF-8 as `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_temporary(name: str) -> bool:
    """Whether a file's writer has not given it its final name yet (a dot file, `.part`, `.tmp`)."""
    return name.startswith(".") or name.endswith((".part", ".tmp"))


def instant(nanoseconds: int) -> str:
    """RFC 3339, UTC, microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")

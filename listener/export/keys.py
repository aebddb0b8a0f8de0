"""PURE. Names of objects: where below the target's prefix an instance, an archive, a manifest or a table lies.

In a key stand letters, digits, `-`, `_` and `.` of ASCII as they are, and `/` between components; every other byte of
UTF-8 is written `=XX`. So no store, shell or URL has to quote anything, and two names never have one key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from listener.planning.names import short_hash

#: Longest key in bytes, prefix included: S3 and Google Storage allow 1,024 bytes, Azure 1,024 characters.
LONGEST = 1024

#: Longest component in bytes: a directory's entry has at most 255, and a name in conflict gets 9 more.
COMPONENT = 240

DATA, ARCHIVES, MANIFESTS, TABLES = "data", "archives", "manifests", "parquet"

#: `~` and 8 digits: what is put behind a key that other content has already.
_CONFLICT = 9

_ODD = re.compile(rb"[^A-Za-z0-9._-]")


def escaped(name: str) -> str:
    """Return one component of a path as one component of a key."""
    raw = name.encode("utf-8", "surrogateescape")
    text = _ODD.sub(lambda match: b"=%02X" % match[0][0], raw).decode("ascii")
    return f"=2E{text[1:]}" if text.strip(".") == "" and text else text


def unescaped(component: str) -> str:
    """Return the name that escaped() was given, unless that was cut."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), component.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


def key_of(parts: Sequence[str], prefix: str = "") -> str:
    """Return the key of a path given by its components; one that would be too long ends with a hash of the whole."""
    key = "/".join(_cut(escaped(part)) for part in parts)
    room = LONGEST - len(prefix.encode("utf-8")) - _CONFLICT
    if len(key) <= room:
        return key
    first, last = key.partition("/")[0], key.rpartition("/")[2]
    return f"{first}/{short_hash(key, 32)}/{last[-(room - len(first) - 34) :]}"


def _cut(component: str) -> str:
    if len(component) <= COMPONENT:
        return component
    return f"{component[: COMPONENT - 17]}-{short_hash(component, 16)}"


def of_path(path: str, prefix: str = "") -> str:
    """Return the key of an instance by its path below the data directory."""
    return key_of((DATA, *path.split("/")), prefix)


def of_uids(study: str, series: str, instance: str, prefix: str = "") -> str:
    """Return the key of an instance by its UIDs."""
    return key_of((DATA, study, series, f"{instance}.dcm"), prefix)


def of_manifest(study: str, series: str, generation: int) -> str:
    """Return the key of the manifest of a generation of a series."""
    return key_of((MANIFESTS, study, f"{series}-g{generation}.ndjson"))


def of_archive(study: str, name: str, generation: int, volume: int, suffix: str) -> str:
    """Return the key of an archive; `volume` counts from 1 where there are several, and is 0 where there is one."""
    number = f"-{volume}" if volume else ""
    return key_of((ARCHIVES, study, f"{name}-g{generation}{number}{suffix}"))


def of_table(day: str, content: str) -> str:
    """Return the key of a part of the table, of a day (YYYY-MM-DD) and with a hash of what is in it."""
    return f"{TABLES}/day={day}/{content}.parquet"


def in_conflict(key: str, sha256: str) -> str:
    """Return the key for content whose own key has another content."""
    return f"{key}~{sha256[:8]}"

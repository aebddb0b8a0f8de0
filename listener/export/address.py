"""PURE. Where an export goes: what --to says."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from listener.parse import HoldsSecret

#: Schemes of object stores, by their plain names.
STORES = ("s3", "gs", "az")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}")


class Address(NamedTuple):
    """A target: its scheme (one of STORES, or "file"), bucket (container), and the prefix of keys; of a directory its
    path.
    """

    scheme: str
    bucket: str
    path: str

    @property
    def shown(self) -> str:
        """Return the address as people read it."""
        return (
            self.path
            if self.scheme == "file"
            else "/".join(filter(None, (f"{self.scheme}://{self.bucket}", self.path)))
        )


def parse(text: str) -> Address:
    """Return the address that a text says; ValueError tells what is wrong and what to give."""
    if not text.strip() or "\0" in text:
        raise ValueError("names no target; give s3://BUCKET/PREFIX, gs://, az:// or a directory")
    if "://" not in text:
        return Address("file", "", text)
    try:
        parts = urlsplit(text)
        has_user = parts.username is not None
    except ValueError:
        raise ValueError("is not a URL; give one such as s3://bucket/prefix") from None
    if has_user:  # It would be in ps, and in every message.
        raise HoldsSecret("holds a name or a password; credentials come from the environment, files or the machine")
    if parts.query or parts.fragment or "?" in text or "#" in text:  # Such as a signature.
        raise HoldsSecret("has a query or a fragment; give a bucket and a prefix only")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("names another machine; give file:///DIR")
        return Address("file", "", unquote(parts.path))
    if parts.scheme not in STORES:
        raise ValueError(f"has the unknown scheme '{parts.scheme}'; give one of s3, gs, az and file")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("names no bucket; give one such as s3://bucket/prefix")
    return Address(parts.scheme, parts.netloc, _prefix(parts.path))


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    components = prefix.split("/") if prefix else []
    if any(part in ("", ".", "..") for part in components):
        raise ValueError("has a prefix with '.', '..' or an empty part; give plain names divided by single slashes")
    if not re.fullmatch(r"[A-Za-z0-9/._=-]{0,400}", prefix):
        raise ValueError("has a prefix with other characters than letters, digits and /._=- (or one of more than 400)")
    return prefix

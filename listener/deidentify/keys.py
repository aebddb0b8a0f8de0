"""PURE. Derive UIDs, pseudonyms and shifts of dates from one secret, so that they are the same everywhere and always.

Each use has a key of its own, made by HMAC-SHA256 of its name under the secret. Without the secret nobody can tell
which original a derived value has, nor try out originals.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode
from functools import lru_cache
from uuid import UUID

#: Bytes of the secret.
SECRET = 32

#: UIDs that DICOM itself assigns begin so: they say what something is, not which.
STANDARD = "1.2.840.10008"

_PSEUDONYM = 12


class Keys:
    """Derives values from a secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._uid, self._identifier, self._shift = (_of(secret, name) for name in (b"uid", b"identifier", b"shift"))
        #: What tells two secrets apart, and nothing of either.
        self.fingerprint = _of(secret, b"fingerprint").hex()[:16]
        self.uid = lru_cache(maxsize=65536)(self._derive_uid)

    def __reduce__(self) -> tuple[type[Keys], tuple[bytes]]:
        """Travel to another process as the secret alone."""
        return Keys, (self._secret,)

    def _derive_uid(self, original: str) -> str:
        """Return the UID that stands for `original`: 2.25 and a version 8 UUID (RFC 9562); those of DICOM stay."""
        if is_standard(original):
            return original
        digest = bytearray(_of(self._uid, original.encode())[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{UUID(bytes=bytes(digest)).int}"

    def uuid(self, original: str) -> UUID:
        """Return a version 8 UUID that stands for a text."""
        digest = bytearray(_of(self._identifier, b"uuid\0" + original.encode())[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return UUID(bytes=bytes(digest))

    def pseudonym(self, letter: str, original: str) -> str:
        """Return `letter` and 12 characters of base32 (60 bits) for an identifier. Letters are uses: the same original
        has another pseudonym under another letter.
        """
        digest = _of(self._identifier, f"{letter}\0{original}".encode())
        return letter + b32encode(digest)[:_PSEUDONYM].decode()

    def shift(self, patient: str, most: int) -> int:
        """Return by how many whole days the dates of a patient go back: 1 to `most`."""
        return 1 + int.from_bytes(_of(self._shift, patient.encode())[:8], "big") % most


def is_standard(uid: str) -> bool:
    """Return whether a UID is one that DICOM assigns (PS3.6 annex A), not one of an instance."""
    return uid.startswith(f"{STANDARD}.") and uid.replace(".", "").isascii() and uid.replace(".", "").isdigit()


def _of(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)

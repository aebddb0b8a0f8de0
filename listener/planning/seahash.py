"""PURE. SeaHash, the hash of which pypx and rx-repack put 7 digits into the name of a series, and by which a backfill
is divided; of one text, and of many at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_PRIME = 0x6EED_0E9D_A4D9_4A4F
_SEEDS = (0x16F1_1FE8_9B0D_677C, 0xB480_A793_D8E6_C86C, 0x6FE2_E5AA_F078_EBC9, 0x14F9_94A4_C525_9381)

#: Bytes that are taken in at a time.
_WORD = 8


def seahash(data: bytes) -> int:
    """Return the SeaHash of `data`, from 0 to 2**64 - 1."""
    a, b, c, d = _SEEDS
    for start in range(0, len(data), _WORD):
        word = int.from_bytes(data[start : start + _WORD], "little")
        a, b, c, d = b, c, d, _diffuse(a ^ word)
    return _diffuse(a ^ b ^ c ^ d ^ len(data))


def _diffuse(x: int) -> int:
    """Spread every bit of `x` over all 64 (an invertible step)."""
    x = x * _PRIME & _MASK
    x ^= (x >> 32) >> (x >> 60)
    return x * _PRIME & _MASK


def seahash_hex(text: str) -> str:
    """Return the SeaHash of a text in UTF-8, in hexadecimal *without* leading zeros; pypx and rx-repack use 7 digits of
    it.

    Surrogates (bytes that could not be decoded) are hashed as they are; pypx crashes on them.
    """
    return f"{seahash(text.encode('utf-8', 'surrogatepass')):x}"


def seahashes(texts: Sequence[bytes]) -> list[int]:
    """Return the SeaHash of each of these texts, which are best of about one length: a third of the time of one by one
    for names of 60 bytes, at 1,000 a call.
    """
    hashes = [0] * len(texts)
    by_words: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        by_words.setdefault(-(-len(text) // _WORD), []).append(index)
    for words, indices in by_words.items():
        for index, value in zip(indices, _of_one_length([texts[one] for one in indices], words), strict=True):
            hashes[index] = value
    return hashes


def _of_one_length(texts: Sequence[bytes], words: int) -> Sequence[int]:
    """Return the SeaHash of texts that all have this number of words."""
    lanes = _Lanes(len(texts))
    padded = b"".join([text.ljust(words * _WORD, b"\0") for text in texts])
    numbers = Struct(f"<{words * len(texts)}Q").unpack(padded)
    a, b, c, d = map(lanes.all, _SEEDS)
    for word in range(words):
        a, b, c, d = b, c, d, lanes.diffuse(a ^ lanes.join(numbers[word::words]))
    return lanes.split(lanes.diffuse(a ^ b ^ c ^ d ^ lanes.join([len(text) for text in texts])))


class _Lanes:
    """Arithmetic on many 64-bit numbers at once: they lie side by side in one integer, each in a lane of 128 bits, in
    which a product of two has room. So the interpreter takes one step for all of them.
    """

    def __init__(self, count: int) -> None:
        self._layout = Struct("<" + "Q8x" * count)
        self._ones = self.join([1] * count)
        self._low64 = self.all(_MASK)
        self._low32 = self.all(_MASK >> 32)
        self._low4 = self.all(15)

    def join(self, numbers: Sequence[int]) -> int:
        """Return an integer with one of these numbers in each lane."""
        return int.from_bytes(self._layout.pack(*numbers), "little")

    def split(self, joined: int) -> Sequence[int]:
        """Return the number in each lane."""
        return self._layout.unpack(joined.to_bytes(self._layout.size, "little"))

    def all(self, number: int) -> int:
        """Return an integer with this number in every lane."""
        return self._ones * number

    def diffuse(self, x: int) -> int:
        """Return what _diffuse makes of every lane."""
        x = x * _PRIME & self._low64
        high, shifts = x >> 32 & self._low32, x >> 60 & self._low4
        for bit in range(4):  # A lane whose shift has this bit is shifted by its value; the others stay.
            chosen = (shifts >> bit & self._ones) * (_MASK >> 32)
            high ^= (high ^ high >> (1 << bit)) & chosen
        return (x ^ high) * _PRIME & self._low64

"""PURE. SeaHash, the 64-bit hash in the names of series directories; it must never change.

The algorithm is the public reference (crate `seahash`, version 3 and later, default seeds): four lanes take eight bytes
of input each in turn (little endian, the last ones padded with zero bytes), every lane is diffused as it takes them,
and the length is mixed in at the end. PyPI's `seahash` 0.2.0, which pypx 3.12 uses, gives the same numbers.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_PRIME = 0x6EED_0E9D_A4D9_4A4F
_SEEDS = (0x16F1_1FE8_9B0D_677C, 0xB480_A793_D8E6_C86C, 0x6FE2_E5AA_F078_EBC9, 0x14F9_94A4_C525_9381)


def seahash(data: bytes) -> int:
    """The hash of `data`, from 0 to 2**64 - 1."""
    a, b, c, d = _SEEDS
    for start in range(0, len(data), 8):
        chunk = int.from_bytes(data[start : start + 8], "little")
        a, b, c, d = b, c, d, _diffuse(a ^ chunk)
    return _diffuse(a ^ b ^ c ^ d ^ len(data))


def seahash_hex(text: str) -> str:
    """The hash of a text in UTF-8, in hexadecimal *without* padding zeros; pypx and rx-repack take 7 digits of it.

    Surrogates (bytes that could not be decoded) are hashed as they are; pypx dies of them.
    """
    return f"{seahash(text.encode('utf-8', 'surrogatepass')):x}"


def _diffuse(x: int) -> int:
    """Spread every bit of `x` over all 64 (an invertible step)."""
    x = x * _PRIME & _MASK
    x ^= (x >> 32) >> (x >> 60)
    return x * _PRIME & _MASK

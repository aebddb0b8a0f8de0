"""PURE. How long native pixel data must be (PS3.3 section C.7.6.3, PS3.5 section 8.1)."""

from __future__ import annotations

from functools import lru_cache

SAMPLES = 0x00280002
PHOTOMETRIC = 0x00280004
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS = 0x00280100

#: The attributes that decide, in the order in which least_length takes their values.
TAGS = (SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, BITS)

#: Chroma of every second pixel is left out: two samples a pixel instead of three.
_HALVED = frozenset((b"YBR_FULL_422", b"YBR_PARTIAL_422"))
#: And of three of four.
_QUARTERED = b"YBR_PARTIAL_420"

_FRAMES_DIGITS = 12


@lru_cache(maxsize=256)
def least_length(values: tuple[bytes, ...], little: bool) -> int:
    """Bytes that native pixel data must have at least, 0 when these raw values (b"" where absent) do not tell."""
    photometric, frames = (values[TAGS.index(tag)].strip(b" \0") for tag in (PHOTOMETRIC, FRAMES))
    samples, rows, columns, bits = (
        int.from_bytes(values[TAGS.index(tag)], "little" if little else "big") for tag in (SAMPLES, ROWS, COLUMNS, BITS)
    )
    if photometric in _HALVED:
        samples = 2
    elif photometric == _QUARTERED or not samples:
        samples = 1
    count = int(frames) if frames.isdigit() and len(frames) <= _FRAMES_DIGITS else int(not frames)
    # frames of single bits are packed without a gap (PS3.5 section 8.1.1)
    return (rows * columns * samples * bits * count + 7) // 8

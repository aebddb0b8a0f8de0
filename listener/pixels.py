"""PURE. How long native pixel data must be (PS3.3 section C.7.6.3, PS3.5 section 8.1)."""

from __future__ import annotations

from collections.abc import Mapping

SAMPLES = 0x00280002
PHOTOMETRIC = 0x00280004
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS = 0x00280100

#: The attributes that decide.
TAGS = frozenset({SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, BITS})

#: Chroma of every second pixel is left out: two samples a pixel instead of three.
_HALVED = (b"YBR_FULL_422", b"YBR_PARTIAL_422", b"YBR_PARTIAL_420")


def least_length(values: Mapping[int, bytes], *, little: bool) -> int:
    """Bytes that the pixel data must have at least, 0 when these raw values do not tell."""

    def number(tag: int, missing: int = 0) -> int:
        return int.from_bytes(values[tag], "little" if little else "big") if len(values.get(tag, b"")) == 2 else missing  # noqa: PLR2004  a US

    photometric = values.get(PHOTOMETRIC, b"").strip(b" \0")
    samples = 1 if photometric.startswith(_HALVED[2]) else 2 if photometric in _HALVED else number(SAMPLES, 1)
    frames = values.get(FRAMES, b"1").strip(b" \0")
    bits = number(ROWS) * number(COLUMNS) * samples * number(BITS)
    return (bits * int(frames) + 7) // 8 if frames.isdigit() and len(frames) < 12 else 0  # noqa: PLR2004  an IS

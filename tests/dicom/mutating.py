"""The test files of pydicom, and mutations of files."""

from __future__ import annotations

import random
from pathlib import Path

import pydicom

ROOT = Path(pydicom.__file__).parent / "data"


FILES = sorted(
    path
    for folder in ("test_files", "charset_files", "palettes")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix not in {".py", ".pyc", ".json", ".txt", ".md"}
)


INTERESTING = (
    b"\xff\xff\xff\xff",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\0" * 64,
    b"\xff\xff\xff\x7f",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xe0\x7f\x10\x00",
    b"\x10\x00\x20\x00LO\x04\x00",
    b"\x1b$B",
    b"DICM",
)


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        # most of what matters stands early
        at = min(int(chance.expovariate(4 / (len(data) + 1))), max(len(data) - 1, 0))
        match chance.randrange(8):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                del data[at : at + chance.randrange(1, 40)]
            case 3:
                piece = chance.choice(INTERESTING)
                data[at : at + len(piece)] = piece
            case 4:
                data[at:at] = chance.choice(INTERESTING)
            case 5:
                data[at:at] = data[at : at + chance.randrange(400)] * chance.randrange(1, 20)
            case 6:
                del data[at:]
            case 7:
                other = chance.choice(seeds)
                start = chance.randrange(len(other))
                data[at : at + 50] = other[start : start + chance.randrange(500)]
    return bytes(data)

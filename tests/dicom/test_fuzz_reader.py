"""Mutated files: each gets one outcome, within a second, and whatever text comes out can be written as JSON.

LISTENER_TEST_FUZZ=20000 tries that many; LISTENER_TEST_SEED another choice of them.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from listener.dicom.attributes import USUAL, Limits
from listener.dicom.reader import Wanted, check_uids, read_elements, read_header
from listener.errors import SET_ASIDE_REASONS, FileFault
from tests.dicom.test_reader_differential import FILES
from tests.instances import descriptor, instance, save

COUNT = int(os.environ.get("LISTENER_TEST_FUZZ", "2000"))
SEED = int(os.environ.get("LISTENER_TEST_SEED", "1"))

#: A mutation rarely does something to a file that is all pixels.
LARGEST = 100_000

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


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("seeds") / "one"
    made = [
        save(instance(transfer_syntax=syntax, number=number), path).read_bytes()
        for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
        for number in range(5)
    ]
    return made + [file.read_bytes() for file in FILES if file.stat().st_size < LARGEST]


@pytest.mark.fuzz
@pytest.mark.timeout(600)
def test_mutated_files(seeds: list[bytes], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    wanted = Wanted(tuple(sorted(USUAL)))
    outcomes: Counter[str] = Counter()
    for number in range(COUNT):
        data = mutated(chance, seeds)
        begun = time.process_time()
        try:
            outcomes[outcome(data, wanted)] += 1
        except Exception:
            (tmp_path / "culprit.dcm").write_bytes(data)
            raise
        took = time.process_time() - begun
        assert took < 1, f"mutation {number} of seed {SEED} took {took:.1f} s"
    assert outcomes["read"] > COUNT / 20
    assert outcomes.keys() <= {"read", *SET_ASIDE_REASONS}
    print(dict(outcomes))


def outcome(data: bytes, wanted: Wanted) -> str:
    limits = Limits(max_header=1_000_000, max_depth=16)
    with descriptor(data) as (fd, size):
        try:
            header = read_header(fd, size, wanted, limits)
            assert orjson.dumps(dict(header.values))
            assert all(text and "\0" not in text for text in header.values.values())
            assert not header.values.keys() & header.empty
            # what was remembered of earlier files changes nothing
            assert header == read_header(fd, size, Wanted(wanted.keywords), limits)
            assert orjson.dumps(read_elements(fd, size, limits))
            check_uids(header)
        except FileFault as fault:
            return fault.reason
    return "read"

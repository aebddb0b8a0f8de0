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
from listener.reasons import SET_ASIDE_REASONS, FileFault
from tests.dicom.mutating import FILES, mutated
from tests.instances import descriptor, instance, save

COUNT = int(os.environ.get("LISTENER_TEST_FUZZ", "2000"))
SEED = int(os.environ.get("LISTENER_TEST_SEED", "1"))


#: A mutation rarely does something to a file that is all pixels.
LARGEST = 100_000


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
@pytest.mark.timeout(1800)
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

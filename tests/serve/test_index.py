"""The index of series in one process, with a look-up in the ledger that is counted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.serve import index as module
from listener.serve.faults import NotFound
from listener.serve.index import Index, Lookup, Places
from tests.frames.collection import Collection

pytestmark = pytest.mark.real

ABOUT = ("1.2.3", "1.2.3.1")


class Counted(Index):
    """An index that counts look-ups, and waits with them until it may go on."""

    def __init__(self, collection: Collection, told: list[Lookup]) -> None:
        places = Places(str(collection.data), collection.state, str(Path(collection.state, "serve")), "http://x")
        super().__init__(places, told.append, only_complete=False)
        self.looked = 0

    def look_up(self, study: str, uid: str) -> Any:
        self.looked += 1
        return super().look_up(study, uid)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Counted]:
    with contextlib.closing(Collection(tmp_path)) as collection:
        collection.slide(3)
        yield Counted(collection, [])


def age(index: Counted, seconds: float) -> None:
    """Let what is known of the series be so old."""
    index._opened[ABOUT] = (time.monotonic() - seconds, index._opened[ABOUT][1])


def test_a_series_is_looked_up_once_however_many_ask(index: Counted) -> None:
    async def ask() -> None:
        first, *others = await asyncio.gather(*(index.series(*ABOUT) for _ in range(16)))
        assert index.looked == 1
        assert all(one.key == first.key for one in others)
        age(index, module._FRESH)
        await asyncio.gather(*(index.series(*ABOUT) for _ in range(16)))
        assert index.looked == 2
        await index.stop()

    asyncio.run(ask())


def test_nobody_waits_for_a_look_at_what_was_looked_up_lately(index: Counted) -> None:
    async def ask() -> None:
        opened = await index.series(*ABOUT)
        age(index, module._AGEING)
        before = index._opened[ABOUT][0]
        waiting = index.series(*ABOUT)
        with pytest.raises(StopIteration) as ended:  # It did not wait for anything.
            waiting.send(None)
        assert ended.value.value is opened
        await asyncio.gather(*index._looking.values())
        assert index.looked == 2
        assert before < index._opened[ABOUT][0] <= time.monotonic()
        await index.stop()

    asyncio.run(ask())


def test_what_is_not_there_is_told_to_all_who_ask(index: Counted) -> None:
    async def ask() -> None:
        found = await asyncio.gather(*(index.series("1.2.3", "9.9") for _ in range(4)), return_exceptions=True)
        assert [type(one) for one in found] == [NotFound] * 4
        assert (index.looked, index._looking) == (1, {})
        await index.stop()

    asyncio.run(ask())

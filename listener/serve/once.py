"""Index what is there, and leave: the word once."""

from __future__ import annotations

import asyncio

from listener.serve.ahead import Ahead
from listener.serve.http_server import Setup
from listener.serve.index import Index, Places


def fill(setup: Setup) -> int:
    """Make the catalogue of all series, and documents of those that are complete, as far as the index has space for
    them. Return how many series could not be indexed. Raises FatalFault, LedgerFault.
    """
    return asyncio.run(_fill(setup))


async def _fill(setup: Setup) -> int:
    places = Places(setup.data, setup.state, setup.folder, setup.base)
    index = Index(places, lambda lookup: ahead.grew(lookup.bytes), only_complete=setup.options.only_complete)
    ahead = Ahead(index, setup.options.index_space, documents=True)
    index.catalogue.make()
    try:
        while not ahead.is_done:
            await ahead.step()
    finally:
        await ahead.stop()
        await index.stop()
    return ahead.failed

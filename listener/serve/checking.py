"""Will it serve? One line a finding, with its remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator

from listener.errors import FatalFault, LedgerFault
from listener.ledger.reader import reading
from listener.serve.catalogue import Catalogue
from listener.serve.http_server import index_folder, is_any
from listener.serve.options import ServeOptions
from listener.telemetry.access import read_tokens
from listener.telemetry.binding import listen

#: Whether it works, and what to know or do.
Finding = tuple[bool, str]


def findings(data: str, state: str, options: ServeOptions) -> Iterator[Finding]:
    """Yield what was found; makes the index, if it is not there."""
    yield _ledger(state)
    yield _data(data)
    yield _index(state, options)
    yield _address(options)
    if options.token_file:
        tokens, problems = read_tokens(options.token_file)
        named = sorted({token.name for token in tokens})
        yield not problems, f"--token-file: {'; '.join(problems) or 'who may read: ' + ', '.join(named)}"
    elif options.no_token:
        yield True, "--no-token: everybody may read who can connect"
    if not options.public_url and is_any(options.dicomweb):
        yield False, "--public-url: give the address that clients use; metadata name that of bulk data"


def _ledger(state: str) -> Finding:
    try:
        with reading(state) as reader:
            reader.counts()
    except LedgerFault as fault:
        return False, f"the ledger cannot be read: {fault}"
    return True, "the ledger can be read"


def _data(data: str) -> Finding:
    try:
        with os.scandir(data) as entries:
            next(entries, None)
    except OSError as error:
        return False, f"--data: '{data}' cannot be read ({error.strerror}): see its owner, mode and mount"
    return True, "--data: can be read"


def _index(state: str, options: ServeOptions) -> Finding:
    folder = index_folder(state, options)
    try:
        Catalogue(os.path.join(folder, "catalogue.sqlite"), state, only_complete=False).make()
    except FatalFault as fault:
        return False, f"--index: {fault}"
    return True, f"--index: '{folder}' can be written"


def _address(options: ServeOptions) -> Finding:
    try:
        listen(options.dicomweb, 1).close()
    except FatalFault as fault:
        return False, f"--dicomweb: {fault}"
    return True, f"--dicomweb: {options.dicomweb} can be listened on"

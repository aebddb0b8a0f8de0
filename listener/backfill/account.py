"""The account of a part, `<state>/parts/<name>/account.json`: written last of all, in one step, when the part has
ended. While it runs `live` beside it says how far it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

import listener
from listener.backfill import journal
from listener.backfill.journal import Ends
from listener.backfill.listing import Names
from listener.backfill.parts import KINDS, Part
from listener.disk import files, json_file
from listener.planning.names import instant, sanitize
from listener.status import snapshot

SCHEMA = 1

#: Names below the state directory, and in a part's own.
PARTS, ACCOUNT, ABOUT = "parts", "account.json", "part.json"


class About(NamedTuple):
    """What a part is, from its first start on: when it began, and the digest of its list ("": incoming is listed)."""

    begun: str
    digest: str = ""


def folder_of(state_dir: str, name: str) -> str:
    """Return the directory of a part."""
    return os.path.join(state_dir, PARTS, name)


def name_of_list(path: str) -> str:
    """Return the name of the part that has the list at `path`."""
    return sanitize(os.path.basename(path), limit=100).lstrip(".") or "list"


def about(folder: str) -> About | None:
    """Return what a part is; None if it was never begun."""
    found = json_file.load(os.path.join(folder, ABOUT))
    return About(str(found["begun"]), str(found.get("digest", ""))) if found else None


def write_about(folder: str, about: About, staging: files.StagingDir, *, syncs: bool) -> None:
    """Write what a part is."""
    files.write_document(staging, os.path.join(folder, ABOUT), orjson.dumps(about._asdict()), syncs=syncs)


def account(name: str, about: About, ends: Ends, names: Names | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the account of a part as it is now; `more` are its reasons, series and directories that were not read."""
    counts = {kind.replace("-", "_"): number for kind, number in ends.counts.items()}
    return {
        "schema": SCHEMA,
        "part": name,
        "listed": ends.listed,
        **{kind: counts.get(kind, 0) for kind in KINDS[:-1]},
        "left": ends.left,
        "bytes": ends.bytes,
        "begun": about.begun,
        "ended": instant(time.time_ns()),
        "host": os.uname().nodename,
        "version": listener.__version__,
        "list": about.digest,
        "repeated": names.repeated if names else 0,
        "ignored": names.ignored if names else 0,
        **more,
    }


def write(folder: str, account: Mapping[str, Any], staging: files.StagingDir, *, syncs: bool) -> None:
    """Write the account, whole or not at all."""
    data = orjson.dumps(account, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    files.write_document(staging, os.path.join(folder, ACCOUNT), data, syncs=syncs)


def write_metrics(path: str, text: str) -> None:
    """Write metrics (of catalogue) in one step: a reader sees the whole file. Raises OSError."""
    staging = files.StagingDir(os.path.dirname(os.path.abspath(path)), ".listener-parts")
    files.write_document(staging, path, text.encode(), syncs=False)


def read(folder: str) -> dict[str, Any] | None:
    """Return the account of a part; None if it has not ended."""
    return json_file.load(os.path.join(folder, ACCOUNT))


def is_done(account: Mapping[str, Any] | None) -> bool:
    """Return whether a part has ended and left nothing."""
    return account is not None and not account["left"] and not account.get("unread", 0)


def parts(state_dir: str) -> list[Part]:
    """Return what is known of each part that was begun, by name. Raises OSError."""
    return [Part(name, read(folder), snapshot.read(folder)) for name, folder in folders(state_dir)]


def seen_to_elsewhere(state_dir: str, parts: Sequence[Part]) -> int:
    """Return how many files that vanished for one of the parts had another end in another one: both have their names in
    their lists. Raises OSError.
    """
    suspects = [part.name for part in parts if part.account and part.account["vanished"]]
    gone = [journal.gone(folder_of(state_dir, name)) for name in suspects]
    left: set[bytes] = set().union(*gone)
    found: set[bytes] = set()
    for part in parts if left else ():
        found |= journal.seen_to(folder_of(state_dir, part.name), left)
    return sum(len(keys & found) for keys in gone)


def folders(state_dir: str) -> Iterator[tuple[str, str]]:
    """Yield name and directory of each part that was begun, by name."""
    home = os.path.join(state_dir, PARTS)
    try:
        names = sorted(os.listdir(home))
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith(".") and os.path.isdir(os.path.join(home, name)):
            yield name, os.path.join(home, name)

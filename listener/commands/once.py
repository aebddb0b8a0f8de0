"""Repack what is in incoming now, and leave."""

from __future__ import annotations

import argparse

from listener import parse
from listener.backfill.request import PRIORITIES, SHARED_BY
from listener.config import Config
from listener.errors import ConfigError
from listener.planning.names import printable

EPILOG = (
    "exit status: 0 every file was published, duplicate or superseding; 1 some were set aside or are left; 2 "
    "the configuration is wrong; of a part also 69 a volume is not mounted, 74 the system failed, 75 another process "
    "has it in hand: begin it again"
)

#: Words of parts.
_OF_PARTS = ("part", "files_from", "part_by", "again", "tolerate_set_aside", "textfile", "priority")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("--part", metavar="I/N", help="do part I (from 0) of N of incoming, beside other parts")
    parser.add_argument(
        "--part-by",
        choices=SHARED_BY,
        help="share out by the path of each directory (default), or by each file's name: for one huge flat directory",
    )
    parser.add_argument(
        "--files-from",
        metavar="FILE",
        help="do the files that FILE names (- for standard input), each ended by NUL or a newline, as a part",
    )
    parser.add_argument(
        "--finish", action="store_true", help="when all parts have ended: make the ledger's rows of what they brought"
    )
    parser.add_argument("--announce", action="store_true", help="tell consumers of the series that --finish ends")
    parser.add_argument("--batch", metavar="NAME", help="name of the batch that --finish makes (default: backfill)")
    parser.add_argument("--again", action="store_true", help="do a part once more that has ended")
    parser.add_argument("--tolerate-set-aside", action="store_true", help="status 0 when files of a part are set aside")
    parser.add_argument("--textfile", metavar="FILE", help="write a part's metrics to FILE when it has ended")
    parser.add_argument(
        "--priority",
        choices=PRIORITIES,
        help="of a part on its host: low (default; nice 19, so that a live listener there comes first) or normal",
    )
    parser.add_argument(
        "--number", metavar="N", help="take at most N folders of --batches, the oldest first, and leave"
    )


def acts(_: argparse.Namespace) -> bool:
    """Return True: it is done even when nobody reads what it prints."""
    return True


def run(config: Config, given: argparse.Namespace) -> int:
    """Repack everything, or a part. Return 0, or 1 when some files were set aside or are left."""
    if given.finish:
        from listener.backfill import finish

        _refuse_beside_finish(given)
        return finish.run(config, finish.FinishRequest(given.batch or "backfill", given.announce))
    if given.announce or given.batch:
        raise ConfigError(["once: --announce and --batch go with --finish; give that too"])
    if any(getattr(given, name) for name in _OF_PARTS):
        from listener.backfill import part
        from listener.backfill.request import PartRequest

        return part.run(config, PartRequest.of(vars(given)))
    from listener.oneshot import once

    return once.run(config, _number(config, given.number))


def _refuse_beside_finish(given: argparse.Namespace) -> None:
    if given.number or any(getattr(given, name) for name in _OF_PARTS):
        raise ConfigError(["--finish: is no part; give it alone, when all parts have ended"])


def _number(config: Config, text: str | None) -> int | None:
    """Return the number of folders to take; None: all. Raise ConfigError."""
    if text is None:
        return None
    if not config.batches:
        raise ConfigError(["--number: counts folders, and there are none without --batches; give that too"])
    try:
        return parse.whole(1, 10**9)(text)
    except ValueError as error:
        raise ConfigError([f"--number: '{printable(text)}' {error}"]) from None

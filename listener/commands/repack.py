"""Repack the named files, or every file in the named folders.

It needs no incoming, state or lock: many may run at once, beside a service too.
"""

from __future__ import annotations

import argparse
import os

from listener import settings
from listener.config import Config

EPILOG = (
    "also takes rx-repack's spelling (--xcrdir D --xcrfile F --datadir D --logdir D --cleanup --verbosity N "
    "--log-ndjson) and px-repack's --parseAllFilesWithSubStr S, so that a storescp -xcr line keeps working; "
    "exit status: 0 every file was published, or a duplicate; 1 some were set aside, or stay where they are; 2 the "
    "command line is wrong"
)

#: px-repack's and rx-repack's spellings of our options.
ALIASES = {
    "data": ("--datadir", "-d"),
    "log": ("--logdir", "-l"),
    "root_template": ("--rootDirTemplate",),
    "study_template": ("--studyDirTemplate",),
    "series_template": ("--seriesDirTemplate",),
    "image_template": ("--imageTemplate",),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a DICOM file, or a folder of them")
    parser.add_argument("--cleanup", action="store_true", help="move: remove each source that was published")
    parser.add_argument("-p", "--xcrdir", metavar="D", help="folder of --xcrfile or of the files to parse")
    parser.add_argument("-f", "--xcrfile", metavar="F", help="one file in --xcrdir")
    parser.add_argument("--xcrdirfile", metavar="PATH", help="one file with its folder")
    parser.add_argument(
        "--parseAllFilesWithSubStr", metavar="S", dest="substring", help="all files of --xcrdir whose names hold S"
    )
    parser.add_argument("--log-ndjson", action="store_true", help="print an event a file even to a terminal")
    parser.add_argument("-v", "--verbosity", metavar="N", help="accepted and ignored")
    parser.add_argument("--debug", action="store_true", help="accepted and ignored")


def acts(_: argparse.Namespace) -> bool:
    """Return True: it is done even when nobody reads what it prints."""
    return True


def run(config: Config, given: argparse.Namespace) -> int:
    """Repack what the command line names. Return 0, or 1 when a file failed."""
    from listener.oneshot import repack

    with_state = settings.is_given("state", vars(given), os.environ, given.config)
    return repack.run(config, repack.Request.of(vars(given), with_state))

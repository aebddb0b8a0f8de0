"""Say how many instances a series will have."""

from __future__ import annotations

import argparse
import os
import sys
import time

from listener.commands._selection import check_user
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger import generations
from listener.ledger.connection import open_writer, path_of, transaction
from listener.uids import is_uid

_MOST = 10**9

EPILOG = "a running service reads it within a second; exit status: 0; 1 the ledger cannot be written"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("uid", metavar="UID", help="the SeriesInstanceUID")
    parser.add_argument("number", type=int, metavar="N", help="how many instances it will have; 0: nobody knows")


def acts(_: argparse.Namespace) -> bool:
    """Return True: it is done even when nobody reads what it prints."""
    return True


def run(config: Config, given: argparse.Namespace) -> int:
    """Set the number of the command line. Return 0."""
    return expect(config, given.uid, given.number)


def expect(config: Config, uid: str, number: int) -> int:
    """Record the number; a running service reads it within a second. Return 0; raise ConfigError or LedgerFault."""
    problems = []
    if not is_uid(uid):
        problems.append("expect: UID: give a SeriesInstanceUID, 1 to 64 digits and dots")
    if not 0 <= number <= _MOST:
        problems.append(f"expect: N: give a number from 0 (nobody knows) to {_MOST}")
    if not os.path.isdir(config.state):
        problems.append(f"--state: '{config.state}' is not a directory; give the one that the service uses")
    if problems:
        raise ConfigError(problems)
    check_user(config)
    connection = open_writer(path_of(config.state))
    try:
        with transaction(connection):
            rows = generations.expect(connection, uid, number, "expect", time.time_ns())
    finally:
        connection.close()
    if not rows:
        sys.stderr.write("no number is expected; nothing has come of the series, and the ledger does not have it\n")
    many = f"{number} instances are" if number else "no number is"
    for row in rows:
        where = f" in study {row.StudyInstanceUID}" if len(rows) > 1 else ""
        sys.stderr.write(f"{many} expected{where}; {row.instances} are there, and the series is {row.state}\n")
    return 0

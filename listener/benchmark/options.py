"""The options of `listener bench`."""

from __future__ import annotations

import argparse

#: Options of `bench`: spelling, metavar, destination, help. `Request.of` checks their values.
_BENCH = (
    ("--files", "N", "files", "files of the large run; the small one has a sixth of them (default: 2000)"),
    ("--size", "SIZE", "size", "size of a file (default: 230KiB)"),
    ("--header", "SIZE", "header", "so much of it stands before the pixels (default: 110KiB)"),
    ("--patients", "N", "patients", "patients that the files belong to (default: 1)"),
    ("--series", "N", "series", "series of each patient (default: 1)"),
    ("--from", "DIR", "source", "copy the files in DIR, with new UIDs, instead of synthetic ones"),
    ("--only", "PARTS", "only", "once, repackers, headers, run, paced, xcr: some, with commas (default: all)"),
    ("--growth", "N", "growth", "measure too how cost grows, with up to N files (default: 0, which is not)"),
    ("--repeat", "N", "repeat", "rounds; figures are medians (default: 3)"),
    ("--senders", "N", "senders", "senders at once (default: 4)"),
    ("--pace", "SHARE", "pace", "paced senders: share of storescp's own rate (default: 0.5)"),
    ("--few", "N", "few", "files for px-repack; rx-repack gets ten times as many (default: 20)"),
    ("--jobs", "N", "jobs", "processes of px-repack and rx-repack at once (default: 1)"),
    ("--other-mount", "DIR", "other_mount", "for --growth: a directory on another mount, where trees go too"),
    ("--dir", "DIR", "directory", "where to work, best a new and empty ext4 (default: the temporary directory)"),
    ("--watts-per-core", "W", "watts_per_core", "what a busy processor takes, where RAPL cannot be read (default: 10)"),
    ("--grid-intensity", "G", "grid_intensity", "g CO2e a kWh (default: 475)"),
    ("--emissions", "FILE", "emissions", "add a row for each program to this emissions.csv"),
    ("--plot", "FILE", "plot", "draw a picture (SVG)"),
    ("--save", "DIR", "save", "write bench.json, bench.md and bench.svg there"),
)


def bench_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of the command."""
    for spelled, metavar, name, text in _BENCH:
        parser.add_argument(spelled, metavar=metavar, dest=name, help=text)
    parser.add_argument("--compressed", action="store_true", help="pixels in RLE Lossless, encapsulated")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    parser.add_argument("--json", action="store_true", dest="as_json", help="figures for programs")

"""Options of the stage export, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

from listener import parse
from listener.config import row
from listener.export import address
from listener.export.columns import more_of


def _target(text: str) -> str:
    """Return the text of a target that can be used."""
    address.parse(text)
    return text


def _endpoint(text: str) -> str:
    """Return the address of a store; it holds nothing secret."""
    try:
        return parse.url(text).rstrip("/")
    except ValueError as error:
        if "password" in str(error):
            text = "holds a name or a password; credentials come from the environment or files"
            raise parse.HoldsSecret(text) from None
        raise


def _archive_name(text: str) -> str:
    """Return the template of an archive's name."""
    parse.template(text)
    if "/" in text:
        raise ValueError("has a /, and names one object; leave it out")
    return text


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `listener export`."""

    to: str = row(
        "",
        _target,
        "TARGET",
        "where to: s3://BUCKET/PREFIX, gs://, az://CONTAINER/PREFIX, or a directory",
        shown="none",
    )
    endpoint: str = row(
        "",
        _endpoint,
        "URL",
        "address of a store that is compatible with S3, or of Azure's or Google's",
        shown="the cloud's own",
    )
    part: int = row(
        8 * 2**20,
        parse.size(5 * 2**20),
        "SIZE",
        "objects up to this go in one request that only creates; larger ones in such parts",
        shown="8MiB",
    )
    keys: str = row("path", parse.choice("path", "uid"), "WHICH", "names of instances: by their path, or by their UIDs")
    archive: str = row(
        "none",
        parse.choice("none", "series", "study", "batch"),
        "OF",
        "none: an object an instance; else a tar a series, study or batch, beside a manifest a series",
    )
    archive_name: str = row(
        "",
        _archive_name,
        "TEMPLATE",
        "names of archives, in the language of path templates",
        shown="the UID",
    )
    compress: str = row("none", parse.choice("none", "gzip"), "HOW", "archives are plain, or compressed (level 1)")
    volume: int = row(4 * 2**30, parse.size(2**20), "SIZE", "archives are cut at instances to this", shown="4GiB")
    no_parquet: bool = row(False, parse.boolean, "", "make no table of the headers")
    part_rows: int = row(
        100_000, parse.whole(1, 10**7), "N", "a part of the table is closed when it has so many rows", unit="rows"
    )
    part_every: float = row(
        900.0, parse.seconds(1), "SECONDS", "a part of the table is closed so long after its first row", unit="s"
    )
    columns: tuple[str, ...] = row(
        (),
        more_of,
        "KEYWORD",
        "one more attribute as a column of the table; give it again for more",
        shown="those of docs/export.md",
        several=True,
        divider=",",
    )
    verify: str = row(
        "read",
        parse.choice("read", "head"),
        "HOW",
        "read: every object is read back and compared; head: its size and the store's digest",
    )
    allow_identified: bool = row(
        False, parse.boolean, "", "export instances that do not say PatientIdentityRemoved YES"
    )
    incomplete: str = row(
        "hold", parse.choice("hold", "send"), "WHAT", "series of which fewer instances came than were promised"
    )
    uploads: int = row(10, parse.whole(1, 256), "N", "objects in flight, over all series")
    rate: int = row(0, parse.size(1), "SIZE", "bytes that are written a second", shown="no limit")
    http: str = row(
        "0.0.0.0:9467", parse.address, "ADDR:PORT", "metrics and health; port 0 picks one; or unix:PATH, or off"
    )
    drain: float = row(25.0, parse.seconds(0), "SECONDS", "how long a stopping export may go on", unit="s")

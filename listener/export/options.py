"""Options of the stage export, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

from listener import parse
from listener.config import row
from listener.export import address


def _target(text: str) -> str:
    """Return the text of a target that can be used."""
    address.parse(text)
    return text


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `listener export`."""

    to: str = row("", _target, "TARGET", "where to: a directory, or file:///DIR", shown="none")
    keys: str = row("path", parse.choice("path", "uid"), "WHICH", "names of instances: by their path, or by their UIDs")
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

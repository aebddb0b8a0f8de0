"""Options of the stage serve."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from listener import parse
from listener.config import row

NAME = "serve"

_is_origin = re.compile(r"\*|https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?").fullmatch
_is_prefix = re.compile(r"(/[A-Za-z0-9._~-]+)*").fullmatch
_is_base = re.compile(r"https?://[^\s?#]+").fullmatch


def prefix(text: str) -> str:
    """Return a path's prefix without a slash at its end."""
    stripped = text.rstrip("/")
    if not _is_prefix(stripped):
        raise ValueError("is no path; give one like /dicom-web")
    return stripped


def origin(text: str) -> str:
    """Return an origin, as browsers send it."""
    if not _is_origin(text):
        raise ValueError("is no origin; give one like https://viewer.example.org, or *")
    return text


def public(text: str) -> str:
    """Return an address without a slash at its end."""
    if not _is_base(text):
        raise ValueError("is no address; give one like https://pacs.example.org/dicom-web")
    return text.rstrip("/")


def network(text: str) -> str:
    """Return a network of IP addresses, or one address, as a network."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("is no network; give one like 10.0.0.0/8, or an address") from None


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `listener serve`."""

    dicomweb: str = row("127.0.0.1:8043", parse.address, "ADDR:PORT", "DICOMweb; port 0 picks one")
    prefix: str = row("/dicom-web", prefix, "PATH", "what its paths begin with")
    index: str = row("", parse.directory, "DIR", "derived, may be removed at any time", shown="<state>/serve")
    index_space: int = row(
        10 * 2**30,
        parse.size(0),
        "SIZE",
        "what the index may take; what was not used for the longest time goes first; 0 for any size",
        shown="10GiB",
    )
    ahead: str = row(
        "on",
        parse.choice("on", "off"),
        "",
        "index complete series before anybody asks for them, at the lowest priority",
    )
    processes: int = row(1, parse.whole(1, 64), "N", "processes that answer")
    http: str = row(
        "127.0.0.1:9469", parse.address, "ADDR:PORT", "metrics and health; port 0 picks one; or unix:PATH, or off"
    )
    token_file: str = row(
        "", parse.file, "FILE", "lines 'name:token' of who may read; read again when it changes", shown="none"
    )
    no_token: bool = row(False, parse.boolean, "", "let everybody read who can connect, beyond this machine too")
    public_url: str = row(
        "", public, "URL", "the address in answers, where clients use another one", shown="from --dicomweb and --prefix"
    )
    behind_proxy: tuple[str, ...] = row(
        (),
        network,
        "CIDR",
        "proxies whose X-Forwarded-For is believed; again for more",
        shown="none",
        several=True,
        divider=" ",
    )
    cors: tuple[str, ...] = row(
        (),
        origin,
        "ORIGIN",
        "a web page's origin that may read; again for more; or *",
        shown="none",
        several=True,
        divider=" ",
    )
    viewer: str = row("", parse.directory, "DIR", "a viewer's files, served on /", shown="none")
    only_complete: bool = row(False, parse.boolean, "", "show series only once they are complete")
    max_results: int = row(1000, parse.whole(1, 100_000), "N", "results of one search")
    max_frames: int = row(1000, parse.whole(1, 100_000), "N", "frames of one request")
    max_inflated: int = row(
        2**30, parse.size(1024), "SIZE", "largest deflated data set of which frames are read", shown="1GiB"
    )
    max_age: int = row(
        0, parse.whole(0, 10**9), "SECONDS", "how long clients may keep answers without asking", unit="s"
    )
    drain: float = row(25.0, parse.seconds(0), "SECONDS", "how long running answers may go on at the end", unit="s")

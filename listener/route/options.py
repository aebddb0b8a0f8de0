"""Options of `listener route`."""

from __future__ import annotations

from dataclasses import dataclass

from listener import parse
from listener.config import row


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """Options of the stage; see listener.stages.options."""

    routes: str = row(
        "",
        parse.file,
        "FILE",
        "workers, destinations and routes (TOML); read again when it changes",
        shown="none",
    )
    http: str = row(
        "0.0.0.0:9465",
        parse.address,
        "ADDR:PORT",
        "metrics, health, page and API; port 0 picks one; or unix:PATH, or off",
    )
    drain: float = row(25.0, parse.seconds(0), "SECONDS", "how long a stopping stage may go on", unit="s")
    echo: float = row(
        10.0, parse.seconds(0.1), "SECONDS", "how often a target is asked by C-ECHO while nothing is sent", unit="s"
    )
    down_after: float = row(
        3.0,
        parse.seconds(0),
        "SECONDS",
        "a target is down when every attempt failed for so long; its live studies move",
        unit="s",
    )
    busy: float = row(
        600.0,
        parse.seconds(0),
        "SECONDS",
        "how long a study that has no result yet counts as work of its worker",
        unit="s",
    )
    answer_within: float = row(
        600.0, parse.seconds(0), "SECONDS", "a study that has no result after so long is told as unanswered", unit="s"
    )
    remember: float = row(
        30.0,
        parse.seconds(0),
        "DAYS",
        "how long a study keeps its worker, and what no route wants is kept",
        unit="days",
    )

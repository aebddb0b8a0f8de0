"""Options of `listener deidentify`: rows as in listener.config."""

from __future__ import annotations

from dataclasses import dataclass

from listener import parse
from listener.config import row
from listener.deidentify.profile import OPTIONS
from listener.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DeidentifyOptions:
    """What the stage is told. Paths are absolute."""

    option: tuple[str, ...] = row(
        (),
        parse.choice(*OPTIONS),
        "NAME",
        f"an option of the Basic Profile (PS3.15 Annex E): {', '.join(OPTIONS)}; give it again for more",
        several=True,
        shown="none",
    )
    words: tuple[str, ...] = row(
        (), parse.file, "FILE", "more words that a cleaned text may hold", several=True, shown="those that are shipped"
    )
    safe_private: str = row(
        "",
        parse.file,
        "FILE",
        "private elements that retain-safe-private keeps: lines GGGG,CREATOR,EE",
        shown="none",
    )


def check(chosen: DeidentifyOptions) -> None:
    """Raise ConfigError with every pair of options that contradict each other."""
    options = set(chosen.option)
    problems = []
    if {"retain-full-dates", "retain-modified-dates"} <= options:
        problems.append("deidentify: retain-full-dates and retain-modified-dates contradict each other; give one")
    if ("retain-safe-private" in options) != bool(chosen.safe_private):
        problems.append("deidentify: retain-safe-private needs --safe-private FILE, and that needs the option")
    if problems:
        raise ConfigError(problems)

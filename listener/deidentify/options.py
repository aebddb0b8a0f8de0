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

    into: str = row("", parse.directory, "DIR", "the --batches of the collection that gets what is clean", shown="none")
    key_file: str = row("", parse.file, "FILE", "the key; 'listener deidentify new-key FILE' makes one", shown="none")
    option: tuple[str, ...] = row(
        (),
        parse.choice(*OPTIONS),
        "NAME",
        f"an option of the Basic Profile (PS3.15 Annex E): {', '.join(OPTIONS)}; give it again for more",
        several=True,
        shown="none",
    )
    profile: str = row(
        "basic",
        parse.choice("basic", "none"),
        "NAME",
        "what is done where recipes say nothing",
    )
    recipe: tuple[str, ...] = row(
        (), parse.file, "FILE", "a recipe of deid: its header and filter sections", several=True, shown="none"
    )
    words: tuple[str, ...] = row(
        (), parse.file, "FILE", "more words that a cleaned text may hold", several=True, shown="those that are shipped"
    )
    safe_private: str = row(
        "",
        parse.file,
        "FILE",
        "more private elements that retain-safe-private keeps: lines GGGG,CREATOR,EE",
        shown="those that are shipped",
    )
    shift_days: int = row(
        365, parse.whole(1, 36500), "DAYS", "most days that the dates of a patient go back (retain-modified-dates)"
    )
    burned_in: str = row(
        "suspect",
        parse.choice("suspect", "yes", "unless-no"),
        "WHEN",
        "hold images with text in their pixels: if they are suspected, if they say YES, or unless they say NO",
    )
    incomplete: str = row(
        "hold", parse.choice("hold", "pass"), "WHAT", "series of which fewer instances came than were promised"
    )
    identifiers: str = row(
        "",
        parse.file_or_url,
        "FILE|URL",
        "who gives pseudonyms: a table (CSV), or a web address that gets a POST",
        shown="derived from the key",
    )
    identifiers_exec: str = row(
        "", parse.words, "CMD", "a program that gives pseudonyms: JSON on standard input and output", shown="none"
    )
    identifiers_token: str = row("", parse.file, "FILE", "a file with the token for --identifiers URL", shown="none")
    identifiers_timeout: float = row(
        10.0, parse.seconds(0.1), "SECONDS", "how long who gives pseudonyms may take", unit="s"
    )
    vault: str = row("", parse.directory, "DIR", "where the vault lies", shown="'deidentify' in --state")
    no_vault: bool = row(
        False,
        parse.boolean,
        "",
        "keep nothing of pseudonyms, of what was handed over, is held or was released",
    )
    fsync: str = row(
        "batch",
        parse.choice("batch", "none"),
        "WHEN",
        "when what was written is forced to disk: before its folder gets its name, or left to the kernel",
    )
    workers: int = row(1, parse.whole(1, 256), "N", "worker processes: so many units are cleaned at once")
    http: str = row(
        "0.0.0.0:9466", parse.address, "ADDR:PORT", "metrics and health; port 0 picks one; or unix:PATH, or off"
    )
    drain: float = row(25.0, parse.seconds(0), "SECONDS", "how long a stopping stage may go on", unit="s")


def check(chosen: DeidentifyOptions) -> None:
    """Raise ConfigError with every pair of options that contradict each other."""
    options = set(chosen.option)
    problems = []
    if {"retain-full-dates", "retain-modified-dates"} <= options:
        problems.append("deidentify: retain-full-dates and retain-modified-dates contradict each other; give one")
    if chosen.safe_private and "retain-safe-private" not in options:
        problems.append("deidentify: --safe-private needs --option retain-safe-private")
    if chosen.identifiers and chosen.identifiers_exec:
        problems.append("deidentify: give --identifiers or --identifiers-exec")
    if chosen.identifiers_token and not chosen.identifiers.startswith(("http://", "https://")):
        problems.append("deidentify: --identifiers-token is for --identifiers URL")
    if chosen.profile == "none" and (not chosen.recipe or options):
        problems.append("deidentify: --profile none needs --recipe FILE, and has no options")
    if problems:
        raise ConfigError(problems)

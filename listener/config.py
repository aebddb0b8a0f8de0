"""The options: one frozen Config, one row a field. settings.py reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from listener import parse
from listener.hook_config import OPTIONS as HOOK_FIELDS
from listener.hook_config import HookConfig, of_flags
from listener.planning.plan import LAYOUTS

ENVIRONMENT_PREFIX = "LISTENER_"

#: Stages: each has a table of its own in the file and variables LISTENER_<STAGE>_<NAME>, over which others pass.
STAGES = ("route", "deidentify", "export", "notify", "serve")

#: AE titles of --watch-sender: each is a label of a metric.
MOST_SENDERS = 64

#: Sets of commands that an option belongs to.
EVERY = frozenset({"run", "once", "repack", "plan", "check", "verify", "retry", "status"})
STAGE_VERBS = frozenset({"deidentify", "export", "notify", "route", "serve"})
READING = EVERY - {"retry", "status"}
ENGINE = frozenset({"run", "once", "check"})
INTAKE = ENGINE | {"retry", "status"}
SERVICE = frozenset({"run", "check"})
PAGES = SERVICE | {"route"}
BATCHES = ENGINE | {"status"}
LEDGER = frozenset(
    {"batches", "find", "studies", "series", "expect", "acknowledge", "report", "prune", "hooks", "set-aside", "parts"}
)
HOOKS = ENGINE | {"hooks"}
PLACING = frozenset({"run", "once", "repack", "check"})


class Option(NamedTuple):
    """How a field is read and explained. Help shows `unit` beside the default, or `shown` instead of it. `divider`
    stands between the values of an environment variable, if there may be `several`. `reloads`: it changes in place when
    a running service reads its configuration again.
    """

    parse: Callable[[str], Any]
    metavar: str
    help: str
    commands: frozenset[str]
    unit: str = ""
    shown: str = ""
    several: bool = False
    divider: str = os.pathsep
    reloads: bool = False

    @property
    def is_switch(self) -> bool:
        """Return whether the flag takes no value."""
        return self.parse is parse.boolean


def row(
    default: Any,
    read: Callable[[str], Any],
    metavar: str,
    text: str,
    commands: frozenset[str] = frozenset(),
    **more: Any,
) -> Any:
    """Return a field with its row; the arguments are those of Option."""
    return field(default=default, metadata={"option": Option(read, metavar, text, commands, **more)})


#: A URL holds colons and a command blanks: several stand on lines of their own.
_LINES: dict[str, Any] = {"shown": "none", "several": True, "divider": "\n", "reloads": True}


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one command. Directories are absolute paths."""

    incoming: tuple[str, ...] = row(
        ("./dicom/incoming",),
        parse.directory,
        "DIR",
        "where storescp writes (its -od); give it again for more roots",
        INTAKE,
        several=True,
    )
    batches: tuple[str, ...] = row(
        (),
        parse.directory,
        "DIR",
        "each folder in it is a batch; without --incoming there is no incoming then; give it again for more",
        BATCHES,
        shown="none",
        several=True,
    )
    batch_source: str = row(
        "keep",
        parse.choice("keep", "remove"),
        "WHAT",
        "of a batch's folder: keep (it is copied, and never changed) or remove (it goes when all of it has passed)",
        ENGINE,
    )
    batch_quiet: float = row(
        60.0,
        parse.seconds(0),
        "SECONDS",
        "a folder that was not seen renamed is finished when nothing in it changed for this long",
        ENGINE,
        unit="s",
    )
    batches_at_once: int = row(
        16,
        parse.whole(0, 10**6),
        "N",
        "most batches that are processed at once; 0: no limit",
        ENGINE,
    )
    data: str = row(
        "./dicom/data", parse.directory, "DIR", "root of the repacked tree", EVERY | STAGE_VERBS | {"prune"}
    )
    log: str = row(
        "./dicom/log",
        parse.directory,
        "DIR",
        "root of the pypx JSON logs (they hold patient data)",
        EVERY | {"prune"},
    )
    state: str = row(
        "./dicom/state",
        parse.directory,
        "DIR",
        "ledger, set-aside files, claims, staging and what must survive a restart",
        EVERY | LEDGER | STAGE_VERBS,
    )
    workers: int = row(
        0,
        parse.whole(1, 256),
        "N",
        "worker processes",
        ENGINE | {"bench"},
        shown="processors available to the process",
    )
    http: str = row(
        "0.0.0.0:9464",
        parse.address,
        "ADDR:PORT",
        "metrics, health, page and API; port 0 picks one; or unix:PATH, or off",
        SERVICE,
    )
    token_file: str = row(
        "",
        parse.file,
        "FILE",
        "lines 'name:token' of who may see page and API (without it this machine alone); read again when it changes",
        PAGES,
        shown="none",
        reloads=True,
    )
    http_cert: str = row(
        "",
        parse.file,
        "FILE",
        "certificate (PEM, with its chain) for https; read again when it changes",
        PAGES,
        shown="none",
    )
    http_key: str = row("", parse.file, "FILE", "its key", PAGES, shown="in the certificate's file")
    http_client_ca: str = row(
        "", parse.file, "FILE", "issuers (PEM) whose client certificates may see page and API", PAGES, shown="none"
    )
    layout: str = row("rx", parse.choice(*LAYOUTS), "NAME", f"preset of path templates: {', '.join(LAYOUTS)}", READING)
    root_template: str = row(
        "", parse.template, "TEMPLATE", "the patient's directory", READING, shown="from the layout"
    )
    study_template: str = row("", parse.template, "TEMPLATE", "the study's directory", READING, shown="from the layout")
    series_template: str = row(
        "", parse.template, "TEMPLATE", "the series' directory", READING, shown="from the layout"
    )
    image_template: str = row(
        "", parse.template, "TEMPLATE", "the instance's file name", READING, shown="from the layout"
    )
    on_conflict: str = row(
        "replace",
        parse.choice("replace", "keep-both", "set-aside"),
        "POLICY",
        "same SOP Instance UID, different data set: replace (the old one is kept in set-aside), keep-both or set-aside",
        PLACING | {"verify"},
    )
    keep_source: bool = row(
        False, parse.boolean, "", "copy instead of move; incoming is left as it is", ENGINE | {"bench"}
    )
    settle: float = row(
        2.0,
        parse.seconds(0),
        "SECONDS",
        "how long a file must be untouched where the kernel has no leases",
        ENGINE,
        unit="s",
    )
    rescan: float = row(
        2.0,
        parse.seconds(0.05),
        "SECONDS",
        "how often incoming is scanned for what events missed",
        SERVICE,
        unit="s",
        reloads=True,
    )
    poll: bool = row(False, parse.boolean, "", "no inotify: rescans only (network file systems, other nodes)", SERVICE)
    standby: bool = row(
        False,
        parse.boolean,
        "",
        "where another listener owns incoming, wait until it has ended, and take over",
        SERVICE,
    )
    series_quiet: tuple[tuple[str, float], ...] = row(
        (("", 60.0),),
        parse.quiet,
        "SECONDS",
        "a series without a new instance for this long is complete; again by modality: CT=5",
        ENGINE,
        unit="s",
        shown="60",
        several=True,
        reloads=True,
    )
    series_timeout: float = row(
        3600.0,
        parse.seconds(0),
        "SECONDS",
        "a series that was promised more instances than came is incomplete after this long without a new one",
        ENGINE,
        unit="s",
        reloads=True,
    )
    study_quiet: float = row(
        300.0,
        parse.seconds(0),
        "SECONDS",
        "a study whose series have ended, and which got nothing new for this long, has ended; 0: with the last of them",
        ENGINE,
        unit="s",
        reloads=True,
    )
    deadline: float = row(
        120.0, parse.seconds(0.1), "SECONDS", "a worker that holds one file for longer is killed", ENGINE, unit="s"
    )
    give_up: float = row(
        3600.0,
        parse.seconds(0),
        "SECONDS",
        "a file whose own place cannot be used for so long is set aside as unplaceable",
        ENGINE,
        unit="s",
    )
    max_header: int = row(
        64 * 2**20,
        parse.size(1024),
        "SIZE",
        "largest header of one data set, values over 1 MiB not counted; beyond: too-large",
        READING,
        shown="64MiB",
    )
    max_depth: int = row(64, parse.whole(1, 900), "N", "deepest nesting of sequences; beyond: too-deep", READING)
    ready_backlog: int = row(
        100_000,
        parse.whole(1, 10**12),
        "N",
        "above this backlog the service is not ready",
        SERVICE,
        unit="files",
        reloads=True,
    )
    file_mode: int | None = row(
        None, parse.mode, "MODE", "permissions of published files, octal", PLACING, shown="as storescp made it"
    )
    dir_mode: int = row(0o755, parse.mode, "MODE", "permissions of published directories, octal", PLACING, shown="0755")
    fsync: str = row(
        "batch",
        parse.choice("batch", "each", "none"),
        "LEVEL",
        "when published data is forced to disk: batch (one barrier for all that is finished), each file, none",
        PLACING,
    )
    min_free: int = row(
        2**30,
        parse.size(0),
        "SIZE",
        "with less free space than this: take no work, not ready, keep every source",
        ENGINE,
        shown="1GiB",
        reloads=True,
    )
    page: str = row(
        "on",
        parse.page,
        "on|off|phi",
        "the status page and its API, on --http; phi: with patients, search and images, for who has a token",
        SERVICE,
    )
    on_series_complete: tuple[str, ...] = row(
        (),
        parse.url,
        "URL",
        "post to it when a series ends or a file is set aside; give it again for more",
        HOOKS,
        **_LINES,
    )
    on_series_complete_exec: tuple[str, ...] = row(
        (), parse.words, "CMD", "run it then, with the same JSON on its standard input", HOOKS, **_LINES
    )
    on_study_complete: tuple[str, ...] = row(
        (), parse.url, "URL", "post to it when a study ends; give it again for more", HOOKS, **_LINES
    )
    on_study_complete_exec: tuple[str, ...] = row(
        (), parse.words, "CMD", "run it then, with the same JSON on its standard input", HOOKS, **_LINES
    )
    hook_secret_file: str = row(
        "", parse.file, "FILE", "holds the HMAC key that signs what is posted", HOOKS, shown="none", reloads=True
    )
    #: Tables [hooks.NAME] of the file; no flag or variable gives one.
    hooks: tuple[HookConfig, ...] = ()
    #: Name of the part of a backfill that this process does ("": it does no part). `state` is the part's own then.
    part: str = ""
    watch_sender: tuple[str, ...] = row(
        (),
        parse.ae_title,
        "AET",
        f"a calling AE title whose last arrival becomes a metric; give it again for more, at most {MOST_SENDERS}",
        SERVICE,
        shown="none",
        several=True,
    )
    phi: bool = row(
        False,
        parse.boolean,
        "",
        "allow PatientID and whole paths on standard output (rx-repack's own event shape)",
        READING | {"series", "report", "export", "deidentify", "batches"},
    )
    events: str = row(
        "all",
        parse.choice("all", "series", "off"),
        "WHICH",
        "what goes to standard output: all; series (no line for a file, unless it is set aside); off",
        ENGINE,
        reloads=True,
    )
    drain: float = row(
        25.0, parse.seconds(0), "SECONDS", "how long a stopping service may go on", SERVICE, unit="s", reloads=True
    )
    retry_start: float = row(
        0.0, parse.seconds(0), "SECONDS", "try a failed start again after it; 0: leave", SERVICE | STAGE_VERBS, unit="s"
    )
    log_level: str = row(
        "info",
        parse.choice("debug", "info", "warning", "error"),
        "LEVEL",
        "diagnostics on standard error",
        EVERY | LEDGER | STAGE_VERBS,
        reloads=True,
    )

    @property
    def roots(self) -> tuple[str, ...]:
        """Return all directories that files come from: those of incoming, then those of batches."""
        return (*self.incoming, *self.batches)

    @property
    def every_hook(self) -> list[HookConfig]:
        """Return the hooks of flags, then those of tables."""
        return [*of_flags({name: getattr(self, name) for name in HOOK_FIELDS}), *self.hooks]


def rows_of(kind: type[Any]) -> dict[str, Option]:
    """Return the rows of a dataclass by field name, in its order; a field without one is no option."""
    return {one.name: one.metadata["option"] for one in fields(kind) if one.metadata}


def options() -> dict[str, Option]:
    """Return every field's row by field name, in the order of Config."""
    return rows_of(Config)


def defaults() -> dict[str, Any]:
    """Return every field's default as documented (directories still relative)."""
    return {one.name: one.default for one in fields(Config) if one.metadata}


def flag(name: str) -> str:
    """Return the flag of a field: `min_free` gives `--min-free`."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a field: `min_free` gives `LISTENER_MIN_FREE`."""
    return ENVIRONMENT_PREFIX + name.upper()

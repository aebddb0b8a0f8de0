"""One frozen Config, one row a field, read from flags, environment and TOML, validated once.

Precedence: flag, then environment (``LISTENER_<NAME>``), then the file (``--config``), then the default. Every problem
is collected and told at once, each with the option, the value, what is wrong and what to do; nothing is touched before.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

from listener import parse, processors
from listener.errors import ConfigError
from listener.layouts import LAYOUTS

ENVIRONMENT_PREFIX = "LISTENER_"

#: Sets of commands that an option belongs to.
EVERY = frozenset({"run", "once", "repack", "plan", "check", "verify", "retry"})
READING = EVERY - {"retry"}
ENGINE = frozenset({"run", "once", "check"})
INTAKE = ENGINE | {"retry"}
SERVICE = frozenset({"run", "check"})
PLACING = frozenset({"run", "once", "repack", "check"})


class Option(NamedTuple):
    """One row: how a field is spelled, read and explained. `unit` is shown beside the default."""

    parse: Callable[[str], Any]
    metavar: str
    help: str
    commands: frozenset[str]
    unit: str = ""
    shown: str = ""
    several: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.parse is parse.boolean


def _row(
    default: Any, read: Callable[[str], Any], metavar: str, text: str, commands: frozenset[str], **more: Any
) -> Any:
    return field(default=default, metadata={"option": Option(read, metavar, text, commands, **more)})


@dataclass(frozen=True, slots=True)
class Config:
    """What every part of the program may know of its configuration. Directories are absolute paths."""

    incoming: tuple[str, ...] = _row(
        ("./dicom/incoming",),
        parse.directory,
        "DIR",
        "where storescp writes (its -od); give it again for more roots",
        INTAKE,
        several=True,
    )
    data: str = _row("./dicom/data", parse.directory, "DIR", "root of the repacked tree", EVERY)
    log: str = _row("./dicom/log", parse.directory, "DIR", "root of the pypx JSON logs (they hold patient data)", EVERY)
    state: str = _row(
        "./dicom/state",
        parse.directory,
        "DIR",
        "set-aside files, claims, staging and what must survive a restart",
        EVERY,
    )
    workers: int = _row(
        0,
        parse.whole(1, 256),
        "N",
        "worker processes",
        PLACING,
        shown="processors available to the process",
    )
    http: str = _row(
        "0.0.0.0:9464", parse.address, "ADDR:PORT", "metrics, health and readiness; port 0 picks one; 'off'", SERVICE
    )
    layout: str = _row("rx", parse.choice(*LAYOUTS), "NAME", f"preset of path templates: {', '.join(LAYOUTS)}", READING)
    root_template: str = _row(
        "", parse.template, "TEMPLATE", "the patient's directory", READING, shown="from the layout"
    )
    study_template: str = _row(
        "", parse.template, "TEMPLATE", "the study's directory", READING, shown="from the layout"
    )
    series_template: str = _row(
        "", parse.template, "TEMPLATE", "the series' directory", READING, shown="from the layout"
    )
    image_template: str = _row(
        "", parse.template, "TEMPLATE", "the instance's file name", READING, shown="from the layout"
    )
    on_conflict: str = _row(
        "replace",
        parse.choice("replace", "keep-both", "set-aside"),
        "POLICY",
        "same SOP Instance UID, different data set: replace (the old one is kept in set-aside), keep-both or set-aside",
        PLACING,
    )
    keep_source: bool = _row(False, parse.boolean, "", "copy instead of move; incoming is left as it is", ENGINE)
    settle: float = _row(
        2.0,
        parse.seconds(0),
        "SECONDS",
        "how long a file must be untouched where the kernel has no leases",
        ENGINE,
        unit="s",
    )
    rescan: float = _row(
        2.0, parse.seconds(0.05), "SECONDS", "how often incoming is swept for what events missed", SERVICE, unit="s"
    )
    poll: bool = _row(False, parse.boolean, "", "no inotify: sweeps only (network file systems, other nodes)", SERVICE)
    deadline: float = _row(
        120.0, parse.seconds(0.1), "SECONDS", "a worker that holds one file for longer is killed", ENGINE, unit="s"
    )
    max_header: int = _row(
        64 * 2**20,
        parse.size(1024),
        "SIZE",
        "largest header of one data set; beyond: too-large",
        READING,
        shown="64MiB",
    )
    max_depth: int = _row(64, parse.whole(1, 900), "N", "deepest nesting of sequences; beyond: too-deep", READING)
    ready_backlog: int = _row(
        100_000, parse.whole(1, 10**12), "N", "above this backlog the service is not ready", SERVICE, unit="files"
    )
    file_mode: int | None = _row(
        None, parse.mode, "MODE", "permissions of published files, octal", PLACING, shown="as storescp made it"
    )
    dir_mode: int = _row(
        0o755, parse.mode, "MODE", "permissions of published directories, octal", PLACING, shown="0755"
    )
    fsync: str = _row(
        "batch",
        parse.choice("batch", "each", "none"),
        "LEVEL",
        "when published data is forced to disk: batch (one barrier for all that is finished), each file, none",
        PLACING,
    )
    min_free: int = _row(
        2**30,
        parse.size(0),
        "SIZE",
        "with less free space than this: take no work, not ready, keep every source",
        ENGINE,
        shown="1GiB",
    )
    phi: bool = _row(
        False,
        parse.boolean,
        "",
        "allow PatientID and whole paths on standard output (rx-repack's own event shape)",
        READING,
    )
    drain: float = _row(25.0, parse.seconds(0), "SECONDS", "how long a stopping service may go on", SERVICE, unit="s")
    log_level: str = _row(
        "info", parse.choice("debug", "info", "warning", "error"), "LEVEL", "diagnostics on standard error", EVERY
    )


def options() -> dict[str, Option]:
    """Every field's row, by field name, in the order of Config."""
    return {one.name: one.metadata["option"] for one in fields(Config)}


def defaults() -> dict[str, Any]:
    """Every field's default as it stands in the contract (directories still relative)."""
    return {one.name: one.default for one in fields(Config)}


def flag(name: str) -> str:
    """`min_free` -> `--min-free`."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """`min_free` -> `LISTENER_MIN_FREE`."""
    return ENVIRONMENT_PREFIX + name.upper()


def load(
    flags: Mapping[str, list[str] | None],
    environment: Mapping[str, str],
    command: str = "run",
    config_file: str | None = None,
) -> Config:
    """The one Config for `command`.

    `flags` maps field names to the texts given on the command line (None: not given). Raises ConfigError with every
    problem found.
    """
    problems: list[str] = []
    path = config_file or environment.get(variable("config")) or ""
    from_file = _read_file(path, problems) if path else {}
    values: dict[str, Any] = {}
    for name, row in options().items():
        where, texts = _find(name, row, flags, environment, from_file, path)
        if texts is None:
            values[name] = _default(name)
        else:
            _parse_into(values, name, row, where, texts, problems)
    if not problems:
        problems += _cross_check(values, command)
    if problems:
        raise ConfigError(problems)
    values["workers"] = values["workers"] or processors.available()
    return Config(**values)


def _default(name: str) -> Any:
    value = defaults()[name]
    if name == "incoming":
        return tuple(os.path.abspath(one) for one in value)
    return os.path.abspath(value) if name in ("data", "log", "state") else value


def _read_file(path: str, problems: list[str]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        problems.append(f"--config: cannot read '{path}' ({error.strerror}); name a readable TOML file")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"--config: '{path}' is not TOML ({error}); mend that line")
        return {}
    known = options()
    found = {key.replace("-", "_"): value for key, value in table.items()}
    for key in found.keys() - known.keys():
        close = get_close_matches(key, known, 1)
        hint = f"did you mean '{close[0].replace('_', '-')}'?" if close else "see 'listener run --help' for the names"
        problems.append(f"{path}: unknown key '{key.replace('_', '-')}'; {hint}")
    for key in [key for key in found.keys() & known.keys() if not _is_plain(found[key], known[key])]:
        what = "a list of one or more texts" if known[key].several else "one value"
        problems.append(f"{path}: {key.replace('_', '-')}: {found.pop(key)!r} has the wrong shape; give {what}")
    return found


def _is_plain(value: Any, row: Option) -> bool:
    many = value if row.several and isinstance(value, list) else [value]
    return bool(many) and not any(isinstance(one, list | dict) for one in many)


def _find(
    name: str,
    row: Option,
    flags: Mapping[str, list[str] | None],
    environment: Mapping[str, str],
    from_file: Mapping[str, Any],
    path: str,
) -> tuple[str, list[str] | None]:
    given = flags.get(name)
    if given is not None:
        return flag(name), given
    if environment.get(variable(name)):
        text = environment[variable(name)]
        return variable(name), text.split(os.pathsep) if row.several else [text]
    if name in from_file:
        value = from_file[name]
        many = value if isinstance(value, list) else [value]
        return f"{path}: {name.replace('_', '-')}", [
            str(one).lower() if isinstance(one, bool) else str(one) for one in many
        ]
    return "", None


def _parse_into(
    values: dict[str, Any], name: str, row: Option, where: str, texts: list[str], problems: list[str]
) -> None:
    parsed = []
    if len(texts) > 1 and not row.several:
        texts = texts[-1:]
    for text in texts:
        try:
            parsed.append(row.parse(text))
        except ValueError as error:
            problems.append(f"{where}: {text!r} {error}")
    values[name] = tuple(parsed) if row.several else (parsed[0] if parsed else None)


def _cross_check(values: Mapping[str, Any], command: str) -> Iterable[str]:
    """Directories that would eat each other, before anything is touched."""
    named = [("--data", values["data"]), ("--log", values["log"]), ("--state", values["state"])]
    if command in INTAKE:
        named += [("--incoming", one) for one in values["incoming"]]
    # Links are followed: what is published through one would arrive again, for ever.
    named = [(option, os.path.realpath(path)) for option, path in named]
    for index, (first, path) in enumerate(named):
        for second, other in named[index + 1 :]:
            if path == other:
                yield f"{second}: '{other}' is also {first}; give each its own directory"
            elif _inside(path, other) or _inside(other, path):
                inner, outer = (first, second) if _inside(path, other) else (second, first)
                yield f"{inner}: lies inside {outer} ('{path}', '{other}'); put them side by side"


def _inside(path: str, parent: str) -> bool:
    return path.startswith(parent.rstrip("/") + "/")

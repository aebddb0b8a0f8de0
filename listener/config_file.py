"""The TOML file of options: which one counts, whether it may be trusted, and what it says."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from listener.config import ENVIRONMENT_PREFIX, STAGES, Option, options, variable
from listener.errors import ConfigError
from listener.hook_config import of_tables
from listener.parse import closest
from listener.planning.names import printable

#: The file's name where one is looked for.
NAME = "listener.toml"

#: Where the administrator's is.
SYSTEM = "/etc/listener.toml"


def find(given: str | None, environment: Mapping[str, str]) -> str:
    """Return the path of the file that counts: the one that --config or LISTENER_CONFIG names, or the first there is of
    ./listener.toml, $XDG_CONFIG_HOME/listener.toml (~/.config) and /etc/listener.toml; "" without any.

    Raises ConfigError where one was found that somebody else could have written.
    """
    named = given or environment.get(variable("config"))
    if named:
        return named
    for path in _places(environment):
        if os.path.exists(path):
            why = "" if path == SYSTEM else _distrust(path)
            if why:
                remedy = "name it with --config if you trust it, or work in another directory"
                raise ConfigError(
                    [f"{printable(path)} was found, but {why}, and it may name programs to run; {remedy}"]
                )
            return path
    return ""


def _places(environment: Mapping[str, str]) -> Iterable[str]:
    with suppress(OSError):  # The working directory was removed.
        yield os.path.join(os.getcwd(), NAME)
    home = environment.get("HOME", "")
    folder = environment.get("XDG_CONFIG_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    folder = folder if os.path.isabs(folder) else home and os.path.join(home, ".config")
    if os.path.isabs(folder):
        yield os.path.join(folder, NAME)
    yield SYSTEM


def _distrust(path: str) -> str:
    """Return why somebody else could have written a file, or put it there; "" if only this user and root could."""
    for status in (os.lstat(path), os.stat(path)):
        if status.st_uid not in (0, os.geteuid()):
            return f"it belongs to user {status.st_uid}"
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write it (mode {stat.S_IMODE(status.st_mode):04o})"
    mode = os.stat(os.path.dirname(path)).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return "everybody may replace it (the directory's mode)"
    return ""


def read(path: str, problems: list[str]) -> dict[str, Any]:
    """Return the values in a file, by field name, and `hooks`; append what is wrong with it to `problems`. Tables of
    stages are passed over.
    """
    table = _table(path, problems)
    hooks = of_tables(table.pop("hooks", {}), path, problems)
    ours = {key: value for key, value in table.items() if not (key in STAGES and isinstance(value, dict))}
    return {**_known(ours, options(), path, "run", problems), "hooks": hooks}


def read_table(path: str, stage: str, rows: Mapping[str, Option], problems: list[str]) -> dict[str, Any]:
    """Return the values in the table of a stage by field name; `rows` are its options. Append what is wrong with it to
    `problems`.
    """
    table = _table(path, []).get(stage, {})  # What else is wrong with the file read() has told.
    if isinstance(table, dict):
        return _known(table, rows, f"{path}: [{stage}]", stage, problems)
    problems.append(f"{path}: {stage}: {table!r} has the wrong shape; give a table [{stage}]")
    return {}


def _table(path: str, problems: list[str]) -> dict[str, Any]:
    import tomllib  # only where there is a file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        problems.append(f"--config: cannot read '{path}' ({error.strerror}); name a readable TOML file")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"--config: '{path}' is not TOML ({error}); mend that line")
    return {}


def _known(
    table: Mapping[str, Any], known: Mapping[str, Option], where: str, command: str, problems: list[str]
) -> dict[str, Any]:
    """Return the values of a table by field name; the problems are keys that `known` lacks, and wrong shapes."""
    values = {key.replace("-", "_"): value for key, value in table.items()}
    for key in values.keys() - known.keys():
        close = closest(key, known).replace("_", "-")
        hint = f"did you mean '{close}'?" if close else f"see 'listener {command} --help' for the names"
        problems.append(f"{where}: unknown key '{key.replace('_', '-')}'; {hint}")
    for key in [key for key in values.keys() & known.keys() if not _is_plain(values[key], known[key])]:
        what = "a list of one or more texts" if known[key].several else "one value"
        problems.append(f"{where}: {key.replace('_', '-')}: {values.pop(key)!r} has the wrong shape; give {what}")
    return values


def _is_plain(value: Any, row: Option) -> bool:
    many = value if row.several and isinstance(value, list) else [value]
    return bool(many) and not any(isinstance(item, list | dict) for item in many)


#: Variables with the prefix that are no options: what names the file, what a build sets, those of stages, and what
#: Kubernetes tells every pod of services whose name begins like that (LISTENER_PORT_9464_TCP_ADDR).
_NO_OPTIONS = (
    rf"{ENVIRONMENT_PREFIX}(?:CONFIG|REVISION|(?:{'|'.join(STAGES).upper()})_\w+|(?:\w+_)?SERVICE_(?:HOST|PORT)(?:_\w+)?"
    r"|(?:\w+_)?PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that looks like an option and is none."""
    known = {variable(name) for name in options()}
    given = {name for name in environment if name.startswith(ENVIRONMENT_PREFIX)}
    found = sorted(name for name in given - known if not re.fullmatch(_NO_OPTIONS, name))
    return [f"{printable(name)} is no option and does nothing; {_meant(name, known)}" for name in found]


def _meant(name: str, known: Iterable[str]) -> str:
    close = closest(name, known)
    return f"did you mean {close}?" if close else "'listener run --help' shows them all"

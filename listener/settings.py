"""Read the Config of one command from flags, environment and TOML, and validate it once.

Precedence: flag, then environment (``LISTENER_<NAME>``), then the file (``--config``), then the default. All
problems are reported together, each with the option, the value, what is wrong and what to do; nothing was touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from listener import config_file, cpu
from listener.config import HOOKS, INTAKE, MOST_SENDERS, SERVICE, Config, Option, defaults, flag, options, variable
from listener.errors import ConfigError
from listener.hook_config import HookConfig, clashes, header_fields_of, of_flags
from listener.parse import HoldsSecret
from listener.planning.names import printable


def load(
    flags: Mapping[str, list[str] | None],
    environment: Mapping[str, str],
    command: str = "run",
    path: str = "",
) -> Config:
    """Return the Config for `command`.

    `flags` maps field names to the texts given on the command line (None: not given), `path` names the file ("": none;
    config_file.find finds it). Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    from_file = config_file.read(path, problems) if path else {}
    values: dict[str, Any] = {"hooks": tuple(from_file.pop("hooks", ()))}
    sources = Sources(flags, environment, from_file, path)
    for name, row in options().items():
        where, texts = sources.find(name, row)
        if texts is None:
            values[name] = _default(name)
            problems += _default_problems(name, row, command)
        else:
            parse_into(values, name, row, where, texts, problems)
    if (
        not problems
        and command in INTAKE
        and values["batches"]
        and sources.find("incoming", options()["incoming"])[1] is None
    ):
        values["incoming"] = ()
    if not problems:
        problems += _cross_check(values, command)
    if problems:
        raise ConfigError(problems)
    values["workers"] = values["workers"] or cpu.available_processors()
    return Config(**values)


def is_given(name: str, flags: Mapping[str, list[str] | None], environment: Mapping[str, str], path: str) -> bool:
    """Return whether an option was given as a flag, a variable or a key of the file."""
    from_file = config_file.read(path, []) if path else {}
    return Sources(flags, environment, from_file, path).find(name, options()[name])[1] is not None


def _default(name: str) -> Any:
    value = defaults()[name]
    if name == "incoming":
        return tuple(os.path.abspath(path) for path in value)
    return os.path.abspath(value) if name in ("data", "log", "state") else value


def _default_problems(name: str, row: Option, command: str) -> Iterable[str]:
    """Yield what is wrong with a default directory: the working directory above it may have no UTF-8 name."""
    if name in ("data", "log", "state", "incoming") and command in row.commands:
        for text in defaults()[name] if row.several else (defaults()[name],):
            try:
                row.parse(text)
            except ValueError as error:
                yield f"{flag(name)}: {text!r} {error}"


class Sources(NamedTuple):
    """Where options come from: flags by field name, variables, and the values of the file at `path`. With a `stage`
    variables are called LISTENER_<STAGE>_<NAME>, and the values are those of its table.
    """

    flags: Mapping[str, list[str] | None]
    environment: Mapping[str, str]
    from_file: Mapping[str, Any]
    path: str = ""
    stage: str = ""

    def find(self, name: str, row: Option) -> tuple[str, list[str] | None]:
        """Return where an option is given, as people read it, and its texts; None if it is given nowhere."""
        given = self.flags.get(name)
        if given is not None:
            return flag(name), given
        named = variable(f"{self.stage}_{name}" if self.stage else name)
        if self.environment.get(named):
            text = self.environment[named]
            return named, text.split(row.divider) if row.several else [text]
        if name in self.from_file:
            value = self.from_file[name]
            many = value if isinstance(value, list) else [value]
            table = f"[{self.stage}] " if self.stage else ""
            return f"{self.path}: {table}{name.replace('_', '-')}", [
                str(item).lower() if isinstance(item, bool) else str(item) for item in many
            ]
        return "", None


def parse_into(
    values: dict[str, Any], name: str, row: Option, where: str, texts: list[str], problems: list[str]
) -> None:
    """Put what `texts` say into `values`, and what is wrong with them, given at `where`, into `problems`."""
    parsed = []
    if len(texts) > 1 and not row.several:
        texts = texts[-1:]
    for text in texts:
        try:
            parsed.append(row.parse(text))
        except ValueError as error:
            shown = repr(text) if printable(text) == text else f"'{printable(text)}'"
            if isinstance(error, HoldsSecret):
                shown = "the value"
            problems.append(f"{where}: {shown} {error}")
    values[name] = tuple(parsed) if row.several else (parsed[0] if parsed else None)


def _cross_check(values: Mapping[str, Any], command: str) -> Iterable[str]:
    """Yield directories that are equal or lie in one another, secrets that cannot be used, and too many senders."""
    if command in HOOKS:
        yield from _secret_problems("--hook-secret-file", values["hook_secret_file"])
        yield from _hook_problems(values["hooks"])
        yield from clashes([*of_flags(values), *values["hooks"]])
    if command in SERVICE:
        yield from _access_problems(values)
    if len(set(values["watch_sender"])) > MOST_SENDERS:
        yield f"--watch-sender: names more than {MOST_SENDERS} senders; leave some out: each costs Prometheus a series"
    named = [("--data", values["data"]), ("--log", values["log"]), ("--state", values["state"])]
    if command in INTAKE:
        named += [("--incoming", path) for path in values["incoming"]]
        named += [("--batches", path) for path in values["batches"]]
    # Links are followed: what is published through one would arrive again without end.
    named = [(option, os.path.realpath(path)) for option, path in named]
    for index, (first, path) in enumerate(named):
        for second, other in named[index + 1 :]:
            if path == other:
                yield f"{second}: '{other}' is also {first}; give each its own directory"
            elif _inside(path, other) or _inside(other, path):
                inner, outer = (first, second) if _inside(path, other) else (second, first)
                yield f"{inner}: lies inside {outer} ('{path}', '{other}'); put them side by side"


def _secret_problems(option: str, path: str) -> Iterable[str]:
    """Yield why the key file cannot be used: else receivers would refuse each message later."""
    if not path:
        return
    try:
        with open(path, "rb") as file:
            if not file.read().strip():
                yield f"{option}: '{path}' is empty; put the HMAC key into it"
    except OSError as error:
        yield f"{option}: cannot read '{path}' ({error.strerror}); name a file that holds the HMAC key"


def _hook_problems(hooks: Iterable[HookConfig]) -> Iterable[str]:
    for hook in hooks:
        yield from _secret_problems(f"{hook.option}: secret-file", hook.secret_file)
        where = f"{hook.option}: headers-from"
        try:
            if hook.headers_file:
                with open(hook.headers_file, encoding="latin-1") as file:
                    header_fields_of(file.read())
        except OSError as error:
            yield f"{where}: cannot read '{hook.headers_file}' ({error.strerror}); name a file of lines 'Name: value'"
        except ValueError as error:
            yield f"{where}: of '{hook.headers_file}' {error}; give lines 'Name: value'"


def _access_problems(values: Mapping[str, Any]) -> Iterable[str]:
    """Yield why tokens or certificates of the HTTP port cannot be used."""
    if values["token_file"]:
        from listener.telemetry.access import read_tokens  # Imported where it is needed, as is the next.

        yield from (f"--token-file: '{values['token_file']}' {text}" for text in read_tokens(values["token_file"])[1])
    cert, key, client_ca = values["http_cert"], values["http_key"], values["http_client_ca"]
    if values["page"] == "phi" and not (values["http"].startswith("unix:") or values["token_file"] or client_ca):
        yield "--page phi: shows patients to whoever asks; give --token-file, --http-client-ca or --http unix:PATH too"
    if cert:
        from listener.telemetry.tls import Tls

        try:
            Tls(cert, key or cert, client_ca)
        except ValueError as error:
            yield str(error)
    for option, path in (("--http-key", key), ("--http-client-ca", client_ca)):
        if path and not cert:
            yield f"{option}: '{path}' is of no use without --http-cert; give both, or none"


def _inside(path: str, parent: str) -> bool:
    return path.startswith(parent.rstrip("/") + "/")

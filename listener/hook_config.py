"""Hooks as they are configured: by flags, and by tables [hooks.NAME] of the TOML file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from listener import parse
from listener.ledger.interests import EVENTS, RESULTS, SERIES_EVENTS, STUDY_EVENTS, Interest

#: What `listener hooks` takes for a deed where a name may stand.
DEEDS = ("test", "redeliver", "retire", "forget")

#: What a hook may be called.
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def require_name(name: str, whose: str) -> None:
    """Raise ValueError that says what to give, if a hook or another consumer (`whose`) cannot be called `name`."""
    if not NAME.fullmatch(name) or name in DEEDS:
        raise ValueError(f"{name!r} is no name for a {whose}; give small letters, digits and -, and none of {DEEDS}")


class HookConfig(NamedTuple):
    """A hook: either a `url` or a `command`. `wants` is what it is told; `timeout` the seconds of an attempt (0: as its
    kind has it); `option` the flag or table that it comes from.
    """

    name: str
    url: str = ""
    command: str = ""
    wants: Interest = Interest(EVENTS)
    headers_file: str = ""
    secret_file: str = ""
    timeout: float = 0.0
    option: str = ""


class _Flag(NamedTuple):
    """A flag that may be repeated: the first hook of it is called `name`, the second `name`-2."""

    name: str
    field: str
    events: tuple[str, ...]


_FLAGS = (
    _Flag("webhook", "on_series_complete", SERIES_EVENTS),
    _Flag("exec", "on_series_complete_exec", SERIES_EVENTS),
    _Flag("study-webhook", "on_study_complete", STUDY_EVENTS),
    _Flag("study-exec", "on_study_complete_exec", STUDY_EVENTS),
)

#: Field names of the options that hooks of flags are made of.
OPTIONS = ("hook_secret_file", *(flag.field for flag in _FLAGS))

#: Names of the hooks of ledgers that did not know yet which listener serves a hook.
OLDEST_NAMES = tuple(flag.name for flag in _FLAGS[:2])


def of_flags(values: Mapping[str, Any]) -> list[HookConfig]:
    """Return the hooks that flags ask for, from the values of options by field name."""
    found = []
    for flag in _FLAGS:
        kind = "command" if flag.field.endswith("_exec") else "url"
        given = [text for text in values[flag.field] if text]
        for number, text in enumerate(given, 1):
            name = flag.name if number == 1 else f"{flag.name}-{number}"
            hook = HookConfig(name, wants=Interest(flag.events), secret_file=values["hook_secret_file"])
            found.append(hook._replace(**{kind: text, "option": "--" + flag.field.replace("_", "-")}))
    return found


# -- tables ------------------------------------------------------------------------------------------------------------


def _modality(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", text):
        raise ValueError("is no modality; give one such as CT")
    return text


def _sender(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 64:
        raise ValueError("is no calling AE title; give one, with * and ? where it may differ")
    return text


#: Key -> its parser, and whether it may be a list.
KEYS: dict[str, tuple[Callable[[str], Any], bool]] = {
    "url": (parse.url, False),
    "exec": (parse.words, False),
    "events": (parse.choice(*EVENTS), True),
    "modality": (_modality, True),
    "sender": (_sender, True),
    "result": (parse.choice(*RESULTS), True),
    "headers-from": (parse.file, False),
    "secret-file": (parse.file, False),
    "timeout": (parse.seconds(0.1), False),
}


def of_tables(tables: Any, path: str, problems: list[str]) -> list[HookConfig]:
    """Return the hooks of the tables below `hooks` in the file at `path`; add what is wrong to `problems`."""
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        problems.append(f"{path}: hooks: has the wrong shape; give a table a hook, such as [hooks.archive]")
        return []
    found = [_of_table(name, table, f"{path}: [hooks.{name}]", problems) for name, table in tables.items()]
    return [hook for hook in found if hook]


def _of_table(name: str, table: Mapping[str, Any], where: str, problems: list[str]) -> HookConfig | None:
    before = len(problems)
    try:
        require_name(name, "hook")
    except ValueError as error:
        problems.append(f"{where}: {error}")
    values: dict[str, Any] = {}
    for key, value in ((key.replace("_", "-"), value) for key, value in table.items()):
        if key in KEYS:
            values[key] = _value(key, value, f"{where}: {key}", problems)
        else:
            problems.append(f"{where}: unknown key '{key}'; there are {', '.join(KEYS)}")
    if bool(values.get("url")) == bool(values.get("exec")) and len(problems) == before:
        problems.append(f"{where}: give it either a url or an exec")
    if len(problems) > before:
        return None
    lists = [tuple(values.get(key, ())) for key in ("events", "modality", "sender", "result")]
    return HookConfig(
        name,
        values.get("url", ""),
        values.get("exec", ""),
        Interest(lists[0] or EVENTS, *lists[1:]),
        values.get("headers-from", ""),
        values.get("secret-file", ""),
        values.get("timeout", 0.0),
        f"[hooks.{name}]",
    )


def _value(key: str, value: Any, where: str, problems: list[str]) -> Any:
    read, several = KEYS[key]
    many = value if several and isinstance(value, list) else [value]
    parsed = []
    for one in many:
        if isinstance(one, bool | list | Mapping):
            problems.append(f"{where}: has the wrong shape; give {'a list of texts' if several else 'one value'}")
            continue
        try:
            parsed.append(read(str(one)))
        except ValueError as error:
            problems.append(f"{where}: {str(one)!r} {error}")
    return parsed if several else (parsed[0] if parsed else None)


def clashes(hooks: Sequence[HookConfig]) -> Iterator[str]:
    """Yield each name that two hooks have: what waits for one would be delivered to the other."""
    first: dict[str, HookConfig] = {}
    for hook in hooks:
        other = first.setdefault(hook.name, hook)
        if other is not hook:
            yield f"{hook.option}: '{hook.name}' is also the hook of {other.option}; give it another name"


# -- header fields -----------------------------------------------------------------------------------------------------

#: Header fields that a request has already, or that say how it is sent.
_OURS = r"content-(length|type)|host|connection|transfer-encoding|expect|idempotency-key|webhook-.*"
_FIELD = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\xa0-\xff]*?)[ \t]*"


def header_fields_of(text: str) -> dict[str, str]:
    """Return the header fields in a file of lines `Name: value` (RFC 9110 section 5); empty lines and those that begin
    with # say nothing. Raises ValueError, whose text names the line and nothing that stands in it: a password, perhaps.
    """
    found = {}
    for number, line in _lines(text):
        match = re.fullmatch(_FIELD, line)
        if not match:
            raise ValueError(f"line {number} is not 'Name: value'")
        if re.fullmatch(_OURS, match[1].lower()):
            raise ValueError(f"line {number} sets a header field that is set already")
        found[match[1]] = match[2]
    return found


def _lines(text: str) -> Iterable[tuple[int, str]]:
    return [
        (number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")
    ]

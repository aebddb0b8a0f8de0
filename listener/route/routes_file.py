"""PURE. The routes file (TOML): workers, destinations, routes and what is inside; all of its problems at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from listener import parse
from listener.dicom.attributes import is_keyword
from listener.errors import ConfigError

#: Names are labels of metrics and words of the command line.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}", re.IGNORECASE)

PRIORITIES = ("high", "normal", "low")


class TlsFiles(NamedTuple):
    """Files in PEM: who may have signed the peer's certificate, and our certificate with its key ("": none)."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Target(NamedTuple):
    """A worker or a destination: a DICOM peer, or (a destination) another collection's incoming `directory`.

    `aet` is the called AE title, `calling` ours. `associations` may be open at once; `response` is how many seconds it
    may take to answer. Of a worker: `weight` is its share of studies, `returns_as` the AE titles under which its
    results come, `aet` if none is given.
    """

    name: str
    is_worker: bool
    host: str = ""
    port: int = 0
    aet: str = ""
    calling: str = "LISTENER"
    associations: int = 1
    response: float = 15.0
    tls: TlsFiles | None = None
    weight: float = 1.0
    returns_as: tuple[str, ...] = ()
    directory: str = ""


class Route(NamedTuple):
    """What goes where. An instance matches when it came into `root` ("": any; the directory's last part, or its whole
    path) from a calling AE title that one of `sender` fits (none: any; `*` and `?` as in a shell), and has for each
    keyword of `only` one of the values. `workers`: one of them gets a study; `results`, `copies`: destinations.
    """

    name: str
    root: str = ""
    sender: tuple[str, ...] = ()
    only: tuple[tuple[str, tuple[str, ...]], ...] = ()
    workers: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    priority: str = "normal"


class Routes(NamedTuple):
    """The whole file. `targets` are workers and destinations by name, in the order of the file; `inside` are incoming
    directories (as Route.root) into which workers send results.
    """

    targets: Mapping[str, Target]
    routes: Mapping[str, Route]
    inside: tuple[str, ...] = ()


# -- values ------------------------------------------------------------------------------------------------------------

Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not a text; give one between quotes")
    return value


def _texts(read: Callable[[str], Any]) -> Reader:
    def of(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError('is not a list; give one or more texts, such as ["a", "b"]')
        return tuple(read(_text(one)) for one in value)

    return of


def _number(least: float, most: float, *, whole: bool = False) -> Reader:
    kind = "a whole number" if whole else "a number"

    def of(value: Any) -> Any:
        fits = isinstance(value, int) or (isinstance(value, float) and not whole)
        if not fits or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"is not {kind} from {least:g} to {most:g}; give one")
        return value

    return of


def _peer(value: Any) -> tuple[str, int]:
    host, colon, port = _text(value).rpartition(":")
    digits = port if port.isascii() and port.isdigit() else "0"
    if not colon or not host or not 1 <= int(digits) <= 65535 or not host.isascii() or not host.isprintable():
        raise ValueError('is not HOST:PORT; give one such as "10.1.0.11:11112"')
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError('has an IPv6 address without brackets; give one such as "[fd00::1]:104"')
    return host.strip("[]"), int(digits)


def _title(value: Any) -> str:
    return parse.ae_title(_text(value))


def _directory(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("is not a whole path; give one that begins with a slash")
    return parse.directory(text)


def _tls(value: Any) -> TlsFiles:
    if not isinstance(value, dict) or value.keys() - set(TlsFiles._fields):
        raise ValueError('is no table of ca, cert and key; give one such as { ca = "/etc/tls/ca.pem" }')
    files = TlsFiles(**{name: parse.file(_text(path)) for name, path in value.items()})
    if files.key and not files.cert:
        raise ValueError("has a key without cert; give both, or neither")
    return files


def _only(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict) or not value:
        raise ValueError('is no table of keywords; give one such as { Modality = ["CT"] }')
    for keyword in value:
        if not is_keyword(keyword):
            raise ValueError(f"has '{keyword}', which is no keyword of DICOM; give one such as Modality")
    return tuple((keyword, _texts(str)(values)) for keyword, values in value.items())


def _choice(*words: str) -> Reader:
    read = parse.choice(*words)
    return lambda value: read(_text(value))


_NAMES = _texts(str)
_TARGET: dict[str, Reader] = {
    "address": _peer,
    "aet": _title,
    "calling": _title,
    "associations": _number(1, 64, whole=True),
    "response": _number(1, 3600),
    "tls": _tls,
}
_WORKER = _TARGET | {"weight": _number(0.01, 1000), "returns-as": _texts(parse.ae_title)}
_DESTINATION = _TARGET | {"directory": _directory}
_ROUTE: dict[str, Reader] = {
    "root": _text,
    "sender": _texts(parse.ae_title),
    "only": _only,
    "workers": _NAMES,
    "results": _NAMES,
    "copies": _NAMES,
    "priority": _choice(*PRIORITIES),
}
_INSIDE: dict[str, Reader] = {"roots": _NAMES}
_TABLES = {"workers": _WORKER, "destinations": _DESTINATION, "routes": _ROUTE}

# -- the file ----------------------------------------------------------------------------------------------------------


def read(text: str) -> Routes:
    """Return what a routes file says. Raises ConfigError with every problem, each with what to do about it."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"it is not TOML ({error}); mend that line"]) from None
    return checked(file)


def checked(file: Mapping[str, Any]) -> Routes:
    """Return what the tables of a routes file say. Raises ConfigError as read()."""
    problems = [
        f"unknown table [{name}]; give {', '.join(f'[{one}]' for one in (*_TABLES, 'inside'))}"
        for name in file.keys() - {*_TABLES, "inside"}
    ]
    tables = {kind: dict(_entries(kind, file.get(kind, {}), problems)) for kind in _TABLES}
    inside = _fields("[inside]", file.get("inside", {}), _INSIDE, problems).get("roots") or ()
    targets: dict[str, Target] = {}
    for kind in ("workers", "destinations"):
        for name, values in tables[kind].items():
            where = f"[{kind}.{name}]"
            problems += [f"{where}: {problem}" for problem in _missing(values)]
            if name in targets:
                problems.append(f"{where}: there is a worker of this name; give each its own")
            targets.setdefault(name, _target(name, values, is_worker=kind == "workers"))
    found = Routes(targets, {name: Route(name, **_given(values)) for name, values in tables["routes"].items()}, inside)
    problems += _clashes(targets)
    for name, values in tables["routes"].items():
        problems += [f"[routes.{name}]: {problem}" for problem in _route_problems(found, found.routes[name], values)]
    if problems:
        raise ConfigError(sorted(problems))
    return found


def _entries(kind: str, table: Any, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a table of tables, as far as they can be used."""
    if not isinstance(table, dict):
        problems.append(f"{kind}: is no table; write [{kind}.NAME]")
        return
    for name, entry in table.items():
        where = f"[{kind}.{name}]"
        if not _NAME.fullmatch(name):
            problems.append(
                f"{where}: the name has more than letters, digits, '.', '_' and '-', or than 40 of them; rename it"
            )
        elif not isinstance(entry, dict):
            problems.append(f"{kind}: '{name}' is no table; write {where}")
        else:
            yield name, _fields(where, entry, _TABLES[kind], problems)


def _fields(where: str, table: Any, readers: Mapping[str, Reader], problems: list[str]) -> dict[str, Any]:
    """Return the values of a table by key; the problems are unknown keys and values that cannot be used."""
    if not isinstance(table, dict):
        problems.append(f"{where}: is no table; write it as one")
        return {}
    values: dict[str, Any] = {}
    for key, value in table.items():
        reader = readers.get(key)
        if reader is None:
            close = parse.closest(key, readers)
            hint = f"did you mean '{close}'?" if close else f"give {', '.join(readers)}"
            problems.append(f"{where}: unknown key '{key}'; {hint}")
            continue
        try:
            values[key] = reader(value)
        except ValueError as error:
            problems.append(f"{where}: {key}: {value!r} {error}")
            values[key] = None  # It is there: nothing else is missing.
    return values


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can be used, by field name."""
    return {key.replace("-", "_"): value for key, value in values.items() if value is not None}


def _target(name: str, values: Mapping[str, Any], *, is_worker: bool) -> Target:
    fields = _given(values)
    host, port = fields.pop("address", ("", 0))
    return Target(name, is_worker, host, port, **fields)


# -- what single values do not tell ------------------------------------------------------------------------------------


def _missing(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is missing in, or too much for, a worker or a destination."""
    if "directory" in values:
        for key in sorted(values.keys() - {"directory"}):
            yield f"{key}: means nothing beside directory; leave one of them out"
        return
    for key, example in (("address", "10.1.0.11:11112"), ("aet", "GPU1")):
        if key not in values:
            yield f'{key} is missing; give one such as {key} = "{example}"'


def _clashes(targets: Mapping[str, Target]) -> Iterator[str]:
    """Yield workers that are one: its studies would be counted twice, and a failover would change nothing."""
    first: dict[tuple[str, int], str] = {}
    for target in targets.values():
        if target.is_worker and target.port:
            other = first.setdefault((target.host.lower(), target.port), target.name)
            if other != target.name:
                yield f"[workers.{target.name}]: has the address of worker '{other}'; give each its own"


def _route_problems(found: Routes, route: Route, values: Mapping[str, Any]) -> Iterator[str]:
    if "root" not in values and "sender" not in values:
        yield "neither root nor sender says what comes this way; give one of them, or both"
    if "workers" not in values and "copies" not in values:
        yield "neither workers nor copies says where it goes; give one of them, or both"
    workers = [name for name, target in found.targets.items() if target.is_worker]
    destinations = [name for name, target in found.targets.items() if not target.is_worker]
    yield from _unknown("workers", route.workers, workers)
    yield from _unknown("results", route.results, destinations)
    yield from _unknown("copies", route.copies, destinations)
    if route.results and "workers" not in values:
        yield "results: nobody makes any without workers; give workers, or leave results out"
    if route.results and not found.inside:
        yield "results: no incoming directory is for what workers send; give [inside] with roots"
    if any(is_root(route.root, inside) or is_root(inside, route.root) for inside in found.inside if route.root):
        yield f"root: '{route.root}' is where workers send results to ([inside]); give another one"


def _unknown(key: str, names: Iterable[str], known: list[str]) -> Iterator[str]:
    kind = "worker" if key == "workers" else "destination"
    for name in names:
        if name not in known:
            close = parse.closest(name, known)
            hint = f"did you mean '{close}'?" if close else f"write [{kind}s.{name}]"
            yield f"{key}: there is no {kind} '{name}'; {hint}"


# -- what an arrival matches -------------------------------------------------------------------------------------------


def is_root(named: str, root: str) -> bool:
    """Return whether an incoming directory is the one that is named, by its last part or its whole path."""
    return named.rstrip("/") in (root.rstrip("/"), root.rstrip("/").rpartition("/")[2])


def matching(found: Routes, root: str, sender: str, value_of: Callable[[str], str]) -> list[Route]:
    """Return the routes of an instance that came from `sender` into `root`, in the order of the file. `value_of`
    returns the value of a keyword; it is asked only where a route has `only`.
    """
    return [
        route
        for route in found.routes.values()
        if (not route.root or is_root(route.root, root))
        and (not route.sender or any(fnmatchcase(sender, pattern) for pattern in route.sender))
        and all(value_of(keyword) in values for keyword, values in route.only)
    ]


def is_inside(found: Routes, root: str) -> bool:
    """Return whether workers send results into this incoming directory."""
    return any(is_root(named, root) for named in found.inside)

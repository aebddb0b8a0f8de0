"""Write docs/configuration.md and docs/metrics.md from the code: `make docs` (a test holds that they are up to date)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from listener import catalogue, cli, config

HERE = Path(__file__).resolve().parent

_MARK = "<!-- Written by docs/generate.py from the code: change that, and run `make docs`. -->"

_INTRODUCTION = """\
# Configuration

Every option can be given in three places. The first that has it wins:

1. the **flag** on the command line, such as `--min-free 5GiB`;
2. the **environment variable**, such as `LISTENER_MIN_FREE=5GiB`;
3. the **key of a TOML file**, such as `min-free = "5GiB"`, where `--config FILE` or `LISTENER_CONFIG` names the file.

Otherwise the default holds. Without any option a command works below `./dicom`.

All problems are reported at once, each with the option, the value, what is wrong and what to do; the command then ends
with status 2 before anything was touched. An unknown flag or TOML key is such a problem; an unknown environment
variable is ignored, and an empty one counts as not given. A flag that is given twice counts with its last value, but for
`--incoming`, which adds a directory each time.

`listener check` takes all of the options and says whether they are going to work; `listener COMMAND --help` shows those
of one command.
"""

_VALUES = """\
## Values

| kind | what may be given |
|---|---|
| `DIR` | a directory, made where it is missing; relative to the current directory. The four kinds must not lie within each other |
| several directories | the flag again for each; in the environment separated by `:`, in TOML a list |
| `SECONDS` | a number, with a fraction where wanted |
| `SIZE` | bytes, or a number with a unit: `kB MB GB TB` (powers of 1000) or `KiB MiB GiB TiB` (powers of 1024) |
| `MODE` | permissions in octal, such as `0640`; they hold whatever the umask |
| `TEMPLATE` | see [the template language](layouts-and-logs.md#templates) |
| `ADDR:PORT` | `127.0.0.1:9464`, `[::]:9464`, `:9464` (every address), port `0` (any that is free; the `ready` event tells it), or `off` |
| a switch | the flag takes no value; in the environment `1 true yes on` or `0 false no off`, in TOML also `true` and `false` |
"""

_EXAMPLE = """\
## A TOML file

Keys are the flags without the two dashes.

```toml
incoming = ["/srv/dicom/incoming", "/srv/dicom/incoming-research"]
data = "/srv/dicom/data"
log = "/srv/dicom/log"
state = "/srv/dicom/state"
layout = "px"
series-template = "%_pad|5,0_SeriesNumber-%SeriesDescription-%_seahash|7_SeriesInstanceUID"
workers = 4
http = "127.0.0.1:9464"
min-free = "20GiB"
file-mode = "0640"
dir-mode = "0750"
rescan = 1.5
phi = false
```

```sh
listener check --config listener.toml
listener run --config listener.toml
```
"""

_STATUSES = """\
## Exit statuses

| status | `run` | `once`, `repack` | `plan` | `check` | `verify` | `retry` |
|---|---|---|---|---|---|---|
| 0 | it was told to stop and did, also with a backlog left | every file was published, a duplicate, or superseding | every file can be repacked | it will work | no difference, or every one was repaired | all of them are back |
| 1 | it failed at run time, another listener owns incoming, or a second signal came | a file was set aside, or is left where it was | some file cannot be repacked | something is in the way | differences are left | a name or reason is unknown, or a file stayed |
| 2 | the configuration is wrong | the configuration is wrong | the configuration is wrong | the configuration is wrong | the configuration is wrong | the configuration is wrong, or nothing is selected |

`listener` without a command prints its help and ends with 2. A command other than `run` that Ctrl-C ends has status 130.
"""

_ENVIRONMENT = """\
## Environment notes

- `LISTENER_CONFIG` names the TOML file, as `--config` does. `LISTENER_REVISION` is shown as the label `revision` of the
  metric `listener_build_info`; a build sets it.
- `LISTENER_INCOMING` holds several directories separated by `:`, as `PATH` does; a directory whose name has a `:` in it
  must be given by flag or TOML.
- `--workers` is, when not given, the number of processors that the process may use: its affinity, and the smallest quota
  of its control groups, rounded.
- `repack` ignores `--state`, and with it `--on-conflict`, unless `--state` or `LISTENER_STATE` is given; see
  [`listener repack`](migration.md#listener-repack).
- `TCP_NODELAY=1` is no setting of the listener: DCMTK's programs want it in their environment, at both ends, see
  [deployment](deployment.md#storescp).
"""


def configuration() -> str:
    """The text of docs/configuration.md."""
    return "\n".join(
        [
            _MARK,
            "",
            _INTRODUCTION,
            "## Options",
            "",
            *_options(),
            "",
            "`--config FILE` (`LISTENER_CONFIG`) belongs to every command and is no key of the file that it names.",
            "",
            "## Options of one command only",
            "",
            "These are flags alone, without an environment variable or key.",
            "",
            *_own_flags(),
            "",
            _VALUES,
            _EXAMPLE,
            _STATUSES,
            _ENVIRONMENT,
        ]
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = tuple(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _options() -> Iterator[str]:
    defaults = config.defaults()
    rows = []
    for name, row in config.options().items():
        flag = config.flag(name) if row.is_switch else f"{config.flag(name)} {row.metavar}"
        unit = row.unit or {"SIZE": "bytes"}.get(row.metavar, "")
        spelled = (f"`{flag}`", f"`{config.variable(name)}`", f"`{name.replace('_', '-')}`")
        rows.append((*spelled, _default(row, defaults[name]), unit, row.help, _commands(row.commands)))
    heads = ("flag", "environment variable", "TOML key", "default", "unit", "meaning", "commands")
    return _table(heads, rows)


def _default(row: config.Option, default: Any) -> str:
    if row.shown:
        return row.shown if " " in row.shown else f"`{row.shown}`"
    if row.is_switch:
        return "off"
    if isinstance(default, tuple):
        return " ".join(f"`{one}`" for one in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _commands(commands: frozenset[str]) -> str:
    every = parsers()
    return "all" if commands >= every.keys() else ", ".join(f"`{name}`" for name in every if name in commands)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by name, in the order of `listener --help`."""
    for action in cli._parser()._actions:  # noqa: SLF001 - argparse shows its parts in no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag that a parser takes, in every spelling."""
    return {spelling for action in parser._actions for spelling in action.option_strings}  # noqa: SLF001


def _own_flags() -> Iterator[str]:
    shared = {config.flag(name) for name in config.options()} | {"--config", "--help"}
    rows = []
    for command, parser in parsers().items():
        for action in parser._actions:  # noqa: SLF001
            spelled = action.option_strings
            if shared.isdisjoint(spelled):
                takes = action.metavar if action.nargs != 0 else None
                names = [f"`{one} {takes}`" if takes else f"`{one}`" for one in spelled] or [f"`{action.metavar}`"]
                rows.append((f"`{command}`", ", ".join(names), action.help or ""))
            elif len(spelled) > 1 and "--help" not in spelled:
                rows.append((f"`{command}`", ", ".join(f"`{one}`" for one in spelled[1:]), f"as `{spelled[0]}`"))
    return _table(("command", "flag or argument", "meaning"), rows)


_METRICS = """\
# Metrics

`listener run` shows them at `/metrics` of its HTTP port (`--http`), in the text format that every Prometheus reads. All
label values are closed sets, and every combination is there from the start, at zero. No label ever holds a UID, an AE
title, a path or a patient's value. Beside these, the page has the standard `process_*` metrics of the service's main
process (not of its workers).

The service alone has metrics; `once` and `repack` print a summary instead.
"""


def metrics() -> str:
    """The text of docs/metrics.md."""
    rows = [
        (f"`{row.full_name}`", row.kind, ", ".join(f"`{name}`" for name in row.label_names), row.help)
        for row in catalogue.rows()
    ]
    return "\n".join(
        [
            _MARK,
            "",
            _METRICS,
            "## Catalogue",
            "",
            *_table(("name", "type", "labels", "meaning"), rows),
            "",
            "Timestamps are in seconds since the epoch, durations in seconds, sizes in bytes.",
            "",
            "## Label values",
            "",
            *_table(("label", "of", "values"), _labels()),
            "",
            "## Buckets of the histograms",
            "",
            *_table(("name", "upper bounds (`le`), beside `+Inf`"), _buckets()),
            "",
        ]
    )


def _labels() -> Iterator[tuple[str, str, str]]:
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for row in catalogue.rows():
        for name, values in row.labels:
            found.setdefault((name, values), []).append(f"`{row.full_name}`")
    for (name, values), metrics_with_it in found.items():
        shown = ", ".join(f"`{value}`" for value in values) or "one value, from the build and the configuration"
        yield f"`{name}`", ", ".join(metrics_with_it), shown


def _buckets() -> Iterator[tuple[str, str]]:
    for row in catalogue.rows():
        if row.buckets:
            yield f"`{row.full_name}`", " ".join(f"{bound:.10g}" for bound in row.buckets)


DOCUMENTS = {"configuration.md": configuration, "metrics.md": metrics}


def main() -> int:
    """Write what is out of date, and name it."""
    for name, text in DOCUMENTS.items():
        path = HERE / name
        written = text()
        if not path.is_file() or path.read_text(encoding="utf-8") != written:
            path.write_text(written, encoding="utf-8")
            print(f"docs/{name} was written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write manual pages and shells' completions anew, from the parser of the command line: part of `make docs`.

They lie in docs/installed/share, which a wheel brings below its prefix. A test holds that they are up to date.
"""

# ruff: noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

import shtab

import listener
from listener import arguments, config, parse
from listener.reasons import SET_ASIDE_REASONS
from listener.verbs import summary

SHARE = Path(__file__).resolve().parent / "installed/share"

#: Where a shell looks for its completions.
COMPLETIONS = {
    "bash": "bash-completion/completions/listener",
    "zsh": "zsh/site-functions/_listener",
    "fish": "fish/vendor_completions.d/listener.fish",
}

#: What a shell offers for a metavar.
_OFFERED = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE, "PATH": shtab.FILE}

#: What roff would take for something else, or show as another sign.
_AS_IT_IS = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga"})

#: Characters of a line of source.
_WIDTH = 78

#: Command lines that a page shows, and what they do.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "run": (("listener run --config /etc/listener.toml", "Serve until a signal, as a unit of systemd does."),),
    "once": (("listener once --incoming /srv/dicom/incoming", "Repack what is there, and leave."),),
    "check": (("listener check --config /etc/listener.toml", "Say before the start what would be in the way."),),
    "plan": (("listener plan --layout px image.dcm", "Show where a file would go."),),
    "report": (
        ("listener report --since last-month --until last-month --by sender", "The accounts of the last month."),
        ("listener report --by month --by modality --csv", "All of it, for a spreadsheet."),
    ),
    "retry": (("listener retry --reason incomplete --sender CT1 --dry-run", "See what would go back into incoming."),),
    "prune": (("listener prune --set-aside 90 --reason superseded --yes", "Remove what was replaced 90 days ago."),),
    "set-aside": (("listener set-aside --sender CT1", "What of this sender could not be published, and why."),),
    "series": (("listener series --only incomplete --limit 0", "All series of which fewer instances came."),),
    "status": (("listener status --watch", "Watch it; q ends."),),
    "verify": (("listener verify --repair", "Compare tree, logs and ledger, and mend logs and ledger."),),
}


def files() -> dict[str, str]:
    """Every file below docs/installed/share, by path, with its text."""
    whole = arguments.parser()
    pages = {"listener": _page("", whole)}
    pages |= {f"listener-{name}": _page(name, parser) for name, parser in arguments.commands_of(whole).items()}
    manual = {f"man/man1/{name}.1": "\n".join(lines) + "\n" for name, lines in pages.items()}
    return manual | {path: shtab.complete(_completing(), shell=shell) for shell, path in COMPLETIONS.items()}


# -- completions -----------------------------------------------------------------------------------------------------


def _completing() -> argparse.ArgumentParser:
    """The parser, with what each value may be."""
    whole = arguments.parser()
    rows = {config.flag(name): row for name, row in config.options().items()}
    for command in arguments.commands_of(whole).values():
        command.epilog = ""
        for action in command._actions:  # noqa: SLF001
            row = rows.get(action.option_strings[0]) if action.option_strings else None
            if row and isinstance(row.parse, parse.Choice):
                action.choices = row.parse.words
            elif isinstance(action.choices, dict):  # shtab would take it for commands
                action.choices = list(action.choices)
            elif action.dest == "reasons":
                action.choices = SET_ASIDE_REASONS
            elif action.metavar in _OFFERED:
                action.complete = _OFFERED[action.metavar]  # type: ignore[attr-defined]
    return whole


# -- manual pages ----------------------------------------------------------------------------------------------------


def _page(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of the page of a command ("": of the program), in man(7)."""
    name = f"listener-{command}" if command else "listener"
    text = summary(command) if command else "DICOM intake that never loses a file."
    yield ".\\\" Made by `make docs` from the command line's parser."
    yield f'.TH {_roff(name.upper())} 1 "" "dicom\\-listener {listener.__version__}" "User Commands"'
    yield from (".SH NAME", f"{_roff(name)} \\- {_roff(_lowered(text))}")
    yield from (".SH SYNOPSIS", *_synopsis(command, parser))
    more, statuses = _epilog(parser.epilog or "")
    if command:
        yield from (".SH DESCRIPTION", _roff(text))
        yield from ([".PP", _roff(more)] if more else [])
        yield from _arguments(parser)
        yield from _statuses(statuses)
    else:
        yield from (".SH DESCRIPTION", _roff((parser.description or "") + " " + more))
        yield from _list_of_commands(parser)
    yield from _examples(command)
    yield from _surroundings()
    yield from _see_also(command)


def _synopsis(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    if not command:
        yield r"\fBlistener\fR [\fB\-V\fR] [\fB\-h\fR] \fICOMMAND\fR ..."
        return
    shown = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} ..."}
    places = [
        shown.get(action.nargs if isinstance(action.nargs, str) else None, "{}").format(
            rf"\fI{_roff(str(action.metavar))}\fR"
        )
        for action in parser._get_positional_actions()  # noqa: SLF001
    ]
    yield " ".join([rf"\fBlistener {_roff(command)}\fR", r"[\fIOPTION\fR ...]", *places])


def _epilog(text: str) -> tuple[str, list[str]]:
    """What an epilog says beside the exit statuses, as a sentence, and those: each begins with its number."""
    more, _, statuses = re.sub("exit status: ", "\0", text, flags=re.IGNORECASE).partition("\0")
    return _sentence(more), re.split(r"; (?=\d\b)", statuses) if statuses else []


def _lowered(text: str) -> str:
    text = text.removesuffix(".")
    return text if text[1].isupper() else f"{text[0].lower()}{text[1:]}"


def _sentence(text: str) -> str:
    text = text.strip(" ;.")
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()  # noqa: SLF001
    for title, actions in (
        ("ARGUMENTS", parser._get_positional_actions()),  # noqa: SLF001
        ("OPTIONS", parser._get_optional_actions()),  # noqa: SLF001
    ):
        if actions:
            yield f".SH {title}"
        for action in actions:
            value = action.metavar or "|".join(action.choices or ()) or action.dest.upper()
            takes = "" if action.nargs == 0 else rf" \fI{_roff(str(value))}\fR"
            names = [rf"\fB{_roff(name)}\fR{takes}" for name in action.option_strings]
            yield from (".TP", ", ".join(names) or takes.strip())
            yield _roff(formatter._expand_help(action) if action.help else "")  # noqa: SLF001


def _list_of_commands(whole: argparse.ArgumentParser) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name in arguments.commands_of(whole):
        yield from (".TP", rf"\fBlistener\-{_roff(name)}\fR(1)", _roff(summary(name)))


def _statuses(statuses: list[str]) -> Iterator[str]:
    if statuses:
        yield ".SH EXIT STATUS"
    for one in statuses:
        number, _, text = one.partition(" ")
        yield from (".TP", number, _roff(text or "it is done"))


def _examples(command: str) -> Iterator[str]:
    for number, (line, text) in enumerate(EXAMPLES.get(command, ())):
        yield ".PP" if number else ".SH EXAMPLES"
        yield from (_roff(text), ".PP", ".RS 4", ".nf", _roff(line), ".fi", ".RE")


def _surroundings() -> Iterator[str]:
    yield from (".SH ENVIRONMENT", ".TP", r"\fBLISTENER_\fINAME\fR")
    yield _roff(
        "Each option that has a default is also a variable: --min-free is LISTENER_MIN_FREE. A flag counts more, a "
        "file less. Several values are separated by colons."
    )
    yield from (".TP", r"\fBLISTENER_CONFIG\fR", _roff("The TOML file, as --config names it."))
    yield from (".SH FILES", ".TP", _roff("./listener.toml, ~/.config/listener.toml, /etc/listener.toml"))
    yield "Options, when no other file is named: the first of these that is there."


def _see_also(command: str) -> Iterator[str]:
    yield ".SH SEE ALSO"
    others = ["", "run", "check", "status"] if command else ["run", "once", "check", "status"]
    names = [f"listener-{name}" if name else "listener" for name in others if name != command]
    yield ",\n".join([*(rf"\fB{_roff(name)}\fR(1)" for name in names), r"\fBstorescp\fR(1)"])


def _roff(text: str) -> str:
    """Text that roff shows as it is, one sentence a line."""
    escaped = text.translate(_AS_IT_IS)
    sentences = re.split(r"(?<=[.:]) (?=[A-Z])", escaped)
    lines = [line for one in sentences for line in wrap(one, _WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)


def main() -> int:
    """Write what is out of date, and name it; remove what is not made any more."""
    made = files()
    for path, text in made.items():
        target = SHARE / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            print(f"docs/installed/share/{path} was written anew")
    for path in [path for path in SHARE.rglob("*") if path.is_file()]:
        if str(path.relative_to(SHARE)) not in made:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

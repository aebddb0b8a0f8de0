"""What the verbs of stages share: their words, running one, and how its consumers stand."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from listener.commands._table import write_json
from listener.errors import ConfigError
from listener.ledger.reader import reading
from listener.moments import moment_of, no_time
from listener.parse import closest
from listener.planning.names import printable
from listener.status import ledger_view

if TYPE_CHECKING:  # Whoever only looks does not load the service.
    from listener.stages.service import Stage

    class EndingStage(Stage, Protocol):
        """A stage that can be run until nothing is due."""

        @property
        def is_idle(self) -> bool:
            """Return whether nothing is due, or nothing that is can be done now."""


def check_word(verb: str, word: str, words: Sequence[str]) -> None:
    """Raise ConfigError unless `word` is one of the verb's `words`, or "" for its service."""
    if word and word not in words:
        close = closest(word, words)
        hint = f"did you mean {close}?" if close else f"give one of {', '.join(words)}, or none"
        raise ConfigError([f"{verb}: there is no '{word}'; {hint}"])


def run_stage(stage: EndingStage, state_dir: str, http: str, drain: float, *, once: bool) -> int:
    """Run a stage until a signal, or `once`: until nothing is due, without a port. Return its exit status, which is 1
    also where `once` left something undone. Raises StageOwned.
    """
    from listener.stages.service import StageService, StageSettings

    settings = StageSettings(state_dir, "off" if once else http, None, drain)
    status = StageService(stage, settings).run((lambda: stage.is_idle) if once else None)
    return int(bool(status) or not all_taken(state_dir, getattr(stage, "consumers", (stage.name,)))) if once else status


def all_taken(state_dir: str, names: Iterable[str]) -> bool:
    """Return whether these consumers are in the ledger, and nothing of theirs waits or was given up."""
    with reading(state_dir) as reader:
        rows = {row.name: row for row in reader.consumers()}
    return all(name in rows and not (rows[name].pending or rows[name].failed) for name in names)


def standings(state_dir: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how these consumers stand, by name, as hooks are shown."""
    with reading(state_dir) as reader:
        rows = {row.name: row for row in reader.consumers()}
    return {
        name: ledger_view.hook(rows[name]) if name in rows else {"name": name, "state": "never started"}
        for name in names
    }


def show_status(
    given: argparse.Namespace,
    find: Callable[[], dict[str, Any]],
    lines: Callable[[Mapping[str, Any]], Iterable[str]],
) -> int:
    """Print what `find` returns, as `lines` or with --json; with --watch anew each second until Ctrl-C. Return 0."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            found = find()
            if given.json:
                write_json([found])
            else:
                sys.stdout.writelines(lines(found))
                sys.stdout.flush()
            if not given.watch:
                break
            time.sleep(1.0)
            print()
    return 0


def since_of(text: str, default: int) -> int:
    """Return the moment that --since says, `default` for none. Raise ConfigError."""
    try:
        return moment_of(text, datetime.now(UTC)) if text else default
    except (ValueError, OverflowError):
        raise ConfigError([no_time("--since", printable(text))]) from None

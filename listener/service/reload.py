"""What of a configuration that was read again holds at once, and what waits for a restart."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple

from listener.config import Config, flag, options


class Reloaded(NamedTuple):
    """`config` holds from now on. `changed` names the options that differ from before, `waiting` those that differ and
    cannot change in place, as flags (`hooks`: the tables of the file).
    """

    config: Config
    changed: list[str]
    waiting: list[str]


def reloaded(old: Config, new: Config) -> Reloaded:
    """Return what holds from now on: of `new` what can change in place, of `old` the rest."""
    known = options()
    differing = [one.name for one in fields(Config) if getattr(old, one.name) != getattr(new, one.name)]
    in_place = [name for name in differing if name not in known or known[name].reloads]
    config = replace(old, **{name: getattr(new, name) for name in in_place})
    waiting = [_shown(name) for name in differing if name not in in_place]
    return Reloaded(config, [_shown(name) for name in in_place], waiting)


def _shown(name: str) -> str:
    return flag(name) if name in options() else name

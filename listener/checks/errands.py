"""What `listener check` asks of hooks: can the program be started, is what is posted signed, is the key a secret."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Iterator

from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config


def hooks(config: Config) -> Iterator[Finding]:
    """The hooks that are asked for. Nobody is told anything."""
    if config.on_series_complete:
        yield _posted(config)
    if config.hook_secret_file and stat.S_IMODE(os.stat(config.hook_secret_file).st_mode) & stat.S_IROTH:
        text = "everybody on this machine can read the key"
        yield Finding(NOTE, "--hook-secret-file", text, "take the permission away (chmod o-r)")
    program = next(iter(shlex.split(config.on_series_complete_exec)), "")
    if program and shutil.which(program) is None:
        text = f"'{program}' is not there, or may not be executed"
        yield Finding(PROBLEM, "--on-series-complete-exec", text, "give its whole path, and see its mode")
    elif program:
        yield Finding(OK, "--on-series-complete-exec", f"'{program}' can be started")


def _posted(config: Config) -> Finding:
    option = "--on-series-complete"
    if config.hook_secret_file:
        return Finding(OK, option, "what is posted is signed")
    text = "what is posted is not signed: its receiver cannot tell it from what others post"
    return Finding(NOTE, option, text, "give --hook-secret-file")

"""Checks of the directories of batches: can folders be read, renamed and removed; are their files copied."""

from __future__ import annotations

import os
from collections.abc import Iterator

from listener.checks.directories import directory
from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.disk.leases import work_in
from listener.disk.mounts import mount_of, private_dir, probe_moves

_OPTION = "--batches"


def folders(config: Config) -> Iterator[Finding]:
    """Check each directory of batches."""
    for root in config.batches:
        if not os.path.isdir(root):
            yield directory(_OPTION, root)
        elif not os.access(root, os.R_OK | os.X_OK):
            text = f"uid {os.geteuid()} cannot read '{root}' (owner: uid {os.stat(root).st_uid})"
            yield Finding(PROBLEM, _OPTION, text, "change its owner or mode, or run under a uid that may read it")
        elif not os.access(root, os.W_OK | os.X_OK):
            yield _only_read(config, root)
        else:
            yield Finding(OK, _OPTION, f"'{root}' can be read, and its folders renamed")
            yield from _in_it(config, root)


def _only_read(config: Config, root: str) -> Finding:
    if config.batch_source == "remove":
        text = f"'{root}' cannot be written: no folder could be removed"
        return Finding(PROBLEM, _OPTION, text, "let this user write there, or give --batch-source keep")
    text = f"'{root}' cannot be written: a folder with an error keeps its name, and is told once"
    return Finding(NOTE, _OPTION, text, "let this user write there to have it renamed to X.err")


def _in_it(config: Config, root: str) -> Iterator[Finding]:
    mount = mount_of(root)
    if mount is not None and mount.is_network and not config.poll:
        text = f"'{root}' is on a network file system ({mount.kind}): a rename by another machine is no event"
        yield Finding(NOTE, _OPTION, text, "a scan sees it if it saw both names; --batch-quiet finds the rest")
    elif not work_in(root):
        text = f"the kernel does not tell whether a file in '{root}' is still open for writing"
        yield Finding(NOTE, _OPTION, text, "rename a folder when it is whole: give it a name that ends in .tmp before")
    links = config.batch_source == "remove" and os.path.isdir(config.data)
    if links and not probe_moves(private_dir(root), private_dir(config.data)).links:
        text = f"files from '{root}' cannot be linked into the data directory (another mount): every byte is copied"
        yield Finding(NOTE, _OPTION, text, "mount one volume once, with both below it, to avoid the copy")

"""`listener check`: is this configuration going to work? One line a finding, with its remedy. Makes no directory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from listener import layouts
from listener.config import Config
from listener.directories import try_moves
from listener.errors import OwnedElsewhere
from listener.layouts import Layout
from listener.owner import Owner
from listener.probes import lease_supported

OK, NOTE, PROBLEM = "ok", "note", "problem"

_LIMITS = "/proc/sys/fs/inotify"


class Finding(NamedTuple):
    """One thing looked at: `level` is OK, NOTE (it works, with a cost) or PROBLEM; `remedy` is "" when none is
    needed.
    """

    level: str
    about: str
    text: str
    remedy: str = ""


def run(config: Config, as_json: bool) -> int:
    """Print every finding; 0 when nothing is in the way, else 1."""
    found = list(findings(config))
    for finding in found:
        if as_json:
            sys.stdout.buffer.write(orjson.dumps(finding._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        else:
            print(_line(finding))
    sys.stdout.flush()
    return 1 if any(finding.level == PROBLEM for finding in found) else 0


def _line(finding: Finding) -> str:
    colours = {OK: "\033[32m", NOTE: "\033[33m", PROBLEM: "\033[31m"} if sys.stdout.isatty() else {}
    level = f"{colours.get(finding.level, '')}{finding.level:8}{chr(27) + '[0m' if colours else ''}"
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{level} {finding.about}: {finding.text}{remedy}"


def findings(config: Config) -> Iterator[Finding]:
    """Everything that can be found out before a file arrives."""
    named = [*(("--incoming", path) for path in config.incoming), *_others(config)]
    usable = True
    for option, path in named:
        finding = _directory(option, path)
        usable &= finding.level == OK
        yield finding
    if usable:
        yield from _moves(config)
        yield from _leases(config)
        yield from _owners(config)
    for option, path in named:
        yield from _space(option, path, config.min_free)
    yield from _inotify(config)
    yield from _templates(config)


def _others(config: Config) -> list[tuple[str, str]]:
    return [("--data", config.data), ("--log", config.log), ("--state", config.state)]


def _directory(option: str, path: str) -> Finding:
    if not os.path.lexists(path):
        parent = _existing_parent(path)
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding(NOTE, option, f"'{path}' is not there yet and will be made")
        return Finding(
            PROBLEM, option, f"'{path}' is not there and cannot be made in '{parent}'", "make it, or give another"
        )
    if not os.path.isdir(path):
        return Finding(PROBLEM, option, f"'{path}' is not a directory", "give a directory")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        owner = os.stat(path).st_uid
        text = f"uid {os.geteuid()} cannot write in '{path}' (owner: uid {owner})"
        return Finding(PROBLEM, option, text, "run listener and storescp under one uid, or change its owner or mode")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return Finding(PROBLEM, option, f"'{path}' is mounted read-only", "mount it read-write")
    return Finding(OK, option, f"'{path}' can be written")


def _existing_parent(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _moves(config: Config) -> Iterator[Finding]:
    for root in config.incoming:
        if not try_moves(root, config.state).renames:
            text = f"files cannot be renamed from '{root}' into the state directory (another mount)"
            yield Finding(
                NOTE, "--state", text, f"claims will live in '{root}/.listener'; mount one volume once to avoid it"
            )
        if try_moves(root, config.data).links:
            yield Finding(OK, "--data", f"files from '{root}' are published by a link: no byte is copied")
        else:
            text = f"files from '{root}' cannot be linked into the data directory (another mount): every byte is copied"
            yield Finding(NOTE, "--data", text, "mount one volume once, with both below it, to avoid the copy")


def _leases(config: Config) -> Iterator[Finding]:
    if lease_supported(config.incoming):
        yield Finding(OK, "--incoming", "the kernel tells whether a file is still open for writing (leases)")
    else:
        text = f"no leases here: a file must be untouched for --settle {config.settle:g} s"
        yield Finding(NOTE, "--incoming", text, "use a local file system for incoming to be faster and surer")
    for root in config.incoming:
        foreign = _foreign_owner(root)
        if foreign >= 0:
            text = f"files there belong to uid {foreign}, this process is uid {os.geteuid()}: leases will be refused"
            yield Finding(NOTE, "--incoming", text, "run listener and storescp under one uid")


def _foreign_owner(root: str) -> int:
    if os.geteuid() == 0:
        return -1
    with os.scandir(root) as entries:
        for entry, _ in zip(entries, range(100), strict=False):
            owner = entry.stat(follow_symlinks=False).st_uid
            if owner != os.geteuid():
                return owner
    return -1


def _owners(config: Config) -> Iterator[Finding]:
    try:
        Owner(config.incoming, patience=0).close()
    except OwnedElsewhere as error:
        yield Finding(NOTE, "--incoming", str(error))


def _space(option: str, path: str, floor: int) -> Iterator[Finding]:
    parent = _existing_parent(path)
    free = shutil.disk_usage(parent).free
    if free < floor:
        text = f"{free / 2**30:.2f} GiB free is below --min-free {floor / 2**30:.2f} GiB: no work would be taken"
        yield Finding(PROBLEM, option, text, "make room, or lower --min-free")
    status = os.statvfs(parent)
    if status.f_files and status.f_favail < 1000:
        yield Finding(
            PROBLEM, option, f"only {status.f_favail} inodes are free", "remove small files, or use a larger volume"
        )


def _inotify(config: Config) -> Iterator[Finding]:
    if config.poll:
        return
    try:
        instances, watches, queued = (
            _limit(name) for name in ("max_user_instances", "max_user_watches", "max_queued_events")
        )
    except OSError:
        yield Finding(
            NOTE, "--poll", "this system has no inotify: sweeps alone find the files", "give --poll to say so"
        )
        return
    text = f"inotify: {instances} instances and {watches} watches a user, {queued} events queued"
    if instances < 8 or watches < 64:
        yield Finding(
            NOTE, "--poll", text, "raise fs.inotify.max_user_instances and max_user_watches; sweeps help until then"
        )
    else:
        yield Finding(OK, "--poll", text)


def _limit(name: str) -> int:
    with open(f"{_LIMITS}/{name}", encoding="ascii") as file:
        return int(file.read())


def _templates(config: Config) -> Iterator[Finding]:
    preset = layouts.choose(
        config.layout, config.root_template, config.study_template, config.series_template, config.image_template
    )
    layout = Layout(preset)
    # Two instances that differ in nothing but the SOP Instance UID must never meet on one path.
    values = dict.fromkeys(layout.keywords, "1")
    first, second = ({**values, "SOPInstanceUID": uid} for uid in ("1.2.3", "1.2.4"))
    if layout.place(first) == layout.place(second):
        text = "different instances would get one path: SOPInstanceUID is in no template"
        yield Finding(PROBLEM, "--image-template", text, "put %SOPInstanceUID into it")
    else:
        yield Finding(OK, "--layout", "every instance gets a path of its own")

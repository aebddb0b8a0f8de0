"""Make the table anew from manifests and tree: after parquet/ or the stage's state was lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import listener
from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk import files
from listener.errors import ConfigError
from listener.export import columns, keys, manifest, members, parquet
from listener.export.manifest import Entry, Manifest
from listener.export.members import Member
from listener.export.places import place_of
from listener.export.spool import Spool
from listener.export.table import PartRules, header_of
from listener.export.target import Target, held, whole
from listener.export.upload import Uploader
from listener.reasons import FileFault


def rebuild(target: Target, uploader: Uploader, spool: Spool, data_dir: str, rules: PartRules) -> Iterator[int]:
    """Write the table, and yield the rows of each part; what waited to be written is in it. Attributes of an instance
    that is not in the tree any more are empty. Raises ConfigError where a table is there, TargetFault, StageFault.
    """
    if next(iter(target.listed(keys.TABLES)), None):
        raise ConfigError([f"rebuild-parquet: {target.shown} has a table; remove all below {keys.TABLES}/ first"])
    day, part, count = "", list[Member](), 0
    for key, made, told in _members(target, data_dir, columns.keywords(rules.more)):
        if part and (count + made.instances > rules.rows or told.time[:10] != day):
            yield _write(uploader, day, part, rules)
            part, count = [], 0
        day, count = told.time[:10], count + made.instances
        part.append(made)
        spool.add(made, place_of(told, key, target.shown))
    if part:
        yield _write(uploader, day, part, rules)
    spool.forget_waiting()


def _members(target: Target, data_dir: str, keywords: tuple[str, ...]) -> Iterator[tuple[str, Member, Manifest]]:
    """Yield each manifest with its key, and what it adds to the one before it, by the days of the exports."""
    told = {key: manifest.parsed(whole(target.read(key))) for key, _ in target.listed(keys.MANIFESTS)}
    for key in sorted(told, key=lambda one: (told[one].time, one)):
        one = told[key]
        before = told.get(one.supersedes)
        earlier = manifest.by_content(before.entries if before else ())
        new = {
            identity: entry for identity, entry in manifest.by_content(one.entries).items() if identity not in earlier
        }
        values = {identity: _values(data_dir, entry, keywords) for identity, entry in new.items()}
        first = min(new.values(), key=lambda entry: entry.path, default=None)
        header = header_of(os.path.join(data_dir, first.path)) if first else ""
        if made := members.member_of(one, values, header):
            yield key, made, one


def _values(data_dir: str, entry: Entry, keywords: tuple[str, ...]) -> dict[str, str]:
    """Return the attributes of an instance; none where the file is gone, or is another one."""
    try:
        with files.opened(os.path.join(data_dir, entry.path)) as descriptor:
            if os.fstat(descriptor).st_size != entry.size:
                return {}
            header = read_header(descriptor, entry.size, Wanted.of(keywords), Limits())
    except (OSError, FileFault):
        return {}
    is_same = header.values.get("SOPInstanceUID", entry.SOPInstanceUID) == entry.SOPInstanceUID
    return {**header.values, "TransferSyntaxUID": header.TransferSyntaxUID} if is_same else {}


def _write(uploader: Uploader, day: str, part: list[Member], rules: PartRules) -> int:
    ordered = sorted(part, key=lambda one: one.name)
    rows: Iterator[dict[str, Any]] = (row for one in ordered for row in members.unpacked(one.rows))
    data = parquet.written(columns.columns(rules.more), rows, f"dicom-listener {listener.__version__}")
    key = keys.of_table(day, members.content_of(one.name for one in ordered))
    uploader.put(held(key, data))
    return sum(one.instances for one in ordered)

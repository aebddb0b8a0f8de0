"""Compare what the manifests of a target tell with what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from listener.export import keys, manifest
from listener.export.faults import NotThere
from listener.export.target import Target, whole

#: Folders whose objects manifests tell of.
_TOLD = (keys.DATA, keys.ARCHIVES)


class Finding(NamedTuple):
    """One thing that is off: `what` is missing, size, altered, unknown or unreadable (of a manifest); `told_by` is the
    key of the manifest that tells of the object.
    """

    what: str
    key: str
    told_by: str = ""
    SOPInstanceUID: str = ""


class Expected(NamedTuple):
    """What manifests tell of an object: size, SHA-256, the first of them, and the instance ("": an archive)."""

    size: int
    sha256: str
    told_by: str
    SOPInstanceUID: str = ""

    def finding(self, what: str, key: str) -> Finding:
        """Return what is off with the object."""
        return Finding(what, key, self.told_by, self.SOPInstanceUID)


def audit(target: Target, *, deep: bool = False) -> Iterator[Finding]:
    """Yield what is off; `deep` reads every object that a manifest tells of. Raises TargetFault."""
    expected: dict[str, Expected] = {}
    for key, _ in target.listed(keys.MANIFESTS):
        try:
            told = manifest.parsed(whole(target.read(key)))
        except (manifest.NoManifest, NotThere):
            yield Finding("unreadable", key)
            continue
        for archive in told.archives:
            expected.setdefault(archive.key, Expected(archive.size, archive.sha256, key))
        for entry in told.entries:
            if entry.offset < 0:
                expected.setdefault(entry.key, Expected(entry.size, entry.sha256, key, entry.SOPInstanceUID))
    yield from _compared(target, expected, deep=deep)


def _compared(target: Target, expected: Mapping[str, Expected], *, deep: bool) -> Iterator[Finding]:
    sizes = {key: size for folder in _TOLD for key, size in target.listed(folder)}
    for key, one in expected.items():
        if key not in sizes:
            yield one.finding("missing", key)
        elif sizes[key] != one.size:
            yield one.finding("size", key)
        elif deep and _read(target, key) != one.sha256:
            yield one.finding("altered", key)
    yield from (Finding("unknown", key) for key in sizes if key not in expected)


def _read(target: Target, key: str) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in target.read(key):
            digest.update(chunk)
    except NotThere:
        return ""
    return digest.hexdigest()


def shown(finding: Finding, *, phi: bool) -> dict[str, Any]:
    """Return a finding as a line of JSON has it. Keys of instances are made of paths, which may name patients: they are
    shown with `phi` alone.
    """
    is_private = finding.key.startswith(f"{keys.DATA}/") and not phi
    about = {"finding": finding.what, "key": "" if is_private else finding.key}
    return {**about, "SOPInstanceUID": finding.SOPInstanceUID, "manifest": finding.told_by}

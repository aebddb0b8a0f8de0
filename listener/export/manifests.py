"""Manifests in a target: those of earlier generations, and the one that is written last."""

from __future__ import annotations

from listener.export import keys, manifest
from listener.export.faults import NotThere
from listener.export.manifest import Manifest
from listener.export.target import Target, held, whole
from listener.export.upload import Uploader


class Manifests:
    """The manifests of one target."""

    def __init__(self, target: Target, uploader: Uploader) -> None:
        self._target, self._uploader = target, uploader

    def of(self, study: str, series: str, generation: int) -> Manifest | None:
        """Return the manifest of a generation of a series; None if there is none, or something else lies there."""
        key = keys.of_manifest(study, series, generation)
        return self._read(key) if self._target.look(key) else None

    def before(self, study: str, series: str, generation: int) -> tuple[str, Manifest | None]:
        """Return key and content of the newest manifest of an earlier generation; "" and None if there is none."""
        for number in range(generation - 1, 0, -1):
            if found := self.of(study, series, number):
                return keys.of_manifest(study, series, number), found
        return "", None

    def commit(self, made: Manifest) -> str:
        """Write a manifest, and read it back; return its key. One that is there and tells the same stays."""
        key = keys.of_manifest(made.StudyInstanceUID, made.SeriesInstanceUID, made.generation)
        if self._target.look(key):
            # Another ledger's generation of this number may have another content: ours may be beside it already.
            folder = key.rpartition("/")[0]
            for other in (key, *(name for name, _ in self._target.listed(folder) if name.startswith(f"{key}~"))):
                if self._tells_same(other, made):
                    return other
        content = held(key, manifest.written(made))
        # Another exporter may have written it since the look: it differs in its time.
        return self._uploader.put(
            content, looks=False, reads=True, does_instead=lambda other: self._tells_same(other, made)
        )

    def _tells_same(self, key: str, made: Manifest) -> bool:
        there = self._read(key)
        return there is not None and manifest.is_same(there, made)

    def _read(self, key: str) -> Manifest | None:
        try:
            return manifest.parsed(whole(self._target.read(key)))
        except (manifest.NoManifest, NotThere):
            return None

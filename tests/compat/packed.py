"""The corpus, repacked by px-repack and by us."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.corpus import Corpus
from tests.compat.pypx import Pypx
from tests.service_process import listener


@dataclass(frozen=True)
class Packed:
    """What the real px-repack made of the corpus."""

    pypx: Pypx
    corpus: Corpus
    data: Path
    log: Path

    @property
    def layout(self) -> str:
        """Our name for this version's layout."""
        return "px311" if self.pypx.version.startswith("3.11") else "px"

    def document(self, *parts: str) -> Any:
        """A JSON document of the log directory."""
        return json.loads(self.log.joinpath(*parts).read_bytes())


def pack_ourselves(packed: Packed) -> None:
    """`listener repack` in the layout of px-repack's version."""
    directories = ("--data", str(packed.data), "--log", str(packed.log))
    done = listener("repack", str(packed.corpus.folder), "--layout", packed.layout, *directories)
    assert done.status == 0, done.stderr

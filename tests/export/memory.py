"""A target in memory whose operations can be made to fail, in ten lines each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from listener.export.faults import NotThere
from listener.export.target import Content, Found, Pace, held


class MemoryTarget:
    """See Target. `before` and `after` are called with an operation's name and key, and may raise; `stored` and `given`
    alter what is kept and what is read.
    """

    shown = "memory"
    prefix = ""
    is_conditional = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        self.calls: list[str] = []
        self.before: Callable[[str, str], None] = lambda _name, _key: None
        self.after: Callable[[str, str], None] = lambda _name, _key: None
        self.stored: Callable[[bytes], bytes | None] = lambda data: data
        self.given: Callable[[bytes], bytes] = lambda data: data

    def _call(self, name: str, key: str) -> None:
        self.calls.append(name)
        self.before(name, key)

    def probe(self) -> None:
        """It always works."""

    def look(self, key: str) -> Found | None:
        self._call("look", key)
        if key not in self.objects:
            return None
        return Found(len(self.objects[key]), self.digests.get(key, ""), _tag(self.objects[key]))

    def look_at(self, keys: Sequence[str]) -> Mapping[str, Found]:
        self._call("look_at", keys[0])
        return {key: Found(len(data), "", _tag(data)) for key in keys if (data := self.objects.get(key)) is not None}

    def create(self, content: Content, pace: Pace) -> Found | None:
        self._call("create", content.key)
        if content.key in self.objects:
            return None
        data = self.stored(b"".join(content.chunks()))
        pace(content.size)
        if data is not None:
            self.objects[content.key] = data
            self.digests[content.key] = content.sha256
        self.after("create", content.key)
        return Found(content.size, "", _tag(data or b""))

    def read(self, key: str, size: int = 0) -> Iterator[bytes]:
        self._call("read", key)
        if key not in self.objects:
            raise NotThere
        yield self.given(self.objects[key])

    def listed(self, folder: str) -> Iterator[tuple[str, int]]:
        prefix = f"{folder}/" if folder else ""
        yield from ((key, len(data)) for key, data in sorted(self.objects.items()) if key.startswith(prefix))

    def close(self) -> None:
        """Nothing is open."""


def _tag(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"


content = held

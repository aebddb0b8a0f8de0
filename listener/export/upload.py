"""One object to its key: created, never replaced, read back, and the key under which it is at last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from listener.disk.retry import pause
from listener.export import keys
from listener.export.faults import NotThere, TargetFault, TargetRefuses
from listener.export.flow import Flow
from listener.export.target import Content, Found, Target

#: How often one object is tried before its whole delivery waits.
_TRIES = 3

#: How often an object is read back that differs: what came over the network may have been altered on its way.
_READS = 2

#: What is counted of an upload, with an amount: see listener.export.metric_rows.
Count = Callable[[str, int], None]


class Rules(NamedTuple):
    """How objects are uploaded. `reads`: each is read back, else only its size, the digest in its metadata and the
    store's tag are compared.
    """

    reads: bool = True


class Written(NamedTuple):
    """What was written, but not verified yet: its key, and what the target said of it."""

    key: str
    told: Found


#: Told what was written, and not verified: see Uploader.lost.
Later = Callable[[Written], None]


class Uploader:
    """Brings content to a target. Used in several threads."""

    def __init__(self, target: Target, rules: Rules, flow: Flow, count: Count) -> None:
        self._target, self._rules, self._flow, self._count = target, rules, flow, count

    def put(
        self,
        content: Content,
        *,
        looks: bool = True,
        reads: bool = False,
        later: Later | None = None,
        does_instead: Callable[[str], bool] = lambda _key: False,
    ) -> str:
        """Write content, or find it written; return the key that has it, verified. Where another content has the key,
        it gets one of its own, unless what is there `does_instead`. `looks`: it is probably there already; `reads`: it
        is read back whatever the rules say; `later`: told what was written, which lost() is to verify. Raises
        TargetFault, and what the content raises.
        """
        for key in (content.key, keys.in_conflict(content.key, content.sha256)):
            if self._is_at(content._replace(key=key), looks=looks, reads=reads or self._rules.reads, later=later):
                return key
            if does_instead(key):
                return key
            self._count("export_conflicts_total", 1)
            looks = True
        raise TargetFault("two other contents have the keys of an object; see 'listener export audit'")

    def lost(self, written: Sequence[Written]) -> list[str]:
        """Return the keys, all of one folder, of what is not seen to be there as it was written."""
        seen = self._target.look_at([one.key for one in written])
        return [one.key for one in written if not _is_as_told(seen.get(one.key), one.told)]

    def holds(self, key: str, size: int, sha256: str) -> bool:
        """Return whether an object is there that has this size and, as far as the target tells, this SHA-256."""
        found = self._target.look(key)
        return bool(found and found.size == size and found.sha256 in ("", sha256))

    def _is_at(self, content: Content, *, looks: bool, reads: bool, later: Later | None) -> bool:
        """Return whether the key has this content at last; False if it has another one."""
        for attempt in range(1, _TRIES + 1):
            try:
                found = self._target.look(content.key) if looks else None
                if not found and (told := self._target.create(content, self._flow.pace)):
                    self._count("export_bytes_total", content.size)
                    if later:
                        later(Written(content.key, told))
                        return True
                    return self._is_read_back(content) if reads else self._is_seen(content, told)
                found = found or self._target.look(content.key)
                if found:
                    return self._has(found, content, reads=reads)
            except TargetRefuses:
                raise
            except TargetFault as fault:
                # The creation may have been done all the same, or refused: the next attempt looks what is there.
                if attempt == _TRIES or fault.pause:
                    raise
                self._count("export_retries_total", 1)
                self._flow.wait(pause(attempt))
            looks = True
        raise TargetFault("an object is there and is not there by turns")

    def _has(self, found: Found, content: Content, *, reads: bool) -> bool:
        """Return whether an object that was there before has this content."""
        if found.size != content.size or found.sha256 not in ("", content.sha256):
            return False
        if found.sha256 and not reads:
            return True
        return self._is_read_back(content)

    def _is_seen(self, content: Content, told: Found) -> bool:
        """Return whether an object that was just written looks like this content. Raises NotThere."""
        found = self._target.look(content.key)
        if not found:
            raise NotThere
        return _is_as_told(found, told) and found.sha256 in ("", content.sha256)

    def _is_read_back(self, content: Content) -> bool:
        for _ in range(_READS):
            digest, size = hashlib.sha256(), 0
            for chunk in self._target.read(content.key, content.size):
                self._flow.tick()
                digest.update(chunk)
                size += len(chunk)
            self._count("export_verified_bytes_total", size)
            if size == content.size and digest.hexdigest() == content.sha256:
                return True
        return False


def _is_as_told(found: Found | None, told: Found) -> bool:
    """Return whether an object is there as the target told when it took it: same size, and same tag if it has one."""
    return found is not None and found.size == told.size and (not (found.tag and told.tag) or found.tag == told.tag)

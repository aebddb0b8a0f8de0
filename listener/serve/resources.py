"""PURE. Paths of DICOMweb (PS3.18 chapters 8 and 10): which resource a request means."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from listener.serve.faults import BadRequest, NotAcceptable, NotFound
from listener.uids import is_uid

#: What is retrieved: data sets, their metadata, frames, bulk data, or pictures; or searched.
INSTANCES, METADATA, FRAMES, BULK, SEARCH = "instances", "metadata", "frames", "bulkdata", "search"
RENDERED, THUMBNAIL = "rendered", "thumbnail"

#: Levels of a search, and of what is retrieved.
LEVELS = ("studies", "series", "instances")

_is_number = re.compile(r"[1-9][0-9]{0,9}").fullmatch
_is_tag_path = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,9}/[0-9A-Fa-f]{8}){0,64}").fullmatch


class Resource(NamedTuple):
    """What a path names. `kind` is one of the above; `level` the last one that has a UID (of a search: what is looked
    for); `uids` those of study, series and instance, as far as the path has them; `frames` numbers from 1; `bulk` tags
    and item numbers, as in the path.
    """

    kind: str
    level: str
    uids: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    bulk: str = ""


def resource(path: str, max_frames: int) -> Resource:
    """Return what a path, below the service's prefix, names. Raises NotFound, and BadRequest for UIDs and frame lists
    that are none, or have more than `max_frames`.
    """
    above, frames, numbers = path.partition("/frames/")
    if frames and "/" not in numbers:  # What most requests are.
        found = _instance(above)
        if found:
            return found._replace(kind=FRAMES, frames=frame_list(numbers, max_frames))
    parts = path.strip("/").split("/")
    uids: list[str] = []
    level = ""
    while parts and len(uids) < len(LEVELS) and parts[0] == LEVELS[len(uids)]:
        level = parts.pop(0)
        if not parts:
            return Resource(SEARCH, level, tuple(uids))
        uids.append(_uid(parts.pop(0)))
    if not parts and level:
        return Resource(INSTANCES, level, tuple(uids))
    return _beneath(level, uids, parts, max_frames)


@lru_cache(maxsize=1024)
def _instance(path: str) -> Resource | None:
    """Return the instance that a path names, None where it names something else. Raises as resource()."""
    found = resource(path, 0)
    return found if found.kind == INSTANCES and found.level == "instances" else None


def _beneath(level: str, uids: list[str], parts: list[str], max_frames: int) -> Resource:
    """Return what the rest of a path behind the UIDs names."""
    if not parts:
        raise NotFound
    word, rest = parts[0], parts[1:]
    if level and parts[-1] in (RENDERED, THUMBNAIL):
        return _picture(parts.pop(), level, uids, parts, max_frames)
    if not level and word in LEVELS[1:]:
        return _relational(word, rest)
    if level == "studies" and parts == ["instances"]:
        return Resource(SEARCH, "instances", tuple(uids))
    if level and parts == ["metadata"]:
        return Resource(METADATA, level, tuple(uids))
    if level == "instances" and word == "frames" and len(rest) == 1:
        return Resource(FRAMES, level, tuple(uids), frames=frame_list(rest[0], max_frames))
    if level == "instances" and word == "bulkdata" and _is_tag_path("/".join(rest)):
        return Resource(BULK, level, tuple(uids), bulk="/".join(rest).upper())
    raise NotFound


def _picture(kind: str, level: str, uids: list[str], parts: list[str], max_frames: int) -> Resource:
    """Return the pictures of an instance, or of some of its frames; or the thumbnail of a series or study."""
    if not parts and (level == "instances" or kind == THUMBNAIL):
        return Resource(kind, level, tuple(uids))
    if level != "instances":
        raise NotAcceptable("of series and studies there are thumbnails; pictures are made of instances and frames")
    if parts[0] == "frames" and len(parts) == 2:
        return Resource(kind, level, tuple(uids), frames=frame_list(parts[1], max_frames))
    raise NotFound


def _relational(word: str, rest: list[str]) -> Resource:
    """Return the search for series or instances in all studies: `/series`, `/instances`."""
    if rest:
        raise NotFound
    return Resource(SEARCH, word)


def _uid(text: str) -> str:
    if not is_uid(text):
        raise BadRequest("a UID in the path is none: 1 to 64 digits and dots")
    return text


def frame_list(text: str, most: int) -> tuple[int, ...]:
    """Return the numbers of a frame list, in its order. Raises BadRequest."""
    numbers = text.replace("%2C", ",").replace("%2c", ",").split(",")
    if len(numbers) > most:
        raise BadRequest(f"more than {most} frames in one request")
    if not all(map(_is_number, numbers)):
        raise BadRequest("a frame list is made of numbers from 1, with commas between")
    return tuple(map(int, numbers))

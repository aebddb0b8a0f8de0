"""Search for studies, series and instances (PS3.18 section 10.6)."""

from __future__ import annotations

import asyncio
import fnmatch
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from listener.serve.answers import Answer, Fields, json
from listener.serve.attributes import BY_NAME, Attribute
from listener.serve.catalogue import Series, Study
from listener.serve.faults import NotFound
from listener.serve.index import Index
from listener.serve.matching import TRANSFER_SYNTAX, Condition, Query, query, returned
from listener.serve.resources import LEVELS, Resource

Attributes = dict[str, Any]

_AVAILABLE = "00083002"

_MORE = ("warning", '299 - "There are more results: ask for them with offset and limit"')
_FILLING = ("warning", '299 - "The catalogue is being filled: results may be missing"')


class Searcher:
    """Answers searches; at most `most` results each."""

    def __init__(self, index: Index, most: int) -> None:
        self._index, self._most = index, most

    async def answer(self, resource: Resource, pairs: Sequence[tuple[str, str]]) -> Answer:
        """Return the answer. Raises BadRequest, LedgerFault."""
        level = resource.level
        asked = query(pairs, level, self._most)
        matched = frozenset(condition.attribute.tag for condition in asked.conditions)
        named = zip(("StudyInstanceUID", "SeriesInstanceUID"), resource.uids, strict=False)
        own = tuple(Condition(BY_NAME[name.lower()], "one of", (uid,)) for name, uid in named)
        asked = asked._replace(conditions=asked.conditions + own)
        above = LEVELS[len(resource.uids) : LEVELS.index(level)]
        columns = returned(level, above)
        if level == "studies":
            found = await asyncio.to_thread(self._studies, asked)
        elif level == "series":
            found = await asyncio.to_thread(self._series, asked, bool(above))
        else:
            found = await self._instances(asked, bool("studies" in above))
        asked = asked._replace(fields=asked.fields | matched)
        results = [_shown(one, columns, asked) for one in found[: asked.limit]]
        fields: Fields = [_MORE] if len(found) > asked.limit else []
        if self._index.waiting != 0:
            fields.append(_FILLING)
        return json(results, fields)

    def _studies(self, asked: Query) -> list[Attributes]:
        return [self._study(study) for study in self._index.catalogue.studies(asked)]

    def _study(self, study: Study) -> Attributes:
        base = self._index.places.base
        return {
            **study.attributes,
            **_made("InstanceAvailability", "ONLINE"),
            **_made("ModalitiesInStudy", *study.modalities),
            **_made("RetrieveURL", f"{base}/studies/{study.StudyInstanceUID}"),
            **_made("StudyInstanceUID", study.StudyInstanceUID),
            **_made("NumberOfStudyRelatedSeries", study.series),
            **_made("NumberOfStudyRelatedInstances", study.instances),
        }

    def _series(self, asked: Query, with_study: bool) -> list[Attributes]:
        found = []
        for series in self._index.catalogue.series(asked):
            study = self._study(self._index.catalogue.study_of(series)) if with_study else {}
            found.append({**study, **series.attributes, **self._own(series)})
        return found

    def _own(self, series: Series) -> Attributes:
        url = f"{self._index.places.base}/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}"
        return {
            **_made("InstanceAvailability", "ONLINE"),
            **_made("Modality", series.Modality),
            **_made("RetrieveURL", url),
            **_made("StudyInstanceUID", series.StudyInstanceUID),
            **_made("SeriesInstanceUID", series.SeriesInstanceUID),
            **_made("NumberOfSeriesRelatedInstances", series.instances),
        }

    async def _instances(self, asked: Query, with_study: bool) -> list[Attributes]:
        """Return a page of instances and one more: series by series, of which each is described once."""
        own = [condition for condition in asked.conditions if condition.attribute.level == "instances"]
        found: list[Attributes] = []
        skip = asked.offset
        for series in await asyncio.to_thread(self._index.catalogue.series, asked, paged=False):
            if not own and skip >= series.instances:
                skip -= series.instances
                continue
            parents = {**series.attributes, **self._own(series)}
            if with_study:
                parents |= self._study(await asyncio.to_thread(self._index.catalogue.study_of, series))
            matched = [
                one for one in await self._described(series) if all(_is_met(one, condition) for condition in own)
            ]
            found += [{**parents, **one, **_syntax_of(one)} for one in matched[skip:]]
            skip = max(0, skip - len(matched))
            if len(found) > asked.limit:
                break
        return found

    async def _described(self, series: Series) -> list[Attributes]:
        try:
            _, document = await self._index.described(series.StudyInstanceUID, series.SeriesInstanceUID)
        except NotFound:  # It has just been removed.
            return []
        return await asyncio.to_thread(_unpacked, document)


def _unpacked(document: bytes) -> list[Attributes]:
    found: list[Attributes] = orjson.loads(gzip.decompress(document))
    return found


def _syntax_of(instance: Mapping[str, Any]) -> Attributes:
    """Return TransferSyntaxUID, which an instance's metadata have under another tag."""
    values = instance.get(_AVAILABLE, {}).get("Value", [])
    return {TRANSFER_SYNTAX: {"vr": "UI", "Value": values[:1]}} if values else {}


def _made(keyword: str, *values: object) -> Attributes:
    attribute = BY_NAME[keyword.lower()]
    given = [value for value in values if value != ""]
    return {attribute.tag: {"vr": attribute.vr, **({"Value": given} if given else {})}}


def _is_met(found: Mapping[str, Any], condition: Condition) -> bool:
    """Return whether an instance meets a condition on its own attributes."""
    values = [str(value) for value in found.get(condition.attribute.tag, {}).get("Value", [])]
    if condition.kind == "like":
        pattern = condition.values[0].replace("[", "[[]")
        return any(fnmatch.fnmatchcase(value, pattern) for value in values)
    return any(value in condition.values for value in values)


def _shown(found: Attributes, columns: Sequence[Attribute], asked: Query) -> Attributes:
    """Return the attributes that are returned, in the order of their tags; those always returned even when empty."""
    tags = set(found).intersection(asked.fields)
    if asked.all_fields:
        tags |= set(found) - {TRANSFER_SYNTAX}
    shown = {one.tag: {"vr": one.vr} for one in columns} | {tag: found[tag] for tag in tags}
    shown |= {one.tag: found[one.tag] for one in columns if one.tag in found}
    return dict(sorted(shown.items()))

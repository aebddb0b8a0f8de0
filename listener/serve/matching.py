"""PURE. The query of a search (PS3.18 section 8.3.4; PS3.4 section C.2.2.2): conditions, fields, paging."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from listener.planning.names import folded
from listener.serve.attributes import BY_NAME, OF_LEVEL, Attribute
from listener.serve.faults import BadRequest

#: TransferSyntaxUID, which is of the file meta information, and returned where it is asked for.
TRANSFER_SYNTAX = "00020010"

#: Longest value of a key, and most UIDs in a list.
_LONGEST, _MOST = 1024, 1000

_is_date = re.compile(r"[0-9]{8}").fullmatch
_is_time = re.compile(r"[0-9]{2,6}(\.[0-9]{1,6})?").fullmatch
_is_tag = re.compile(r"[0-9a-fA-F]{8}").fullmatch
_is_keyword = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}").fullmatch

#: What a level's search can be limited by: its own attributes and those of its parents.
_LEVELS_ABOVE = {
    "studies": ("studies",),
    "series": ("studies", "series"),
    "instances": ("studies", "series", "instances"),
}


class Condition(NamedTuple):
    """What one attribute must be: one of `values`; or between the two of them, "" being open; or like a pattern with
    `*` and `?`.
    """

    attribute: Attribute
    kind: str
    values: tuple[str, ...]


class Query(NamedTuple):
    """A search: conditions, tags to be returned as well, "all" of them, and a page of at most `limit` from `offset`."""

    conditions: tuple[Condition, ...]
    fields: frozenset[str]
    all_fields: bool
    limit: int
    offset: int


def query(pairs: Sequence[tuple[str, str]], level: str, most: int) -> Query:
    """Return the search for a level in the pairs of a query string. Raises BadRequest, which names the key that cannot
    be matched.
    """
    conditions: list[Condition] = []
    fields: set[str] = set()
    limit, offset, fuzzy = most, 0, False
    for key, value in pairs:
        word = key.lower()
        if word == "includefield":
            fields.update(value.split(","))
        elif word == "fuzzymatching":
            fuzzy = value.lower() == "true"
        elif word == "limit":
            limit = min(_number(word, value), most)
        elif word == "offset":
            offset = _number(word, value)
        elif word != "accept" and value != "":
            conditions.append(_condition(key, value, level))
    if fuzzy:
        conditions = [_fuzzy(condition) for condition in conditions]
    tags = frozenset(_tag(field) for field in fields if field not in ("all", ""))
    return Query(tuple(conditions), tags, "all" in fields, limit, offset)


def _number(word: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise BadRequest(f"{word} is a whole number from 0")
    return int(text)


def _tag(field: str) -> str:
    """Return the tag of a field: of a sequence's attribute the sequence's."""
    name = field.partition(".")[0]
    known = BY_NAME.get(name.lower())
    if known:
        return known.tag
    if name.lower() == "transfersyntaxuid":
        return TRANSFER_SYNTAX
    if not (_is_tag(name) or _is_keyword(name)):
        raise BadRequest("includefield wants keywords or tags")
    return name.upper() if _is_tag(name) else name


def _condition(key: str, value: str, level: str) -> Condition:
    attribute = BY_NAME.get(key.lower())
    if not attribute or not attribute.matched or attribute.level not in _LEVELS_ABOVE[level]:
        shown = key if _is_tag(key) or _is_keyword(key) else "a key"
        raise BadRequest(f"{shown} cannot be matched in a search for {level}")
    if len(value) > _LONGEST and attribute.vr != "UI":
        raise BadRequest(f"the value of {attribute.keyword} is too long")
    if attribute.vr == "UI":
        uids = tuple(uid for uid in re.split(r"[,\\]", value) if uid)
        if len(uids) > _MOST:
            raise BadRequest(f"more than {_MOST} UIDs")
        return Condition(attribute, "one of", uids)
    if attribute.vr in ("DA", "TM"):
        return _moment(attribute, value)
    text = folded(value) if attribute.vr == "PN" else value
    if any(wild in text for wild in "*?") and attribute.vr not in ("IS", "US"):
        return Condition(attribute, "like", (text,))
    return Condition(attribute, "one of", (text,))


def _moment(attribute: Attribute, value: str) -> Condition:
    first, dash, last = value.replace(":", "").partition("-")
    check = _is_date if attribute.vr == "DA" else _is_time
    if not all(check(text) or not text for text in (first, last)) or not (first or last):
        raise BadRequest(f"the value of {attribute.keyword} is no date or time, or range of them")
    if not dash:
        return (
            Condition(attribute, "one of", (first,))
            if attribute.vr == "DA"
            else Condition(attribute, "like", (first + "*",))
        )
    return Condition(attribute, "between", (first, last + "~" if last else ""))


def _fuzzy(condition: Condition) -> Condition:
    """Return a condition on a name under which each word of it may be the beginning of one of the name's."""
    if condition.attribute.vr != "PN" or condition.kind == "like":
        return condition
    words = [word for word in re.split(r"[\s^=*,?]+", condition.values[0]) if word]
    return Condition(condition.attribute, "words", tuple(words))


def returned(level: str, above: Sequence[str]) -> list[Attribute]:
    """Return the attributes that a search for a level always returns: those of the levels `above`, too, which the path
    does not name.
    """
    return [one for name in (*above, level) for one in OF_LEVEL[name] if one.returned]

"""PURE. What a consumer wants to be told: events, and of these those of some modalities, senders and results.

A consumer keeps it in its row, so that a delivery that it does not want is never made, whoever records the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

#: Events of deliveries; without a word a consumer gets the first three, as before there were studies.
SERIES_EVENTS = ("series-complete", "series-incomplete", "set-aside")
STUDY_EVENTS = ("study-complete", "study-incomplete")
EVENTS = SERIES_EVENTS + STUDY_EVENTS

#: Words for how a series or study ended.
RESULTS = ("expected", "quiet", "late", "complete", "incomplete")


class About(NamedTuple):
    """What an event is about: modalities and calling AE titles (of a study: those of its series), and the words for how
    it ended (none for a set-aside file).
    """

    modalities: Sequence[str] = ()
    senders: Sequence[str] = ()
    results: Sequence[str] = ()


class Interest(NamedTuple):
    """What is wanted. An empty tuple excludes nothing; senders may hold the wildcards of a shell; `results` apply to
    events that have a result.
    """

    events: tuple[str, ...] = SERIES_EVENTS
    modalities: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def covers(self, event: str, about: About) -> bool:
        """Return whether an event is wanted. One modality or sender of several suffices."""
        return (
            event in self.events
            and (not self.modalities or bool({*self.modalities} & {*about.modalities}))
            and (not self.senders or _one_matches(about.senders, self.senders))
            and (not self.results or not about.results or bool({*self.results} & {*about.results}))
        )


ANYTHING = Interest()


def require_known(interest: Interest) -> None:
    """Raise an error that says what to give where an interest would cover nothing: TypeError for a text in place of a
    tuple, ValueError for events or results that there are not.
    """
    for name, texts in interest._asdict().items():
        if isinstance(texts, str):
            raise TypeError(f"{name}: {texts!r} is one text; give a tuple of texts")
    for name, known in (("events", EVENTS), ("results", RESULTS)):
        unknown = sorted({*getattr(interest, name)} - {*known})
        if unknown:
            raise ValueError(f"{name}: there is no {unknown[0]!r}; give some of {', '.join(known)}")


def _one_matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def text_of(interest: Interest) -> str:
    """Return the text in a consumer's row: JSON, "" for what a consumer gets that says nothing."""
    import orjson

    return "" if interest == ANYTHING else orjson.dumps(interest._asdict()).decode()


@lru_cache(maxsize=256)
def interest_of(text: str) -> Interest:
    """Return the interest in a consumer's row. What cannot be read (a stage wrote it) excludes nothing."""
    import orjson  # 4 ms, and the options need the names of events only.

    try:
        known = orjson.loads(text) if text else {}
        lists = {name: tuple(map(str, known[name])) for name in Interest._fields if known.get(name)}
    except (ValueError, TypeError, AttributeError):
        return ANYTHING
    return Interest(**lists)

"""What is done with instances, and what comes out."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from listener.deidentify import leaves, profile
from listener.deidentify.forms import Form
from listener.deidentify.marks import MARKS, Marks
from listener.deidentify.memory import Memory
from listener.deidentify.nested import Step
from listener.deidentify.profile import Decision, Rules
from listener.deidentify.recipe import Holds, Where
from listener.deidentify.recipe_lists import Leaf, gathered
from listener.deidentify.recipe_search import Search
from listener.deidentify.replacing import Replacer
from listener.dicom.attributes import Limits, dictionary_vr
from listener.dicom.source import Source


class Part(NamedTuple):
    """Bytes `start` to `end` of the source, as they stand."""

    start: int
    end: int


class Rewritten(NamedTuple):
    """An instance after the profile: `prefix` (preamble to file meta information), the parts of its data set, whether
    they are deflated, the source they are of, its new SOP Instance UID, what was done (by tag and action), and the
    single steps if they were wanted; `draws_in_pixels`: an overlay lies in unused bits of the pixels; `syntax`: its
    transfer syntax; `found`: tags of elements, some of which a recipe's line meant by their values.
    """

    prefix: bytes
    parts: list[bytes | Part]
    deflated: bool
    source: Source
    SOPInstanceUID: str
    done: Counter[tuple[int, str]]
    steps: list[Step]
    draws_in_pixels: bool = False
    syntax: str = ""
    found: frozenset[int] = frozenset()


class Job(NamedTuple):
    """What is done with the instances of one subject: rules, values in place of others, marks, limits; and by form what
    became of the elements of the last instance, None where nothing is to be remembered.
    """

    rules: Rules
    replacer: Replacer
    marks: Marks
    limits: Limits = Limits()
    explains: bool = False
    memories: dict[Form, Memory] | None = None


def search_of(job: Job, source: Source, begin: int, form: Form) -> Search | None:
    """Return what finds elements by their values in the data set that begins at `begin`, None where no recipe wants it.
    Raises Short, NotUnderstood and what the source does.
    """
    recipe = job.rules.recipe
    if not recipe.lists:
        return None
    return Search(recipe, gathered(recipe, leaves.of_source(source, begin, form, job.limits)), job.replacer)


def memory_of(job: Job, form: Form, search: Search | None) -> Memory | None:
    """Return what is remembered of the last instance. What became of its elements by their values says nothing of an
    instance whose lists have others.
    """
    if job.memories is None or job.explains:
        return None
    lists = search.lists if search else None
    memory = job.memories.get(form)
    if memory is None or memory.lists != lists:
        memory = job.memories[form] = Memory(lists)
    return memory


def added(job: Job, form: Form, search: Search | None, memory: Memory | None) -> dict[int, bytes]:
    """Return the elements that recipes add, unless the source has them."""
    if memory and memory.added is not None:
        return memory.added

    def holds_of(tag: int, vr: str) -> Holds:
        assert search
        return search.in_value(Leaf(Where((tag,), vr), vr, b"", search.lists.terms, form.little))

    made: dict[int, bytes] = {}
    for tag, plan in job.rules.recipe.additions(_vr, holds_of if search else None):
        vr = _vr(tag)
        value = job.replacer.value(Decision(profile.SET, "", lines=plan.lines), tag, vr, b"", little=form.little)
        if tag not in MARKS:
            made[tag] = form.element(tag, vr, value or b"")
    if memory:
        memory.added = made
    return made


def _vr(tag: int) -> str:
    return (dictionary_vr(tag) or "UN")[:2]

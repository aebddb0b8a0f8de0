"""What is done with instances, and what comes out."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from listener.deidentify import profile
from listener.deidentify.forms import Form
from listener.deidentify.marks import MARKS, Marks
from listener.deidentify.memory import Memory
from listener.deidentify.nested import Step
from listener.deidentify.profile import Decision, Rules
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
    transfer syntax.
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


def added(job: Job, form: Form) -> dict[int, bytes]:
    """Return the elements that recipes add, unless the source has them."""
    made = {}
    for tag, plan in job.rules.recipe.additions(_vr):
        vr = _vr(tag)
        value = job.replacer.value(Decision(profile.SET, "", lines=plan.lines), tag, vr, b"", little=form.little)
        if tag not in MARKS:
            made[tag] = form.element(tag, vr, value or b"")
    return made


def _vr(tag: int) -> str:
    return (dictionary_vr(tag) or "UN")[:2]

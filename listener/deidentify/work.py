"""The work on one unit, in a worker process: its files are read, rewritten and verified in a folder that has no final
name yet, or held. Who has which pseudonym is asked of the parent; nothing else is known here.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from listener.deidentify import holding, output, verifying
from listener.deidentify.faults import NotUnderstood, RecipeFailed
from listener.deidentify.inputs import load_dictionary
from listener.deidentify.jobs import Job, Rewritten
from listener.deidentify.keys import Keys
from listener.deidentify.marks import Marks, marks_of
from listener.deidentify.profile import Rules, kept_by
from listener.deidentify.recipe_filter import Filters, Label, Verdict
from listener.deidentify.replacing import Replacer, Subject
from listener.deidentify.rewriting import rewrite
from listener.deidentify.scanning import Seen, Unreadable, scan, scan_behind
from listener.deidentify.verifying import Gatherer, Originals
from listener.dicom.attributes import Header, Limits
from listener.dicom.fast_walk import Elements
from listener.dicom.file_meta import PREAMBLE, read_file_meta
from listener.dicom.reader import Wanted, read_header
from listener.dicom.source import FileSource
from listener.disk import sync
from listener.disk.files import opened
from listener.ledger.rows import InstanceRow
from listener.reasons import FileFault

#: Files that are open at once until they are synced.
_TOGETHER = 32

_LIMITS = Limits()

#: The group length of file meta information, which begins what the writer made.
_META_LENGTH = PREAMBLE + 8


#: What is released for these reasons is weaker than the Basic Profile.
_WEAKENS = (*holding.OF_INSTANCES, "patient-conflict", "residual")


class Method(NamedTuple):
    """How a collection is cleaned: options and rules, keys, allowed and common words, what suspicion of burned-in text
    suffices, whether incomplete series pass, the most days that dates go back, the labels of recipes' filters,
    whether somebody else gives pseudonyms, who is better asked for all patients of a unit at once, and whether what is
    written is forced to disk.
    """

    rules: Rules
    keys: Keys
    words: frozenset[str]
    common: frozenset[str]
    burned_in: str = "suspect"
    passes_incomplete: bool = False
    shift_days: int = 365
    labels: Sequence[Label] = ()
    asks_ahead: bool = False
    syncs: bool = True


class Share(NamedTuple):
    """What a unit has of one series: its UID, whether it ended incomplete, its instances, and what of it was released:
    (SOP Instance UID or "", reason).
    """

    SeriesInstanceUID: str
    is_incomplete: bool
    instances: Sequence[InstanceRow]
    released: frozenset[tuple[str, str]] = frozenset()


class Order(NamedTuple):
    """A unit that is to be cleaned: its series, the directory where their paths begin, and the folder to be made."""

    shares: Sequence[Share]
    data_dir: str
    part: str


class Identity(NamedTuple):
    """Whom an instance names: the question to which the parent answers with a Subject, or a reason to hold it all.
    `alone`: a study of two patients is one.
    """

    StudyInstanceUID: str
    PatientID: str
    IssuerOfPatientID: str
    AccessionNumber: str
    alone: bool


class Ahead(NamedTuple):
    """Whom a unit will name, as far as one instance of each series tells: no question, so that the answers to those
    that follow are at hand. The parent answers with None.
    """

    identities: tuple[Identity, ...]


class HeldFile(NamedTuple):
    """What is held of a series: an instance, or ("" for it) the whole unit."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    reason: str
    detail: str


class Cleaned(NamedTuple):
    """What came of a unit: how many instances passed and are in the folder, which there is only then; what is held, and
    what a recipe left out (`reason` is the label); what was done, by tag and action; the studies of what passed with
    their patients' PatientIDs, and its series with their studies.
    """

    passed: int
    held: Sequence[HeldFile]
    filtered: Sequence[HeldFile]
    done: Mapping[tuple[int, str], int]
    studies: Mapping[str, str]
    series: Mapping[str, str]


class Refusal(NamedTuple):
    """Why a unit is held as a whole: the reason, and more words for people, that name nobody."""

    reason: str
    detail: str = ""


class Asks(Protocol):
    """Who started the work."""

    def ask(self, question: Identity | Ahead) -> Subject | Refusal | None:
        """Return whose an instance is, or why the unit is held; None to Ahead."""

    def go_on(self) -> None:
        """Hear that the work goes on. May raise to end it."""


class _Held(Exception):
    """The whole unit is held."""

    def __init__(self, reason: str, detail: str = "", series: str = "") -> None:
        self.reason, self.detail, self.series = reason, detail, series
        super().__init__(reason)


class Cleaner:
    """Cleans units by one method."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.filters = Filters(method.labels)
        self._wanted = Wanted(tuple(sorted(holding.KEYWORDS)), self.filters.tags)

    def __call__(self, order: Order, parent: Asks) -> Cleaned:
        """Clean a unit. Raises OSError. A folder that must not go is left for who gave the order."""
        work = _Work(self, order, parent)
        try:
            work.run()
        except _Held as held:
            series = held.series or order.shares[0].SeriesInstanceUID
            return Cleaned(0, [*work.held, HeldFile(series, "", held.reason, held.detail)], [], {}, {}, {})
        return work.cleaned()

    def header(self, descriptor: int, size: int) -> tuple[Header, Elements]:
        """Return the attributes that decide whether an instance is held, and what filters look at. Raises FileFault."""
        found: Elements = {}
        return read_header(descriptor, size, self._wanted, _LIMITS, found), found


def worker(method: Method) -> Cleaner:
    """Return what cleans units, in a process of its own."""
    load_dictionary()
    return Cleaner(method)


class _Work:
    """The work on one unit: `held` gathers what does not pass."""

    def __init__(self, cleaner: Cleaner, order: Order, parent: Asks) -> None:
        self._cleaner, self._method = cleaner, cleaner.method
        self._order, self._parent = order, parent
        self.held: list[HeldFile] = []
        self._filtered: list[HeldFile] = []
        self._done: Counter[tuple[int, str]] = Counter()
        self._studies: dict[str, str] = {}
        self._series: dict[str, str] = {}
        self._made: dict[str, Share] = {}
        self._open: list[int] = []
        self._subjects: dict[Identity, Subject] = {}
        self._jobs: dict[Subject, Job] = {}
        self._gatherer = Gatherer(self._method.rules.options, self._method.common, kept_by(self._method.rules))
        self._seen, self._taken = Seen(), frozenset[int]()
        self._weaker = any(reason in _WEAKENS for share in order.shares for _, reason in share.released)

    def run(self) -> None:
        """Write and verify what passes. Raises _Held and OSError."""
        for share in self._order.shares:
            is_free = self._method.passes_incomplete or self._is_released(share, "incomplete")
            if share.is_incomplete and not is_free:
                raise _Held("incomplete", series=share.SeriesInstanceUID)
        if self._method.asks_ahead and len(self._order.shares) > 1:
            self._ask_ahead()
        os.mkdir(self._order.part, 0o755)
        count = 0
        try:
            for share in self._order.shares:
                for row in share.instances:
                    self._one(share, row)
                    count += 1
                    if count % _TOGETHER == 0:
                        self._sync()
                        self._parent.go_on()
        finally:
            self._sync()
        if not self._made:
            os.rmdir(self._order.part)
            return
        self._verify()
        if self._method.syncs:
            sync.directories([self._order.part])

    def cleaned(self) -> Cleaned:
        """Return what came of it."""
        return Cleaned(len(self._made), self.held, self._filtered, self._done, self._studies, self._series)

    @staticmethod
    def _is_released(share: Share, reason: str, uid: str = "") -> bool:
        return (uid, reason) in share.released or ("", reason) in share.released

    # -- one instance --------------------------------------------------------------------------------------------------

    def _one(self, share: Share, row: InstanceRow) -> None:
        """Write one instance, or hold it."""
        path = os.path.join(self._order.data_dir, row.path)
        with opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            try:
                header, found = self._cleaner.header(descriptor, size)
                values = header.values
                verdict = self._cleaner.filters.verdict(path, header, found)
                if verdict.kind == "filtered":
                    self._filtered.append(HeldFile(share.SeriesInstanceUID, row.SOPInstanceUID, verdict.label, ""))
                    return
                is_free = verdict.kind == "pass"
                reason = self._reason(values, share, row, verdict)
                made = None if reason else self._rewritten(descriptor, size, values, share)
            except (FileFault, NotUnderstood) as fault:
                self._hold(share, row, "not-understood", str(fault))
                return
            except RecipeFailed as failure:
                self._hold(share, row, "recipe", str(failure))
                return
            if made and made.draws_in_pixels and not is_free and self._suspects(values, share, row):
                reason = "burned-in"
            if reason or made is None:
                self._hold(share, row, reason, verdict.label if reason == "filter" else "")
                return
            self._write(made, descriptor, share)
            self._gather(descriptor, header.dataset_offset, made, share)
            self._done.update(made.done)
            self._series[share.SeriesInstanceUID] = values.get("StudyInstanceUID", "")

    def _reason(self, values: Mapping[str, str], share: Share, row: InstanceRow, verdict: Verdict) -> str:
        # What the whitelist names is not suspected; what says of itself that it has burned-in text stays held.
        burned_in = "yes" if verdict.kind == "pass" else self._method.burned_in
        reason = holding.reason(values, burned_in, self._method.rules.options)
        reason = reason or ("filter" if verdict.kind == "held" else "")
        return "" if reason and self._is_released(share, reason, row.SOPInstanceUID) else reason

    def _suspects(self, values: Mapping[str, str], share: Share, row: InstanceRow) -> bool:
        suspected = self._method.burned_in != "yes" and values.get("BurnedInAnnotation") != "NO"
        return suspected and not self._is_released(share, "burned-in", row.SOPInstanceUID)

    def _hold(self, share: Share, row: InstanceRow, reason: str, detail: str = "") -> None:
        self.held.append(HeldFile(share.SeriesInstanceUID, row.SOPInstanceUID, reason, detail))

    def _rewritten(self, descriptor: int, size: int, values: Mapping[str, str], share: Share) -> Rewritten:
        subject = self._subject(values, share)
        if subject not in self._jobs:
            replacer = Replacer(self._method.keys, subject, self._method.words)
            self._jobs[subject] = Job(self._method.rules, replacer, self._marks(), memories={})
        return rewrite(descriptor, size, self._jobs[subject])

    def _ask_ahead(self) -> None:
        """Tell whom the unit will name. What cannot be read now is held when its turn comes."""
        found: dict[Identity, None] = {}
        for share in self._order.shares:
            for row in share.instances[:1]:
                path = os.path.join(self._order.data_dir, row.path)
                with opened(path) as descriptor, contextlib.suppress(FileFault):
                    header, _ = self._cleaner.header(descriptor, os.fstat(descriptor).st_size)
                    found[self._identity(header.values, share)] = None
        self._parent.ask(Ahead(tuple(found)))

    def _identity(self, values: Mapping[str, str], share: Share) -> Identity:
        study = values.get("StudyInstanceUID", "")
        told = [values.get(keyword, "").strip() for keyword in ("PatientID", "IssuerOfPatientID", "AccessionNumber")]
        return Identity(study, told[0], told[1], told[2], not self._is_released(share, "patient-conflict"))

    def _subject(self, values: Mapping[str, str], share: Share) -> Subject:
        """Return whose an instance is. Raises _Held."""
        identity = self._identity(values, share)
        subject = self._subjects.get(identity)
        if subject is None:
            answer = self._parent.ask(identity)
            if isinstance(answer, Refusal):
                raise _Held(answer.reason, answer.detail, share.SeriesInstanceUID)
            assert answer
            subject = self._subjects[identity] = answer
        self._studies.setdefault(identity.StudyInstanceUID, identity.PatientID)
        return subject

    def _marks(self) -> Marks:
        rules = self._method.rules
        is_basic = rules.is_basic and not self._weaker and not rules.recipe.is_weaker
        temporal = rules.recipe.temporal(is_basic=rules.is_basic)
        return marks_of(rules.options, is_basic=is_basic, temporal=temporal)

    # -- write ---------------------------------------------------------------------------------------------------------

    def _write(self, made: Rewritten, source: int, share: Share) -> None:
        path = os.path.join(self._order.part, f"{made.SOPInstanceUID}.dcm")
        if path in self._made:  # Two data sets of one instance are there (--on-conflict keep-both).
            path = f"{path.removesuffix('.dcm')}-{len(self._made)}.dcm"
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._open.append(target)
        output.write(made, source, target)
        self._made[path] = share

    def _sync(self) -> None:
        descriptors, self._open = self._open, []
        try:
            if descriptors and self._method.syncs:
                sync.descriptors(descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # -- verify --------------------------------------------------------------------------------------------------------

    def _gather(self, descriptor: int, begin: int, made: Rewritten, share: Share) -> None:
        """Gather what must not be found in any output of the unit. `begin` is where the data set begins."""
        if made.found != self._taken:  # What was seen with these elements kept is an original now.
            self._seen, self._taken = Seen(), made.found
        try:
            found = scan(descriptor, begin, made.syntax, self._seen)
        except Unreadable as fault:
            detail = f"the source cannot be read for verification: {fault}"
            raise _Held("residual", detail, share.SeriesInstanceUID) from None
        self._gatherer.add(found.leaves, self._taken)

    def _verify(self) -> None:
        """Raise _Held if an original of the unit stands in one of its files."""
        pseudonyms = {subject.pseudonym.encode().lower() for subject in self._jobs}
        gathered, seen = self._gatherer.originals(), Seen()
        originals = gathered._replace(anywhere=gathered.anywhere - pseudonyms)
        for number, (path, share) in enumerate(self._made.items()):
            if self._is_released(share, "residual"):
                continue
            fault = _residual(path, seen, originals)
            if fault:
                raise _Held("residual", fault, share.SeriesInstanceUID)
            if number % _TOGETHER == 0:
                self._parent.go_on()


def _residual(path: str, seen: Seen, originals: Originals) -> str:
    """Return why an output cannot pass, "" if no original stands in it."""
    with opened(path) as descriptor:
        length = int.from_bytes(os.pread(descriptor, 4, _META_LENGTH), "little")
        begin = _META_LENGTH + 4 + length
        head = os.pread(descriptor, begin, 0)
        syntax = read_file_meta(FileSource(descriptor, os.fstat(descriptor).st_size)).TransferSyntaxUID
        try:
            found = scan(descriptor, begin, syntax, seen)
            behind = scan_behind(descriptor, begin, syntax, found)
        except Unreadable as fault:
            return f"an output cannot be verified: {fault}"
    leaves = [*found.leaves, *behind.leaves]
    where = verifying.find(head + found.data, [*found.segments, behind.data], leaves, originals)
    return f"an original stands in {where}" if where else ""

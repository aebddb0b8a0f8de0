"""One unit: a generation of a series, rewritten, verified, and handed over as one folder, or held.

What a kill leaves: before the vault has the unit, `NAME.part`, which the next attempt removes and makes anew with the
same bytes; after that, a folder that only needs its name; after the rename, a unit that only needs to be marked.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from listener.deidentify import holding, output, verifying
from listener.deidentify.faults import NotUnderstood
from listener.deidentify.keys import Keys
from listener.deidentify.marks import Marks, marks_of
from listener.deidentify.profile import Rules
from listener.deidentify.replacing import Replacer, Subject
from listener.deidentify.rewriting import Job, Rewritten, rewrite
from listener.deidentify.scanning import Unreadable, scan
from listener.deidentify.vault import HeldRow, Patient, Unit, UnitKey, Vault
from listener.deidentify.verifying import Originals
from listener.dicom.attributes import Limits
from listener.dicom.file_meta import PREAMBLE, read_file_meta
from listener.dicom.reader import Wanted, read_header
from listener.dicom.source import FileSource
from listener.disk import sync
from listener.disk.files import opened
from listener.errors import FileFault
from listener.ledger.rows import InstanceRow, SeriesRow

#: Files that are open at once until they are synced.
_TOGETHER = 32

_LIMITS = Limits()

#: The group length of file meta information, which begins what the writer made.
_META_LENGTH = PREAMBLE + 8


class Method(NamedTuple):
    """How a collection is cleaned: options and rules, keys, allowed and common words, what suspicion of burned-in text
    suffices, whether incomplete series pass, and the most days that dates go back.
    """

    rules: Rules
    keys: Keys
    words: frozenset[str]
    common: frozenset[str]
    burned_in: str = "suspect"
    passes_incomplete: bool = False
    shift_days: int = 365


class Task(NamedTuple):
    """A unit that is due: its series, the generation, whether it ended incomplete, and its instances."""

    series: SeriesRow
    generation: int
    is_incomplete: bool
    instances: Sequence[InstanceRow]


class Result(NamedTuple):
    """What became of a unit: the folder ("" if nothing passed), how many instances passed, and what is held."""

    name: str
    passed: int
    held: Sequence[HeldRow]


class _Held(Exception):
    """The whole unit is held."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)


class Units:
    """Cleans units of the collection with this data directory, into folders of `into`."""

    def __init__(self, data_dir: str, into: str, method: Method, vault: Vault) -> None:
        self._data_dir, self._into = data_dir, into
        self._method, self._vault = method, vault
        self._wanted = Wanted.of(holding.KEYWORDS)

    def process(self, task: Task, renew: Callable[[], None]) -> Result:
        """Clean a unit and hand it over. Raises OSError, and StageFault of the vault."""
        uid = task.series.SeriesInstanceUID
        key = UnitKey(uid, task.generation, self._vault.release_of(uid))
        state, name = self._vault.state_of(key)
        waiting = [row for row in self._vault.held() if row.SeriesInstanceUID == uid]
        if state:
            self._hand_over(key, name)
            return Result(name, 0, waiting)
        name = self._method.keys.pseudonym("B", "\0".join(map(str, key)))
        part = os.path.join(self._into, f"{name}.part")
        # Of an attempt that was killed: nobody has taken it, for it has no final name.
        shutil.rmtree(part, ignore_errors=True)
        work = _Work(self, task, part, self._vault.released(uid))
        try:
            unit = work.run(renew)
        except _Held as held:
            shutil.rmtree(part, ignore_errors=True)
            work.held.append(HeldRow(uid, "", held.reason, held.detail, time.time_ns()))
            unit = None
        self._vault.hold(uid, work.held)
        if unit is None:
            return Result("", 0, work.held)
        self._vault.make_ready(key, unit._replace(name=name), work.done, time.time_ns())
        self._hand_over(key, name)
        return Result(name, unit.passed, work.held)

    def _hand_over(self, key: UnitKey, name: str) -> None:
        """Give a unit its name, if it has none, and mark it."""
        part = os.path.join(self._into, f"{name}.part")
        if os.path.isdir(part):
            os.rename(part, os.path.join(self._into, name))
            sync.directories([self._into])
        self._vault.mark_handed(key)

    # -- for the work on one unit --------------------------------------------------------------------------------------

    @property
    def method(self) -> Method:
        """How it is cleaned."""
        return self._method

    def header(self, descriptor: int, size: int) -> Mapping[str, str]:
        """Return the attributes that decide whether an instance is held. Raises FileFault."""
        return read_header(descriptor, size, self._wanted, _LIMITS).values

    def path(self, row: InstanceRow) -> str:
        """Return where an instance lies."""
        return os.path.join(self._data_dir, row.path)

    def subject(self, values: Mapping[str, str], *, alone: bool) -> tuple[str, Subject]:
        """Return whose an instance is, and the subject. Raises _Held for a study of two patients, if it must be
        `alone`.
        """
        study = values.get("StudyInstanceUID", "")
        told = values.get("PatientID", "").strip()
        # A study without PatientID is a patient of its own.
        patient_id = told or f"\0{study}"
        if alone and self._vault.owner_of(study, patient_id) != patient_id:
            raise _Held("patient-conflict")
        keys, most = self._method.keys, self._method.shift_days
        patient = self._vault.patient(
            patient_id, Patient(keys.pseudonym("P", patient_id), keys.shift(patient_id, most))
        )
        return patient_id, Subject(*patient, told.encode() if told.isascii() else None)


class _Work:
    """The work on one unit: `held` and `done` gather what became of it."""

    def __init__(self, units: Units, task: Task, part: str, released: set[tuple[str, str]]) -> None:
        self._units, self._task, self._part, self._released = units, task, part, released
        self.held: list[HeldRow] = []
        self.done: Counter[tuple[int, str]] = Counter()
        self._made: dict[str, None] = {}
        self._open: list[int] = []
        self._patient: tuple[str, Subject] | None = None
        self._jobs: dict[str, Job] = {}
        self._study = ""
        self._originals = Originals()

    def run(self, renew: Callable[[], None]) -> Unit | None:
        """Write and verify what passes; return the unit, None if nothing does. Raises _Held and OSError."""
        if (
            self._task.is_incomplete
            and not self._units.method.passes_incomplete
            and not self._is_released("incomplete")
        ):
            raise _Held("incomplete")
        os.mkdir(self._part, 0o755)
        try:
            for number, row in enumerate(self._task.instances):
                self._one(row)
                if number % _TOGETHER == _TOGETHER - 1:
                    self._sync()
                    renew()
        finally:
            self._sync()
        if not self._made:
            os.rmdir(self._part)
            return None
        self._verify(renew)
        sync.directories([self._part])
        keys = self._units.method.keys
        retains = "retain-uids" in self._units.method.rules.options
        study, series = self._study, self._task.series.SeriesInstanceUID
        news = (study, series) if retains else (keys.uid(study), keys.uid(series))
        assert self._patient
        return Unit("", len(self._made), (study, news[0]), news[1], self._patient[0])

    def _is_released(self, reason: str, uid: str = "") -> bool:
        return (uid, reason) in self._released or ("", reason) in self._released

    def _one(self, row: InstanceRow) -> None:
        """Write one instance, or hold it."""
        with opened(self._units.path(row)) as descriptor:
            size = os.fstat(descriptor).st_size
            try:
                values = self._units.header(descriptor, size)
                reason = self._reason(values, row)
                made = None if reason else self._rewritten(descriptor, size, values)
            except (FileFault, NotUnderstood) as fault:
                self._hold(row, "not-understood", str(fault))
                return
            if made and made.draws_in_pixels and self._suspects(values, row):
                reason = "burned-in"
            if reason or made is None:
                self._hold(row, reason)
                return
            self._write(made, descriptor)
            self._gather(descriptor, size, made.syntax)
            self.done.update(made.done)

    def _reason(self, values: Mapping[str, str], row: InstanceRow) -> str:
        method = self._units.method
        reason = holding.reason(values, method.burned_in, method.rules.options)
        return "" if reason and self._is_released(reason, row.SOPInstanceUID) else reason

    def _suspects(self, values: Mapping[str, str], row: InstanceRow) -> bool:
        policy = self._units.method.burned_in
        suspected = policy != "yes" and values.get("BurnedInAnnotation") != "NO"
        return suspected and not self._is_released("burned-in", row.SOPInstanceUID)

    def _hold(self, row: InstanceRow, reason: str, detail: str = "") -> None:
        uid = self._task.series.SeriesInstanceUID
        self.held.append(HeldRow(uid, row.SOPInstanceUID, reason, detail, time.time_ns()))

    def _rewritten(self, descriptor: int, size: int, values: Mapping[str, str]) -> Rewritten:
        alone = not self._is_released("patient-conflict")
        patient_id, subject = found = self._units.subject(values, alone=alone)
        if alone and self._patient and patient_id != self._patient[0]:
            raise _Held("patient-conflict")
        self._patient, self._study = self._patient or found, self._study or values.get("StudyInstanceUID", "")
        if patient_id not in self._jobs:
            method = self._units.method
            self._jobs[patient_id] = Job(method.rules, Replacer(method.keys, subject, method.words), self._marks())
        return rewrite(descriptor, size, self._jobs[patient_id])

    def _marks(self) -> Marks:
        return marks_of(self._units.method.rules.options, is_basic=not self._released)

    def _write(self, made: Rewritten, source: int) -> None:
        path = os.path.join(self._part, f"{made.SOPInstanceUID}.dcm")
        if path in self._made:  # Two data sets of one instance are there (--on-conflict keep-both).
            path = f"{path.removesuffix('.dcm')}-{len(self._made)}.dcm"
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._open.append(target)
        output.write(made, source, target)
        self._made[path] = None

    def _sync(self) -> None:
        descriptors, self._open = self._open, []
        try:
            if descriptors:
                sync.descriptors(descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # -- verify --------------------------------------------------------------------------------------------------------

    def _gather(self, descriptor: int, size: int, syntax: str) -> None:
        """Gather what must not be found in any output of the unit."""
        meta = read_file_meta(FileSource(descriptor, size))
        try:
            found = scan(descriptor, meta.dataset_offset, syntax)
        except Unreadable as fault:
            raise _Held("residual", f"the source cannot be read for verification: {fault}") from None
        method = self._units.method
        self._originals |= verifying.originals(found.leaves, method.rules.options, method.common)

    def _verify(self, renew: Callable[[], None]) -> None:
        """Raise _Held if an original of the unit stands in one of its files."""
        if self._is_released("residual"):
            return
        pseudonyms = {job.replacer.subject.pseudonym.encode().lower() for job in self._jobs.values()}
        originals = self._originals._replace(anywhere=self._originals.anywhere - pseudonyms)
        for number, path in enumerate(self._made):
            with opened(path) as descriptor:
                length = int.from_bytes(os.pread(descriptor, 4, _META_LENGTH), "little")
                begin = _META_LENGTH + 4 + length
                head = os.pread(descriptor, begin, 0)
                try:
                    found = scan(descriptor, begin, _syntax(descriptor))
                except Unreadable as fault:
                    raise _Held("residual", f"an output cannot be verified: {fault}") from None
            where = verifying.find(head + found.data, found.segments, found.leaves, originals)
            if where:
                raise _Held("residual", f"an original stands in {where}")
            if number % _TOGETHER == 0:
                renew()


def _syntax(descriptor: int) -> str:
    source = FileSource(descriptor, os.fstat(descriptor).st_size)
    return read_file_meta(source).TransferSyntaxUID

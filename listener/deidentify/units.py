"""One unit, as the stage's own process sees it: what a worker made of it is recorded and handed over as one folder, or
held. A unit is a batch of the collection with all of its series, else a generation of a series.

What a kill leaves: before the vault has the unit, `NAME.part`, which the next attempt removes and makes anew with the
same bytes; after that, a folder that only needs its name; after the rename, a unit that only needs to be marked.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import NamedTuple

from listener.deidentify.provider import MOST_PATIENTS, Answer, Provider, Request
from listener.deidentify.replacing import Subject
from listener.deidentify.vault import HeldRow, Patient, Unit, UnitKey, Vault
from listener.deidentify.work import Ahead, Cleaned, Identity, Method, Order, Refusal, Share
from listener.disk import sync
from listener.errors import Postponed
from listener.ledger.rows import InstanceRow, SeriesRow
from listener.planning.names import short_hash

#: Does an Order: (order, what answers a worker's questions, what is called while it goes on).
Does = Callable[[Order, Callable[[Identity | Ahead], Subject | Refusal | None], Callable[[], None]], Cleaned]


class Part(NamedTuple):
    """What a unit has of one series: the series, its generation, whether that ended incomplete, and its instances."""

    series: SeriesRow
    generation: int
    is_incomplete: bool
    instances: Sequence[InstanceRow]


class Task(NamedTuple):
    """A unit that is due: what it has of its series; of a batch its number and generation, 0 of a series alone."""

    parts: Sequence[Part]
    batch: int = 0
    generation: int = 0


class Result(NamedTuple):
    """What became of a unit: the folder ("" if nothing passed), how many instances passed, what is held, how many
    a recipe left out, and whether that is news: a batch is one unit, and has a delivery for each of its series.
    """

    name: str
    passed: int
    held: Sequence[HeldRow]
    filtered: int = 0
    is_news: bool = True


class Units:
    """Cleans units of the collection with this data directory, into folders of `into`; used by several threads."""

    def __init__(
        self, data_dir: str, into: str, method: Method, vault: Vault, provider: Provider | None = None
    ) -> None:
        self._data_dir, self._into = data_dir, into
        self._method, self._vault = method, vault
        self._provider = provider
        self._lock = RLock()
        self._under_way: set[UnitKey] = set()
        #: Batches of which nothing passed, and the series whose deliveries were answered so.
        self._held_batches: dict[UnitKey, tuple[Result, set[str]]] = {}

    def process(self, task: Task, series: str, do: Does, go_on: Callable[[], None]) -> Result:
        """Clean a unit, of which a delivery of this series tells, and hand it over. Raises OSError, Postponed,
        StageFault of the vault, and what `do` and `go_on` raise.
        """
        with self._lock:
            key = self._key(task)
            known = self._known(key, task, series)
            if known:
                return known
            if key in self._under_way:
                raise Postponed("the batch is being cleaned", 1.0)
            self._under_way.add(key)
        try:
            result = self._cleaned(key, task, do, go_on)
        finally:
            with self._lock:
                self._under_way.discard(key)
        if task.batch and not result.passed:
            self._held_batches[key] = result, {series}
        return result

    def _known(self, key: UnitKey, task: Task, series: str) -> Result | None:
        """Return what became of a unit already, None if it must be cleaned."""
        state, name = self._vault.state_of(key)
        if state:
            self._hand_over(key, name)
            return Result(name, 0, self._waiting(task), is_news=False)
        result, answered = self._held_batches.get(key, (None, {series}))
        if result is None or series in answered:  # The second time somebody wants it to be tried again.
            return None
        answered.add(series)
        return result._replace(is_news=False)

    def _cleaned(self, key: UnitKey, task: Task, do: Does, go_on: Callable[[], None]) -> Result:
        with self._lock:
            shares = [self._share(part) for part in task.parts]
        name = self._method.keys.pseudonym("B", "\0".join(map(str, key)))
        part = os.path.join(self._into, f"{name}.part")
        # Of an attempt that was killed: nobody has taken it, for it has no final name.
        shutil.rmtree(part, ignore_errors=True)
        passed = 0
        try:
            cleaned = do(Order(shares, self._data_dir, part), self._answer, go_on)
            passed = cleaned.passed
        finally:
            if not passed:
                shutil.rmtree(part, ignore_errors=True)
        with self._lock:
            held = [HeldRow(*one, time.time_ns()) for one in cleaned.held]
            for share in shares:
                uid = share.SeriesInstanceUID
                self._vault.hold(uid, [row for row in held if row.SeriesInstanceUID == uid])
            self._vault.filter(cleaned.filtered, time.time_ns())
            if not cleaned.passed:
                return Result("", 0, held, len(cleaned.filtered))
            self._vault.make_ready(key, self._unit(name, cleaned), time.time_ns())
            self._hand_over(key, name)
        return Result(name, cleaned.passed, held, len(cleaned.filtered))

    def held(self) -> Counter[str]:
        """Return how much waits for a person, by reason."""
        with self._lock:
            return Counter(row.reason for row in self._vault.held())

    def _key(self, task: Task) -> UnitKey:
        release = max(self._vault.release_of(part.series.SeriesInstanceUID) for part in task.parts)
        if task.batch:
            # By what it has, not by its number: a ledger that is made anew counts from 1 again.
            several = " ".join(sorted(f"{part.series.SeriesInstanceUID} {part.generation}" for part in task.parts))
            return UnitKey(f"batch {short_hash(several)}", task.generation, release)
        return UnitKey(task.parts[0].series.SeriesInstanceUID, task.parts[0].generation, release)

    def _share(self, part: Part) -> Share:
        uid = part.series.SeriesInstanceUID
        return Share(uid, part.is_incomplete, part.instances, frozenset(self._vault.released(uid)))

    def _waiting(self, task: Task) -> list[HeldRow]:
        uids = {part.series.SeriesInstanceUID for part in task.parts}
        return [row for row in self._vault.held() if row.SeriesInstanceUID in uids]

    def _unit(self, name: str, cleaned: Cleaned) -> Unit:
        keys = self._method.keys
        retains = "retain-uids" in self._method.rules.options
        new = str if retains else keys.uid
        studies = [(uid, new(uid), _patient_key(uid, patient)) for uid, patient in cleaned.studies.items()]
        series = [(uid, new(uid), study) for uid, study in cleaned.series.items()]
        return Unit(name, cleaned.passed, studies, series, cleaned.done)

    def _hand_over(self, key: UnitKey, name: str) -> None:
        """Give a unit its name, if it has none, and mark it."""
        part, final = (os.path.join(self._into, one) for one in (f"{name}.part", name))
        if os.path.isdir(final):  # The same bytes: a vault that was lost, or is not kept, does not know of it.
            shutil.rmtree(part, ignore_errors=True)
        if os.path.isdir(part):
            os.rename(part, final)
            if self._method.syncs:
                sync.directories([self._into])
        self._vault.mark_handed(key)

    def _answer(self, question: Identity | Ahead) -> Subject | Refusal | None:
        """Answer a worker. Raises ProviderFailed and StageFault."""
        if isinstance(question, Identity):
            return self._subject(question)
        if self._provider:
            self._provide_ahead(self._provider, question.identities)
        return None

    def _subject(self, identity: Identity) -> Subject | Refusal:
        """Return whose an instance is, or why its unit is held. Raises ProviderFailed."""
        patient_key = _patient_key(identity.StudyInstanceUID, identity.PatientID)
        keys, most = self._method.keys, self._method.shift_days
        with self._lock:
            if identity.alone and self._vault.claim_study(identity.StudyInstanceUID, patient_key) != patient_key:
                return Refusal("patient-conflict")
        told = identity.PatientID
        patient_id = told.encode() if told.isascii() else None
        new = Patient(keys.pseudonym("P", patient_key), keys.shift(patient_key, most))
        if self._provider is None:
            with self._lock:
                return Subject(*self._vault.patient(patient_key, new), patient_id)
        answer = self._provided(self._provider, identity, new.days)
        if isinstance(answer, Refusal):
            return answer
        accessions = ((identity.AccessionNumber, answer.accession),) if answer.accession else ()
        return Subject(answer.pseudonym, answer.days, patient_id, accessions, answer.values)

    def _provided(self, provider: Provider, identity: Identity, days: int) -> Answer | Refusal:
        """Return what the provider said of a patient, now or before, with the days that count."""
        if not identity.PatientID:
            return Refusal("no-identifier", "it has no PatientID")
        with self._lock:
            known = self._vault.provided(identity.PatientID, identity.AccessionNumber)
        if known:
            return known
        (answer,) = provider.ask([_request(identity)])
        return self._believed(identity, answer, days)

    def _believed(self, identity: Identity, answer: Answer | None, days: int) -> Answer | Refusal:
        """Return what the provider says now, once the vault has it, or why it cannot be."""
        if answer is None:
            return Refusal("no-identifier", "the provider has none")
        originals = {text.lower() for text in (identity.PatientID, identity.AccessionNumber) if text}
        if originals & {answer.pseudonym.lower(), answer.accession.lower()}:
            return Refusal("no-identifier", "the provider gave an original as a pseudonym")
        answer = answer._replace(days=answer.days or days)
        with self._lock:
            conflict = self._vault.provide(identity.PatientID, identity.AccessionNumber, answer)
        return Refusal("no-identifier", conflict) if conflict else answer

    def _provide_ahead(self, provider: Provider, identities: Sequence[Identity]) -> None:
        """Ask for all patients of a unit that are not known. Who gets no pseudonym is asked for again, alone."""
        with self._lock:
            new = [
                one
                for one in identities
                if one.PatientID and not self._vault.provided(one.PatientID, one.AccessionNumber)
            ]
        for some in by_patients(new, MOST_PATIENTS):
            for identity, answer in zip(some, provider.ask([_request(one) for one in some]), strict=True):
                self._believed(identity, answer, self._method.keys.shift(identity.PatientID, self._method.shift_days))


def _request(identity: Identity) -> Request:
    return Request(identity.PatientID, identity.IssuerOfPatientID, identity.AccessionNumber)


def by_patients(identities: Sequence[Identity], most: int) -> Iterator[list[Identity]]:
    """Yield identities in parts that name at most so many patients each."""
    by_patient: dict[tuple[str, str], list[Identity]] = {}
    for one in identities:
        by_patient.setdefault((one.PatientID, one.IssuerOfPatientID), []).append(one)
    several = list(by_patient.values())
    for start in range(0, len(several), most):
        yield [one for part in several[start : start + most] for one in part]


def _patient_key(study: str, patient_id: str) -> str:
    """Return what identifies a patient: a study without PatientID is a patient of its own."""
    return patient_id or f"\0{study}"
